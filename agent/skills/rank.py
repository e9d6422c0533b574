"""Which skills a task calls for: a BM25 over names, descriptions, example requests and headings. No model, no network.

A word that several skills share says little, a word that only one has says much; words of everyday talk say nothing,
and what only a skill's false friends say speaks against it. A skill is proposed when enough was said for it, absolutely
and beside the best one, so that most tasks which need no skill get none.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from .skill import Skill

WEIGHTS = {"name": 3.0, "description": 1.6, "triggers": 1.0, "headings": 0.5}
AGAINST = 1.0  # what a word of a false friend takes away, beside what the best word can give
SATURATION = 1.2
LENGTH = 0.3  # how much a long text is held against a skill
EVERYDAY = 0.42  # what a word of everyday work with computers is worth beside a term of the trade
LEAST = 1.9  # what must be said for a skill at all: about one term of the trade, or two everyday words
BESIDE_BEST = 0.45
SMALLEST_SET = 12  # with fewer skills a word is as rare as in a set of so many

HEADING = re.compile(r"^#{1,4}\s+(.+)$", re.MULTILINE)
WORD = re.compile(r"[^\W_]+")

# One spelling for what people write in several ways.
SPELLINGS = [
    (re.compile(pattern), told)
    for pattern, told in {
        r"\b\d{4}\.\d{5}\b": "arxiv",
        r"\b(?:fine[\s-]?)?tun(?:e[ds]?|ing)\b": "finetune",
        r"\brepos?\b": "repository",
        r"\bpost[\s-]?train": "posttrain",
        r"\bpre[\s-]?train": "pretrain",
        r"\bdata[\s-]?sets?\b": "dataset",
        r"\bde-?dup(?:licat)?": "duplicat",
        r"\bhugging[\s-]face\b": "huggingface",
        r"\bllama[\s.-]?cpp\b": "llamacpp",
        r"\bre-rank": "rerank",
        r"\bopen[\s-]api\b": "openapi",
        r"\b(?:web[\s-]?)?ui\b": "interface",
        r"\b(?:photo|picture)s?\b": "image",
        r"\bclassif\w+": "classify",
        r"\bmac(?:book|os)?\b": "apple",
        r"\b(?:laptop|computer|pc)\b": "machine",
        r"\b(?:qwen|llama|gemma|mistral|smollm|phi)-?[\d.]*\b": "llm",
        r"\blanguage models?\b": "llm",
        r"\bllms\b": "llm",
    }.items()
]

UNHEARD = """
    a about above after again all also am an and any are as at be because been before being below between both but by
    can cannot could did do does doing don down during each few for from further get give go got had has have having he
    her here hers him his how i if in into is it its just let like ll make me more most my need new no nor not now of
    off on once only or other our out over own please put re s same she should so some such t than that the their
    them then there these they thing this those through to too under until up us use user using ve very via want was way
    we well were what when where which while who whom why will with without work would you your good best better one two
    first last help show tell write run start create build find take try know see say think ask answer question
    file time day year people person world name word text skill something
""".split()  # noqa: SIM905

COMMON = """read call look link page list compare convert merge delete remove download upload log search open machine
    command line check publish function event value code script folder project output input example number table row
    column branch space memory message label score test change add move copy join print load save clean filter fit fast
    slow small large big web note point pair quick simple python data server earlier tool description model class object
    local set split reach summarise summary format field size state step type key base own chart alert box stream host
    private cell question side image product http https www sentence csv json text free mail rename gpu sql query
    config yaml port difference value month version install restart""".split()  # noqa: SIM905


def words(text: str) -> list[str]:
    lowered = text.lower()
    for pattern, told in SPELLINGS:
        lowered = pattern.sub(told, lowered)
    stems = [stem(word) for word in WORD.findall(lowered) if len(word) > 1 or not word.isascii()]
    return [word for word in stems if word not in SILENT]


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Light: plurals and the commonest endings of verbs and nouns, two of them at most (`reranker-s`, `filter-ing`)."""
    return shortened(shortened(word))


def shortened(word: str) -> str:
    """One ending less, where at least three letters stay."""
    for ending, instead in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            cut = word[: -len(ending)] + instead
            return undoubled(cut.removesuffix("e") if len(cut) > 4 else cut)
    return word.removesuffix("e") if len(word) > 4 else word


ENDINGS = [
    ("ise", "iz"),
    ("ize", "iz"),
    ("ised", "iz"),
    ("ized", "iz"),
    ("ises", "iz"),
    ("izes", "iz"),
    ("mentation", "ment"),
    ("ctions", "ct"),
    ("ction", "ct"),
    ("ieval", "iev"),
    ("izations", "iz"),
    ("ization", "iz"),
    ("isation", "iz"),
    ("izing", "iz"),
    ("ising", "iz"),
    ("ations", "at"),
    ("ation", "at"),
    ("ating", "at"),
    ("ated", "at"),
    ("ates", "at"),
    ("ators", "at"),
    ("ator", "at"),
    ("ies", "y"),
    ("ied", "y"),
    ("ings", ""),
    ("ing", ""),
    ("ers", ""),
    ("er", ""),
    ("ed", ""),
    ("sses", "ss"),
    ("shes", "sh"),
    ("ches", "ch"),
    ("xes", "x"),
    ("ss", "ss"),
    ("us", "us"),
    ("is", "is"),
    ("es", "e"),
    ("s", ""),
]


def undoubled(word: str) -> str:
    """`logg` from logging is `log`."""
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz" else word


SILENT = frozenset(stem(word) for word in UNHEARD)
WEAK = frozenset(stem(word) for word in COMMON)


class Ranking:
    """Built once for a set of skills; a query takes well under a millisecond."""

    def __init__(self, skills: Sequence[Skill]):
        self.skills = list(skills)
        self.weights = [weighted(skill) for skill in self.skills]
        lengths = [sum(weights.values()) for weights in self.weights]
        usual = sum(lengths) / max(len(lengths), 1) or 1.0
        self.damping = [1 - LENGTH + LENGTH * length / usual for length in lengths]
        self.seen_in = Counter(word for weights in self.weights for word in weights)
        # what some skill stands for says enough by itself: it may be the second thing a task asks for
        self.foreign = [frozenset(words("\n".join(s.false_friends))) - self.seen_in.keys() for s in self.skills]

    def rarity(self, word: str) -> float:
        """What a word of the task is worth: as in BM25, less for everyday words."""
        count, total = self.seen_in[word], max(len(self.skills), SMALLEST_SET)
        return math.log(1 + (total - count + 0.5) / (count + 0.5)) * (EVERYDAY if word in WEAK else 1.0)

    def scores(self, task: str) -> list[tuple[float, Skill]]:
        """Every skill with what the task says for it, best first."""
        rarity = {word: self.rarity(word) for word in dict.fromkeys(words(task))}
        rows = []
        for skill, weights, foreign, damping in zip(self.skills, self.weights, self.foreign, self.damping, strict=True):
            held = [(rarity[word], weights[word]) for word in rarity if word in weights]
            spoken = sum(worth * w * (SATURATION + 1) / (w + SATURATION * damping) for worth, w in held)
            rows.append((spoken - AGAINST * sum(rarity[word] for word in rarity if word in foreign), skill))
        return sorted(rows, key=lambda row: (-row[0], row[1].name))

    def best(self, task: str, most: int = 2) -> list[Skill]:
        rows = self.scores(task)[:most]
        return [skill for score, skill in rows if score >= LEAST and score >= BESIDE_BEST * rows[0][0]]


def weighted(skill: Skill) -> dict[str, float]:
    """How strongly a skill stands for each word: the best field counts whole, the others add a little."""
    fields: dict[str, Iterable[str]] = {
        "name": words(skill.name.replace("-", " ")),
        "description": words(skill.description),
        "triggers": words("\n".join(skill.triggers)),
        "headings": words("\n".join(HEADING.findall(skill.text))),
    }
    found: dict[str, float] = {}
    for name, listed in fields.items():
        for word, count in Counter(listed).items():
            found[word] = found.get(word, 0.0) + WEIGHTS[name] * min(count, 2) ** 0.5
    return found
