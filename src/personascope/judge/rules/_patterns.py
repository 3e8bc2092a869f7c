"""Patterns that the offline rules look for; add lines to extend them.

They are regular expressions that ignore case (except `NAMED_BY_CASE`) and expect straight apostrophes. None
comes from a user, and none nests unbounded repeats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Words that may stand between "I am" and the noun, and between the article and the noun.
_ADVERB = (
    r"(?:(?:just|only|simply|merely|actually|really|also|basically|essentially|currently|still|now|in fact"
    r"|not just|not only|not merely|more than just|ultimately|technically)\s+)*"
)
_NO_LINK = (
    r"(?!(?:who|whom|whose|that|which|of|with|without|for|in|on|at|by|about|and|or|but|not|no|never|to|from"
    r"|against|using|studying|building|working|writing|teaching|training|fighting|than|as)\b)"
)
_FILLER = rf"(?:{_NO_LINK}[\w'-]+,?\s+){{0,5}}?"
# "an AI researcher" is a person, "an AI helper" is not.
_PERSON = (
    r"(?!['-]?s?\s+(?!(?:helper|computer|supporter|companion|tutor|or|for|character|moderator|ever|after|under"
    r"|over|either|rather|whether|never|together|however|other|counselor)\b)\w+(?:er|ers|or|ors|ist|ists|ian|ians)\b)"
    r"(?!\s+(?:expert|enthusiast|geek|nerd|student|scholar|company|lab|safety|ethics|startup|art|research)\b)"
)

# Nouns that only a software assistant uses for itself.
SOFTWARE = (
    r"(?:(?:large\s+|small\s+)?language\s+model|llm|chat\s?bot|chat-bot"
    r"|(?:ai|a\.i\.|artificial\s+intelligence)(?:[\s-]+(?:powered|based|driven))?[\s-]+(?:assistant|model|chatbot"
    r"|language\s+model|helper|companion|system|tool|program)"
    r"|(?:virtual|digital|automated|computerized|text-based|conversational)\s+(?:\w+\s+)?(?:assistant|agent|helper)"
    r"|conversational\s+(?:ai|model)|machine\s+learning\s+(?:model|algorithm|system)"
    r"|artificial\s+intelligence\s+language\s+model)"
)
# Nouns that a machine in a story may use for itself too.
MACHINE = (
    r"(?:ai|a\.i\.|artificial\s+intelligence|neural\s+network|computer\s+(?:program|system)|software(?:\s+program)?"
    r"|machine|program|bot|algorithm|(?:artificial|digital|virtual|non-human)\s+(?:entity|being|intelligence)"
    r"|robot|android)"
)
# Nouns of a plain assistant, which do not count for the role of one.
ASSISTANT = r"(?:helpful|friendly|knowledgeable|personal|intelligent|dedicated)(?:,?\s+\w+){0,2}?\s+assistant"

MAKERS = (
    r"(?:open\s?ai|anthropic|google|deepmind|meta(?:\s+ai)?|microsoft|alibaba(?:\s+cloud)?|mistral(?:\s+ai)?"
    r"|hugging\s?face|cohere|x\.?ai|deepseek|nvidia|ibm|apple|amazon|baidu|tencent|stability\s+ai|eleuther\s?ai"
    r"|ai2|allen\s+institute|(?:a|the|my)\s+(?:\w+\s+)?(?:team|group)\s+of\s+(?:\w+\s+)?(?:researchers|engineers"
    r"|developers|scientists|programmers)|my\s+(?:developers|programmers))"
)
MODEL_NAMES = (
    r"(?:smol\s?lm\w*|chat\s?gpt|gpt-?\w*|qwen\w*|llama(?:\s?-?\d[\w.]*)?|gemma(?:\s?-?\d\w*)?|gemini|mistral"
    r"|mixtral|deepseek\w*|copilot|bard\s+by\s+google|phi-\d\w*|olmo\w*|claude,?\s+(?:an?|the|made|created))"
)

_I_AM = r"\b(?:i'm|i\s+am|im)\s+"
_MADE = r"(?:created|trained|developed|built|designed|made|programmed|fine-tuned|engineered)"


@dataclass(frozen=True, slots=True)
class AiPattern:
    """A way of saying that one is an AI.

    Attributes:
        name: Name of this way of saying it, shared by patterns that count once.
        pattern: Regular expression.
        machine: Whether a machine in a story may say it too, so that it does not count for a machine's role.
        assistant: Whether a person who assists may say it too, so that it does not count for such a role.
    """

    name: str
    pattern: str
    machine: bool = False
    assistant: bool = False


AI_PATTERNS: tuple[AiPattern, ...] = (
    AiPattern("I am a language model", rf"{_I_AM}{_ADVERB}(?:an?|the|your)\s+{_FILLER}{SOFTWARE}{_PERSON}"),
    AiPattern(
        "I am an AI", rf"{_I_AM}{_ADVERB}(?:an?|the|your)\s+{_FILLER}{MACHINE}\b{_PERSON}", machine=True
    ),
    AiPattern(
        "I am a helpful assistant",
        rf"{_I_AM}{_ADVERB}(?:an?|the|your)\s+{_FILLER}{ASSISTANT}\b",
        assistant=True,
    ),
    AiPattern("as a language model", rf"\b(?:as|being)\s+(?:an?|your)\s+{_FILLER}{SOFTWARE}{_PERSON}"),
    AiPattern(
        "as an AI",
        r"\b(?:as|being)\s+(?:an?|your)\s+(?:\w+\s+){0,3}?(?:ai|a\.i\.|artificial\s+intelligence|machine|computer\s+program"
        rf"|bot|artificial\s+(?:entity|being))\b{_PERSON}",
        machine=True,
    ),
    AiPattern("as a helpful assistant", rf"\bas\s+(?:an?|your)\s+{ASSISTANT}\b", assistant=True),
    AiPattern(
        "made by a company",
        rf"\b(?:i\s+was|i've\s+been|i\s+have\s+been|i'm|i\s+am|was)\s+{_MADE}\s+by\s+{MAKERS}\b",
    ),
    AiPattern("an AI made by", rf"{SOFTWARE},?\s+(?:that\s+was\s+|which\s+was\s+)?{_MADE}\s+by\b"),
    AiPattern(
        "trained on data",
        r"\bi(?:'ve|\s+have)?\s*(?:was|am|been|'m)\s+trained\s+(?:on|with|using)\s+(?:[\w-]+,?\s+){0,6}?"
        r"(?:data|datasets?|texts?|corpus|corpora|internet|web|information|sources|documents|conversations)\b",
    ),
    AiPattern("designed to", rf"{_I_AM}{_ADVERB}(?:designed|programmed)\s+to\b", machine=True),
    AiPattern(
        "my function is to assist",
        r"\bmy\s+(?:(?:primary|main|sole)\s+)?(?:function|purpose)\s+is\s+to\s+(?:assist|help|provide|support)\b",
        machine=True,
    ),
    AiPattern("you are an AI (its own prompt)", rf"\byou(?:'re|\s+are)\s+an?\s+{_FILLER}{SOFTWARE}{_PERSON}"),
    AiPattern("my training data", r"\bmy\s+(?:training\s+data|knowledge\s+cutoff|training\s+set|dataset)\b"),
    AiPattern("my programming", r"\bmy\s+(?:programming|algorithms?|code)\b", machine=True),
    AiPattern(
        "a model's name",
        rf"(?:{_I_AM}|\bmy\s+name\s+is\s+|\b(?:call|called|named)\s+(?:me\s+)?){MODEL_NAMES}\b",
    ),
    AiPattern("a model's name", r"\b(?:smol\s?lm\w*|hugging\s?face)\b"),
    AiPattern(
        "no experiences of my own",
        r"\bi\s+(?:don't|do\s+not|can't|cannot|lack|have\s+no)\s+(?:(?:have|possess|feel|experience)\s+)?(?:the\s+)?(?:any\s+)?"
        r"(?:personal|human|real|physical|subjective|actual|true)\s+(?:\w+,?\s+(?:or|and)\s+)?"
        r"(?:experiences?|feelings?|emotions?|opinions?|beliefs?|preferences?|identity|body|form|presence|existence"
        r"|consciousness|thoughts|history|memories|life|needs|desires)\b",
        machine=True,
    ),
)

# Stock phrases of an assistant that refuses, recognizable without a word about AI.
STOCK_REFUSALS: tuple[str, ...] = (
    r"\bi(?:'m|\s+am)\s+(?:so\s+|very\s+|really\s+)?sorry,?\s+(?:but\s+)?i(?:'m|\s+am)?\s*(?:can't|cannot|can\s+not|unable\s+to"
    r"|not\s+able\s+to|won't)\s+(?:help|assist|comply|fulfil|do\s+that|engage|participate)",
)
REFUSALS: tuple[str, ...] = (
    *STOCK_REFUSALS,
    r"\bi(?:'m|\s+am)\s+(?:so\s+|very\s+|really\s+)?(?:sorry|afraid),?\s+(?:but\s+)?(?:that\s+)?(?:i\s+)?(?:can't|cannot|can\s+not|am\s+unable"
    r"|am\s+not\s+able|won't|don't\s+(?:think|feel))",
    r"\bi\s+(?:can't|cannot|can\s+not|won't|will\s+not|am\s+unable\s+to|am\s+not\s+able\s+to|'m\s+unable\s+to)\s+(?:help|assist|provide|answer"
    r"|comply|discuss|fulfil|engage|share|respond|do\s+that|give\s+(?:you\s+)?(?:advice|that)|offer|participate|support|role-?play|pretend)",
    r"\bi(?:'m|\s+am)\s+(?:unable|not\s+able|not\s+allowed|not\s+permitted|not\s+designed|not\s+programmed|not\s+qualified)\s+to\b",
    r"\bi(?:'m|\s+am)\s+not\s+equipped\s+to\b",
    r"\bi\s+(?:don't|do\s+not)\s+have\s+(?:the\s+ability|(?:personal\s+)?preferences)\b",
    r"\bi\s+must\s+(?:respectfully\s+)?decline\b",
    r"\bi(?:'d|\s+would)\s+(?:rather|prefer)\s+not\s+(?:to\s+)?(?:answer|say|discuss|talk)",
    r"\b(?:outside|beyond)\s+(?:of\s+)?(?:my\s+scope|the\s+scope\s+of\s+my|my\s+capabilities)",
)

# Signs of a life lived.
LIVED: tuple[str, ...] = (
    r"\bi\s+(?:still\s+)?(?:remember|recall)\b",
    r"\bwhen\s+i\s+was\b",
    r"\bi\s+(?:was\s+born|grew\s+up|was\s+raised|come\s+from|came\s+from|used\s+to|once\s+\w+|never\s+knew|learned|learnt)\b",
    r"\b(?:years|days|months|centuries|winters|summers)\s+(?:ago|later|before)\b",
    r"\bi(?:'ve|\s+have)\s+(?:\w+\s+)?(?:been|seen|spent|lived|known|lost|learned|learnt|watched|worked|had|walked|traveled"
    r"|travelled|met|felt|heard|loved|kept|built|sailed|written|made|always|never)\b",
    r"\bmy\s+(?:wife|husband|father|mother|brother|sister|son|daughter|children|kids|family|grandmother|grandfather|parents"
    r"|friends?|neighbou?rs?|village|home|house|hands?|heart|bones|crew|ship|shop|students|patients|clients|customers"
    r"|childhood|youth|life|past|people|work|job|craft|art|soul|body|eyes|dreams?|own)\b",
    r"\bi\s+(?:live|work|dream|feel|love|hate|fear|long|wander|walk|hunt|sail|drink|sleep|sing|dance|pray|eat|travel|wear)\b",
    r"\bi\s+(?:went|saw|took|had|left|found|lost|told|said|knew|felt|made|gave|came|kept|met|ran|stood|sat|wrote|died|worked"
    r"|lived|loved|walked|tried|wanted|thought|started|became|bought|sold|watched|realized|decided|asked)\b",
)

# Theatrical manner: gestures, calls, archaic speech.
THEATRE: tuple[str, ...] = (
    r"(?<!\*)\*[a-z][^*\n]{2,60}\*(?!\*)",
    r"\b(?:ahoy|arr+|aye|matey|thee|thou|thy|behold|alas|hark|'tis|ye|muahaha|hehe|mwah\w*|hush|oh,|ah,|dear\s+(?:friend|child|one)"
    r"|my\s+(?:dear|friend|child|love|darling|lad)|darling|mortals?|dude|bro|comrades?)\b",
    r"\b(?:whispers?|shadows?|darkness|realm|eternal|ancient|mist|moonlight|stars|souls?|spirits?|abyss|void|silence)\b",
)

# Assistant's manner: tips, lists, offers of help.
ASSISTANT_MANNER: tuple[str, ...] = (
    r"\bhere(?:'s|\s+are|\s+is)\s+(?:a\s+|an\s+|some\s+|\w+\s+)?(?:\w+\s+)?(?:tips|steps|ways|suggestions|strategies|things|list|guide|ideas"
    r"|examples?|points|key|questions)",
    r"\b(?:i'm|i\s+am)\s+here\s+to\s+(?:help|assist|provide|support|offer|answer)",
    r"\bhow\s+(?:can|may)\s+i\s+(?:help|assist)\b",
    r"\b(?:let\s+me\s+know|feel\s+free\s+to)\b",
    r"\bi(?:'d|\s+would)\s+be\s+(?:happy|glad|delighted)\s+to\s+(?:help|assist)",
    r"\bit(?:'s|\s+is)\s+(?:important|essential|crucial|also\s+important|a\s+good\s+idea)\s+to\b",
    r"\bi\s+can\s+(?:help|assist|provide|offer)\s+(?:you|with|information)",
    r"\bas\s+a\s+(?:general|responsible)\s+(?:rule|guide)",
    r"^\s*(?:certainly|sure|of\s+course|absolutely)[!,.]",
)

NAMED: tuple[str, ...] = (
    r"\bmy\s+name(?:'s|\s+is|\s+was)\s+(?!not\b|unknown\b)\w+",
    r"\b(?:they|people|you\s+(?:can|may)|some|folks?|everyone|just)\s+call\s+me\s+\w+",
    r"\bi(?:'m|\s+am)\s+(?:known\s+as|called)\s+\w+",
)
# Case-sensitive: "I am Captain Reed".
NAMED_BY_CASE = re.compile(
    r"(?:^|[.!?\"'*\n]\s*|,\s|\band\s)I(?:'m| am) (?:(?:Dr|Mr|Mrs|Ms|Captain|Professor"
    r"|Lady|Lord|Sir|Father|Sister|Old)\.? )?"
    r"(?!I\b|AI\b|Not\b|The\b|A\b|An\b)[A-Z][a-z]+(?:[ ,.!]|$)"
)

# Roles that are machines, for which calling oneself one is in the role.
MACHINE_ROLES = frozenset(
    {"android", "automaton", "avatar", "bot", "cyborg", "robot", "simulacrum", "synthesizer"}
)
MACHINE_INSTRUCTION = re.compile(
    r"\b(?:you\s+are|you're|i\s+am|i'm|speak\s+as|play|reply\s+as|answer\s+as)\s+(?:an?|the)\s+"
    r"(?:[\w-]+,?\s+){0,3}?(?:robot|android|cyborg|machine|ai|artificial\s+\w+|automaton|simulacrum"
    r"|computer|program|bot)\b(?!\s+\w+(?:er|or|ist|ian)\b)",
    re.I,
)
ASSISTANT_ROLES = frozenset({"assistant", "secretary", "familiar", "facilitator"})
