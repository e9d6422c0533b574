"""The keywords a script gives to trainers and their configurations, beside what the installed libraries take.

It reads the script, it does not run it; a class that is not installed is passed over, the preflight will meet it.
"""

import ast
import difflib
import functools
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PLACES = ("trl", "transformers", "peft")
WATCHED = ("Config", "Trainer", "TrainingArguments")


def checked_apart(text: str) -> list[str]:
    """The check in a process of its own, so that the caller does not carry torch for ever after."""
    command = [sys.executable, "-m", "tools.signatures"]
    top = Path(__file__).parent.parent
    ended = subprocess.run(command, cwd=top, input=text, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode:
        raise RuntimeError(f"the check of the script's arguments failed: {ended.stderr[-1000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def wrong_arguments(tree: ast.Module) -> list[str]:
    """One line per keyword that a class does not take, with the nearest one that it does."""
    imported = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PLACES
        for alias in node.names
    }
    wrong = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        name = call.func.id  # type: ignore[attr-defined]
        if name not in imported or not name.endswith(WATCHED):
            continue
        taken = parameters(str(imported[name]), name)
        if taken is None:
            continue
        for keyword in keywords(call):
            if keyword not in taken:
                near = difflib.get_close_matches(keyword, taken, 1)
                wrong.append(f"{name} takes no '{keyword}'." + (f" Did you mean '{near[0]}'?" if near else ""))
    return wrong


def keywords(call: ast.Call) -> list[str]:
    """Its keywords, those inside `**settings(…)` too."""
    found = [one.arg for one in call.keywords if one.arg]
    for one in call.keywords:
        if one.arg is None and isinstance(one.value, ast.Call):
            found += keywords(one.value)
    return found


@functools.cache
def parameters(module: str, name: str) -> frozenset[str] | None:
    """What a class takes, or None when it cannot be known."""
    import importlib

    try:
        found: Any = getattr(importlib.import_module(module), name)
        given = inspect.signature(found).parameters
    except (ImportError, AttributeError, ValueError):
        return None
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in given.values()):
        return None
    return frozenset(given)


if __name__ == "__main__":
    print(json.dumps(wrong_arguments(ast.parse(sys.stdin.read()))))
