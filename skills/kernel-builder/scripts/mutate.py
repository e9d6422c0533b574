"""Breaks a kernel on purpose, one small change a mutant: a check that lets a mutant pass has not checked that line.

Mutants come from the text of the CUDA source and of what it calls in device.cuh: a barrier, a shuffle step, the weight,
the mean, eps, a bound, a row, an operation; and from the pattern's own mutants.json. Some may happen to mean the same
as the original, so that survivors are shown and not all need to die.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emulate import without_comments

MOST = 12


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    text: str
    all_types: bool = False  # shows itself in half precision only, or may


RULES: list[tuple[str, str, str]] = [
    ("a barrier dropped", r"__syncthreads\(\);", ";"),
    ("a shuffle step missing", r"(\w+) > 0; (\1 (?:/=|>>=) )", r"\1 > 1; \2"),
    ("the row wrong", r"\bblockIdx\.x\b", "(blockIdx.x / 2)"),
    ("eps dropped", r"\+ eps\b", "+ 0.0f * eps"),
    ("the mean wrong", r" / (width|n|size|count|D|d|columns|hidden)\b", r" / (\1 + 1)"),
    ("a factor dropped", r" \* to_float\([^()]*\)", ""),
    ("a bound too far", r"\b([a-z]\w*) < ([a-z]\w*)\b(?=[;)])", r"\1 <= \2"),
    ("one too many", r"\b([a-z]\w*) >= ([a-z]\w*)(?=\) return)", r"\1 > \2"),
    ("the other half elsewhere", r" \+ half\b", " + half / 2"),
    ("a minus dropped", r"\(-([a-z])\b", r"(\1"),
    ("the stride too short", r"\b(row\w*) \* (\w*stride\w*)", r"\1 * (\2 - 1)"),
    ("max for min", r"\bfmaxf\(", "fminf("),
    ("another exponent", r"\b(?:__)?expf\(", "exp2f("),
    ("a sign turned", r"(?<=[\w)\]] )- (?=[\w(])", "+ "),
    ("not added up", r"(?<=[\w\])] )\+= (?=\w)", "= "),
    ("a product for a sum", r"(?<=[\w)\]] )\* (?=to_float)", "+ "),
]


def mutants(source: Path, own: Path | None, seed: int, most: int = MOST) -> list[Mutant]:
    """A mix over all kinds of mutation, at most `most`; those of mutants.json always."""
    found = written(source.parent, own) if own and own.exists() else []
    by_rule: dict[str, list[Mutant]] = {}
    for mutant in automatic(source):
        by_rule.setdefault(mutant.name.partition(" (")[0], []).append(mutant)
    draw = random.Random(seed)
    for one in by_rule.values():
        draw.shuffle(one)
    while len(found) < most and any(by_rule.values()):
        found += [one.pop() for one in by_rule.values() if one]
    return found[:most]


def automatic(source: Path) -> Iterator[Mutant]:
    main = without_comments(source.read_text(encoding="utf-8"))
    device = source.parent / "device.cuh"
    texts = [(source.name, main, [(0, len(main))])]
    if device.exists():
        common = without_comments(device.read_text(encoding="utf-8"))
        texts.append((device.name, common, used(common, main)))
    for file, text, spans in texts:
        for name, pattern, instead in RULES:
            for match in re.finditer(pattern, text):
                inside = next((span for span in spans if span[0] <= match.start() < span[1]), None)
                if (
                    inside is None
                    or host(text, match.start())
                    or (file != source.name and idle(text, inside, match, main))
                ):
                    continue
                line = text.count("\n", 0, match.start()) + 1
                changed = text[: match.start()] + match.expand(instead) + text[match.end() :]
                yield Mutant(f"{name} ({file}:{line})", file, changed)


def used(common: str, main: str) -> list[tuple[int, int]]:
    """The functions of device.cuh that the kernel calls, and those that they call."""
    spans = {}
    for match in re.finditer(r"^__device__ inline [^;{]*?\b(\w+)\([^;{]*\{.*?^\}", common, re.M | re.S):
        spans[match[1]] = match.span()
    wanted = {name for name in spans if re.search(rf"\b{name}\b", main)}
    while True:
        more = {n for n in spans for w in wanted if re.search(rf"\b{n}\(", common[slice(*spans[w])])} - wanted
        if not more:
            return [spans[name] for name in wanted - {"to_float", "from_float", "load", "store"}]
        wanted |= more


def idle(common: str, span: tuple[int, int], match: re.Match[str], main: str) -> bool:
    """A barrier before its function has touched shared memory orders it after its own last call only. Where the kernel
    calls the function once, and not in a loop, nothing changes without it."""
    before = re.sub(r"__shared__[^;]*;", "", common[span[0] : match.start()])
    if "__syncthreads" not in match[0] or "shared" in before:
        return False
    name = re.search(r"(\w+)\([^;{]*\{", common[span[0] : span[1]])
    calls = list(re.finditer(rf"\b{name[1]}\s*[<(]", main)) if name else []
    if len(calls) != 1:
        return False
    head = main[: calls[0].start()]
    statement = re.split(r"[{}]|;\n", head)[-1]
    return head.count("{") - head.count("}") == 1 and not re.search(r"\b(for|while)\b", statement)


def host(text: str, at: int) -> bool:
    """Whether this stands in a function that runs on the host: the last signature before it is no kernel's."""
    heads = list(
        re.finditer(
            r"^(?:template[^\n]*\n)?[\w:<>,* ]*\b(?:__global__|__device__|inline|static|void)\b[^;{]*\{",
            text[:at],
            re.M,
        )
    )
    return bool(heads) and not re.search(r"__global__|__device__", heads[-1][0])


def written(folder: Path, own: Path) -> list[Mutant]:
    """[{name, file, find, replace}]: each must be found once, so that a changed source does not lose its mutants."""
    found = []
    for one in json.loads(own.read_text(encoding="utf-8")):
        target = next(path for path in folder.iterdir() if path.name.endswith(one["file"]))
        text = target.read_text(encoding="utf-8")
        if text.count(one["find"]) != 1:
            raise ValueError(
                f"mutants.json: '{one['name']}' wants to change what is there {text.count(one['find'])} times"
            )
        found.append(Mutant(one["name"], target.name, text.replace(one["find"], one["replace"]), True))
    return found
