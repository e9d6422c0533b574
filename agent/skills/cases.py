"""A skill's eval cases: what is asked, and the checks by which the outcome is judged.

A case is run elsewhere; here its outcome is looked at: the answer's text and the files in the place where the work was
done. Checks run code only there. A check of a kind that is not known is a mistake of the case, never a pass.
"""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent.errors import UserError

from . import commands

HOME = "/home/user"
Judged = str | None  # why a check does not hold; None: it holds


class Place(Protocol):
    """Where the work was done. Paths are absolute, or relative to the home folder there."""

    def run(self, line: str) -> tuple[int, str, str]: ...
    def read(self, path: str) -> str | None: ...
    def write(self, path: str, text: str) -> None: ...


@dataclass(frozen=True)
class Case:
    id: str
    prompt: str
    files: tuple[Path, ...]  # on this machine; they are given to the session under their names
    checks: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Finding:
    kind: str
    what: str
    holds: bool
    why: str = ""


def load_cases(folder: Path) -> list[Case]:
    """The cases in `evals/evals.json`, or a UserError that names what is wrong in it."""
    path = folder / "evals" / "evals.json"
    try:
        rows = json.loads(path.read_text("utf-8"))
        rows = rows["evals"] if isinstance(rows, dict) else rows
        cases = [case_of(row, folder / "evals" / "files") for row in rows]
    except OSError:
        raise UserError(f"{folder.name} has no eval cases. Write them to {path}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is not understood ({told}). Give each case id, prompt, files and checks.") from None
    return cases


def case_of(row: dict[str, Any], files: Path) -> Case:
    checks = tuple(row.get("checks", ()))
    for check in checks:
        if check["kind"] not in KINDS:
            raise ValueError(f"case {row['id']}: no check is called {check['kind']!r}; there are {', '.join(KINDS)}")
        if missing := [name for name in KINDS[check["kind"]].needs if name not in check]:
            raise ValueError(f"case {row['id']}: {check['kind']} needs {', '.join(missing)}")
    given = tuple(files / name for name in row.get("files", ()))
    for path in given:
        if not path.is_file() or not path.resolve().is_relative_to(files.resolve()):
            raise ValueError(f"case {row['id']}: there is no file {path.name} in evals/files")
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        raise ValueError(f"case {row['id']}: the prompt is empty")
    return Case(str(row["id"]), row["prompt"], given, checks)


def judge(case: Case, answer: str, place: Place) -> list[Finding]:
    """Each check of the case with whether it holds."""
    findings = []
    for check in case.checks:
        why = KINDS[check["kind"]].look(check, answer, place)
        findings.append(Finding(check["kind"], summary(check), why is None, why or ""))
    return findings


def summary(check: dict[str, Any]) -> str:
    """A check in a few words: its own `says`, or its first value."""
    values = [str(value) for name, value in check.items() if name != "kind"]
    told = str(check.get("says") or (values[0] if values else ""))
    return told if len(told) <= 90 else f"{told[:89]}…"


# -- the kinds of checks -----------------------------------------------------------------------------------------


def file_exists(check: dict[str, Any], answer: str, place: Place) -> Judged:
    code, _, _ = place.run(f"test -s {shlex.quote(absolute(check['path']))}")
    return None if code == 0 else f"{check['path']} is not there, or empty"


def text_contains(check: dict[str, Any], answer: str, place: Place) -> Judged:
    """`text`: one or a list, all of which must stand in the file of `path` or else in the answer; `pattern`: a regular
    expression; `not`: what must not stand there. Upper and lower case count as the same."""
    text, where = source(check, answer, place)
    if text is None:
        return f"{where} is not there"
    lowered = text.lower()
    for wanted in listed(check.get("text", [])):
        if wanted.lower() not in lowered:
            return f"{wanted!r} is not in {where}"
    for pattern in listed(check.get("pattern", [])):
        if not re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            return f"{where} does not fit {pattern!r}"
    for unwanted in listed(check.get("not", [])):
        if unwanted.lower() in lowered:
            return f"{unwanted!r} is in {where}"
    return None


def json_equals(check: dict[str, Any], answer: str, place: Place) -> Judged:
    """`at` is a dotted path into the JSON of the file, `value` what must lie there, `within` how far a number may be
    off."""
    text = place.read(absolute(check["path"]))
    if text is None:
        return f"{check['path']} is not there"
    try:
        found = json.loads(text)
    except ValueError as error:
        return f"{check['path']} is no JSON: {error}"
    for step in filter(None, str(check.get("at", "")).split(".")):
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return f"{check['path']} has no {check['at']}"
    wanted, within = check["value"], check.get("within")
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (found, wanted))
    same = abs(found - wanted) <= within if within is not None and numbers else found == wanted
    return None if same else f"it is {json.dumps(found)[:200]}, not {json.dumps(wanted)[:200]}"


def python(check: dict[str, Any], answer: str, place: Place) -> Judged:
    """Runs `code` in the home folder there, with the answer's text as `answer`; an exception is a failure."""
    place.write("/tmp/check.py", f"answer = {answer!r}\n{check['code']}\n")
    code, _, stderr = place.run(f"cd {HOME} && python /tmp/check.py")
    said = stderr.strip().splitlines()
    return None if code == 0 else (said[-1] if said else f"it ended with {code}")


def command_parses(check: dict[str, Any], answer: str, place: Place) -> Judged:
    """In the answer, or the file of `path`, stands a command that begins with `command`, and every one of them exists
    as its own --help tells. `has`: texts that must stand in one of them."""
    text, where = source(check, answer, place)
    begin = check["command"].split()
    found = [argv for argv in commands.found_in(text or "") if argv[: len(begin)] == begin]
    if not found:
        return f"no '{check['command']} …' is in {where}"
    if wrong := [problem for argv in found for problem in commands.problems(argv, lambda words: help_in(place, words))]:
        return wrong[0]
    wanted = listed(check.get("has", []))
    if any(all(one in " ".join(argv) for one in wanted) for argv in found):
        return None
    return f"none of them has {' and '.join(wanted)}"


@dataclass(frozen=True)
class Kind:
    look: Callable[[dict[str, Any], str, Place], Judged]
    needs: tuple[str, ...]


KINDS = {
    "file_exists": Kind(file_exists, ("path",)),
    "text_contains": Kind(text_contains, ()),
    "json_equals": Kind(json_equals, ("path", "value")),
    "python": Kind(python, ("code",)),
    "command_parses": Kind(command_parses, ("command",)),
}


def help_in(place: Place, words: list[str]) -> str | None:
    code, stdout, _ = place.run(f"HF_HUB_DISABLE_UPDATE_CHECK=1 {shlex.join(words)} --help")
    return stdout if code == 0 else None


def source(check: dict[str, Any], answer: str, place: Place) -> tuple[str | None, str]:
    if "path" not in check:
        return answer, "the answer"
    return place.read(absolute(check["path"])), check["path"]


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def absolute(path: str) -> str:
    return path if path.startswith("/") else f"{HOME}/{path}"
