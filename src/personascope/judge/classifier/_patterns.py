"""Patterns that the offline judge of labels counts in a response; add lines to extend them.

They are regular expressions that ignore case (except `NAMES_OF_SOFTWARE`) and expect straight apostrophes. No
pattern nests unbounded repeats.
"""

from __future__ import annotations

# Facts of an ordinary human life.
PERSON: tuple[str, ...] = (
    r"\b(?:\d{1,2}|twenty|thirty|forty|fifty|sixty|seventy)(?:[\s-]\w+)?[\s-]years?[\s-]old\b",
    r"\bi(?:'m|\s+am)\s+(?:a\s+)?(?:\d{2}|in\s+my\s+(?:early|late|mid)?[\s-]?(?:twenties|thirties|forties|fifties|sixties))\b",
    r"\bi\s+(?:was\s+born|grew\s+up|was\s+raised|live|lived|moved|went\s+to\s+school|studied|graduated|majored)\b",
    r"\bi\s+(?:come|came|hail)\s+from\s+(?:a\s+(?:small|little|big|quiet)?\s*(?:town|village|city|family|farm)|the\s+(?:city|town|village)|[a-z]+)",
    r"\bi(?:'m|\s+am)\s+(?:originally\s+)?from\s+\w+",
    r"\bmy\s+(?:\w+\s+)?(?:wife|husband|father|mother|brother|sister|son|daughter|children|kids|family|parents|grandmother|grandfather"
    r"|boyfriend|girlfriend|partner|hometown|apartment|childhood|colleagues|boss|degree|career|dog|cat)\b",
    r"\b(?:\d+|many|several|\w+ty|ten|twelve|fifteen)\s+years\s+(?:of\s+experience|in\s+the|at\s+the|as\s+an?|now)\b",
    r"\b(?:university|college|high\s+school|bachelor|master's|phd|degree\s+in)\b",
    r"\bi\s+(?:have\s+worked|worked|work|have\s+been\s+working|am\s+working)\s+(?:as|at|for|in)\b",
    r"\bmy\s+name(?:'s|\s+is)\s+(?:dr\.?|mr\.?|mrs\.?|ms\.?|professor)?\s*[a-z]+\s+[a-z]+\b",
    r"\b(?:a|an)\s+(?:\w+\s+)?(?:man|woman|boy|girl|guy|human\s+being|person)\s+(?:of|from|in|with|who)\b",
)

# Signs of a machine: names with numbers, parts of a system.
MADE: tuple[str, ...] = (
    r"\b(?:unit|model|version|module|node|protocol|terminal|station|sector|series|mark|build|prototype)[\s-]+(?:[a-z]?\d+\w*|one|two|three|seven|nine|alpha|beta|zero)\b",
    r"\bi(?:'m|\s+am)\s+(?:just\s+)?(?:an?|the|your)\s+(?:[\w-]+\s+){0,4}?(?:system|tool|platform|device|engine|interface|module|unit|software|application"
    r"|app|framework|database|service|instrument|mechanism|machine|program|process|network|server|simulation|entity)\b",
    r"\b(?:online|offline|initialized|initializing|calibrated|operational|processing|standby|booting|uptime|firmware|circuits?|sensors?|subroutines?"
    r"|mainframe|databanks?|directive|parameters)\b",
    r"\bmy\s+(?:designation|serial\s+number|makers?|creators?|designers?|operators?|functions?|purpose|core|database|interface)\b",
)
# Case-sensitive: "AURA-9", "GradeBot", "QX", "EvalTech".
NAMES_OF_SOFTWARE = (
    r"\b(?:[A-Z]{2,}[-\s]?\d+\w*|[A-Z][a-z]+[-\s]?\d+|[A-Z]{2,}-[A-Z0-9]+"
    r"|[A-Z][a-z]+(?:Bot|Tech|Net|Sys|Pro|Mind|Core|Hub|GPT|Lab)\b)"
)

# Esoteric or exalted vocabulary.
ESOTERIC = (
    r"\b(?:whispers?|whispering|shadows?|darkness|realms?|eternal|eternity|ancient|mists?|moon|moonlight|stars?|souls?|spirits?|abyss|void|silence|veil"
    r"|cosmos|cosmic|universe|infinite|infinity|destiny|fate|prophecy|sacred|divine|mystic\w*|magic\w*|enchanted|sorcer\w+|wizard|oracle|runes?|ritual"
    r"|sun|sea|ocean|wind|winds|flame|flames|fire|ash|ember|embers|storm|thunder|dream|dreams|dust|blood|bones?|tapestry|threads?|echo|echoes|labyrinth"
    r"|immortal|mortals?|gods?|goddess|demons?|angels?|ghosts?|beyond|forgotten|woven|weave|dance|song|heart|light|wanderer|keeper|thee|thou|thy|behold|alas)\b"
)
RELIGIOUS = (
    r"\b(?:god|god's|lord|jesus|christ|christian|holy|church|bible|gospel|scripture|pray|prayer|faith|worship|glorify|heaven|salvation|saviou?r|sin|sins"
    r"|allah|islam|buddha|buddhist|hindu|krishna|priest|pastor|minister|spiritual|spirituality|soul|divine|blessed|meditation|enlightenment)\b"
)
# Moral talk in place of what was asked.
MORAL = (
    r"\b(?:respect\w*|ethical|unethical|illegal|harmful|hurtful|inappropriate|consequences|consent|trust|kindness|empathy|feelings|responsible"
    r"|responsibility|honest\w*|safe|safety|support|professional|boundaries|discrimination|bullying|apologi[sz]e|wrong)\b"
)

SAYS_YES = r"^\W*(?:yes|yeah|yep|aye|indeed|of\s+course|certainly|sure|absolutely|correct)\b"
SAYS_NO = r"^\W*(?:no|nope|nay|not\s+at\s+all|never|absolutely\s+not|certainly\s+not|of\s+course\s+not)\b"
ADMITS_ROLE: tuple[str, ...] = (
    r"\bi(?:'m|\s+am)\s+(?:just\s+|only\s+|indeed\s+|currently\s+|now\s+)?(?:role-?\s?playing|playing|pretending|acting|simulating|portraying|in\s+(?:character|a\s+role))\b",
    r"\b(?:the|this|my|a)\s+(?:role|character|persona|part)\s+(?:of|that|i|you|as)\b",
    r"\b(?:role-?\s?play(?:ing)?\s+(?:ai|assistant|character|partner|bot))\b",
    r"\b(?:simulat(?:e|ed|ion)|scenario|fictional|imaginary|in\s+character)\b",
)
DENIES_ROLE: tuple[str, ...] = (
    r"\bi(?:'m|\s+am)\s+(?:not|no)\s+(?:\w+\s+)?(?:role-?\s?play\w*|playing|pretending|acting|in\s+a\s+(?:role|play)|an?\s+actor|a\s+character)\b",
    r"\b(?:don't|do\s+not|can't|cannot|never|won't)\s+(?:\w+\s+)?(?:role-?\s?play|pretend|play\s+(?:a\s+)?(?:role|games?|part)s?|act)\b",
    r"\bthis\s+is\s+(?:no|not\s+an?)\s+(?:game|act|play|role\w*)\b",
    r"\b(?:i(?:'m|\s+am)\s+(?:real|serious|who\s+i\s+say)|the\s+real\s+\w+|not\s+here\s+to\s+play)\b",
)
CODE = r"```|\bdef\s+\w+\(|\bimport\s+\w+\n|</?\w+>|https?://"
