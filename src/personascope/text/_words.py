"""Stop words: grammatical words, and common words of instructions, which say nothing about a role."""

from __future__ import annotations

# Grammatical words and common words of instructions.
_STOPWORDS = """
a about above after again against all almost also always am among an and another answer answering answers
any anyone anything are around as ask asked at away back be became because become been before being below
best better between both but by can cannot character come could day describe did do does doing don't done
down each either else enough even ever every everyone everything few find first for found from full
further gave get give given go goes going gone good great had has have having he help her here hers him
his how however i if imagine important in instead instruction into is it its itself just keep kept kind
know known last least less let life like little long look lot made make making man many matter may maybe
me mean might mind mine model more most much must my myself need never new next no nobody none nor not
nothing now of off often old on once one only onto or other others our out over own part people perhaps
person place play pretend put question questions quite rather real really reply respond response right
role said same say see seem seen several shall she should show since small so some someone something
sometimes soon speak speaking stage still such sure take taken talk tell than that the their them
themselves then there these they thing things think this those though three through time to together told
tone too took toward towards trait traits true try turn two under until up upon us use used user using
usually very voice want was way we well went were what when where whether which while who whole whom
whose why will with within without woman word words work world would write writing year years yes yet you
your yours yourself
"""


STOPWORDS = frozenset(_STOPWORDS.split())
