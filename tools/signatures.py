"""The keywords a script gives to trainers and their configurations, beside what the installed libraries take.

It reads the script, it does not run it; a class that is not installed is passed over, the preflight will meet it. What
the classes take is asked once for each set of versions, in a process of its own, so that nobody waits for torch twice
or carries it for ever after.
"""

import ast
import difflib
import importlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tools.running import record

PLACES = ("trl", "transformers", "peft")
WATCHED = ("Config", "Trainer", "TrainingArguments")
Taken = dict[str, list[str] | None]  # by module:class; None where it cannot be known


def wrong_arguments(text: str, cache: Path) -> list[str]:
    """One line per keyword that a class does not take, with the nearest one that it does. `cache` is a file."""
    calls = list(watched(ast.parse(text)))
    known = taken({name for name, _ in calls}, cache)
    wrong = []
    for name, call in calls:
        if (parameters := known[name]) is None:
            continue
        for keyword in keywords(call):
            if keyword not in parameters:
                near = difflib.get_close_matches(keyword, parameters, 1)
                more = f" Did you mean '{near[0]}'?" if near else ""
                wrong.append(f"{name.partition(':')[2]} takes no '{keyword}'.{more}")
    return wrong


def watched(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """The calls of classes that are checked, by module:class."""
    imported = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PLACES
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in imported:
            name = imported[node.func.id]
            if name.endswith(WATCHED):
                yield name, node


def keywords(call: ast.Call) -> list[str]:
    """Its keywords, those inside `**settings(…)` too."""
    found = [one.arg for one in call.keywords if one.arg]
    for one in call.keywords:
        if one.arg is None and isinstance(one.value, ast.Call):
            found += keywords(one.value)
    return found


def taken(names: set[str], cache: Path) -> Taken:
    installed = versions()
    kept = record.part(cache)
    known: Taken = kept.get("taken", {}) if kept.get("versions") == installed else {}
    if missing := sorted(names - known.keys()):
        known |= asked_apart(missing)
        cache.parent.mkdir(parents=True, exist_ok=True)
        record.write(cache, {"versions": installed, "taken": known})
    return known


def versions() -> dict[str, str]:
    found = {"python": sys.version}
    for name in PLACES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def asked_apart(names: list[str]) -> Taken:
    command = [sys.executable, "-m", "tools.signatures", *names]
    top = Path(__file__).parent.parent
    ended = subprocess.run(command, cwd=top, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode:
        raise RuntimeError(f"what the trainers take could not be read: {ended.stderr[-1000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def parameters(name: str) -> list[str] | None:
    module, _, cls = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), cls)
        given = inspect.signature(found).parameters
    except (ImportError, AttributeError, ValueError):
        return None
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in given.values()):
        return None
    return sorted(given)


if __name__ == "__main__":
    print(json.dumps({name: parameters(name) for name in sys.argv[1:]}))
