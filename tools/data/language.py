"""A cheap guess at the language of a text: its script, and for Latin letters the commonest small words.

Good enough to see that a tenth of the rows is German; not for short texts, dialects or rarer languages ("other").
"""

import re
from collections import Counter

SCRIPTS = [
    ("Japanese", re.compile(r"[\u3040-\u30ff]")),
    ("Korean", re.compile(r"[\uac00-\ud7af]")),
    ("Chinese", re.compile(r"[\u4e00-\u9fff]")),
    ("Cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("Arabic", re.compile(r"[\u0600-\u06ff]")),
    ("Hebrew", re.compile(r"[\u0590-\u05ff]")),
    ("Hindi", re.compile(r"[\u0900-\u097f]")),
    ("Thai", re.compile(r"[\u0e00-\u0e7f]")),
    ("Greek", re.compile(r"[\u0370-\u03ff]")),
]
COMMON = {
    "English": "the of and to in is that it for you was with on are this what how be have not",
    "German": "der die das und ist nicht ich ein eine zu den mit auf für sich von dem wie im auch",
    "French": "le la les et est des une que pour dans qui pas sur avec ce plus vous je il au",
    "Spanish": "el los las y es una que por con para del se no como más pero su lo está qué",
    "Italian": "il di che è una per non sono con del della si gli anche come più nel ma questo",
    "Portuguese": "o os e que não uma para com do da em por mais como mas dos foi ao seu é",
    "Dutch": "de het een van en is dat niet op te zijn voor met die aan ik er maar om ook",
    "Polish": "i w nie się na jest to że do z jak ale co o po dla tak czy za być",
    "Turkish": "ve bir bu için ile de da ne çok daha gibi olarak var ben mi ama en o olan kadar",
    "Vietnamese": "và là của có không một cho được trong các người với này đã khi những để từ đến bạn",
    "Indonesian": "yang dan di ini itu dengan untuk tidak dari dalam adalah akan pada juga ke saya bisa ada atau anda",
}
LANGUAGES = {name: set(words.split()) for name, words in COMMON.items()}
WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str | None:
    """None when there is too little text to tell."""
    text = text[:1500]
    letters = sum(map(str.isalpha, text))
    if letters < 12:
        return None
    for name, signs in SCRIPTS:
        if len(signs.findall(text)) * (10 if name == "Japanese" else 3) > letters:
            return name
    words = WORD.findall(text.lower())
    hits = {name: sum(word in common for word in words) for name, common in LANGUAGES.items()}
    name, best = max(hits.items(), key=lambda one: one[1])
    return name if best >= 2 and best * 12 >= len(words) else "other"


def balance(texts: list[str]) -> dict[str, float]:
    """Share of each language, the commonest first, of the texts that tell."""
    found = Counter(language for text in texts if (language := language_of(text)))
    total = sum(found.values())
    return {name: round(count / total, 4) for name, count in found.most_common(8)} if total else {}
