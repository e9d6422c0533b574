"""Search the Hub, look at one of its repositories, read a paper: one tool call whose result is the answer."""

import re

from agent.models.recipes.transcript import Recipe, Turn, one_call

SEARCH = re.compile(
    r"\b(?:search|find|look)(?: the hub)?(?: for)? (?P<kind>models?|datasets?|spaces?|collections?|papers?)"
    r"(?: (?:for|about|on|called|named))? (?P<query>.+?)[.?!]?$",
    re.I,
)
DETAILS = re.compile(r"\b(?:details of|tell me about|what is|show) (?P<repo>[\w.-]+/[\w.-]+[\w-])", re.I)
PAPER = re.compile(r"\bread (?:the )?paper (?P<paper>\S+)", re.I)


def search(found: re.Match[str], turn: Turn) -> str:
    kind, query = found["kind"].lower().rstrip("s"), found["query"].strip("\"' ")
    call = f"search_papers({query!r})" if kind == "paper" else f"search_hub({query!r}, kind={kind!r})"
    return one_call(turn, f"I search the Hub for {kind}s.", call)


def details(found: re.Match[str], turn: Turn) -> str:
    return one_call(turn, f"I look at {found['repo']}.", f"repo_details({found['repo']!r})")


def paper(found: re.Match[str], turn: Turn) -> str:
    return one_call(turn, "I open the paper.", f"read_paper({found['paper']!r})")


RECIPES = [
    Recipe("search", "search models for code", SEARCH, (search,)),
    Recipe("details", "tell me about Qwen/Qwen3-0.6B", DETAILS, (details,)),
    Recipe("paper", "read paper 2501.12948", PAPER, (paper,)),
]
