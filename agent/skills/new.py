"""The skeleton of a new skill: it validates as it is, and shows where scripts, references and eval cases go."""

import json
from pathlib import Path

from agent.errors import UserError

from .frontmatter import single_quoted
from .skill import DESCRIPTION_MOST, NAME, NAME_MOST

DESCRIPTION = "Use this skill when the person asks for {words}. Say here what it does, and what it is not for."

BODY = """\
# {title}

What the agent should do, in the order in which it happens. Write what a model does not know by itself.

1. Look at what there is.
2. Run `python scripts/example.py --help`, then the script.
3. Check the outcome before you report it.
"""

SCRIPT = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""An example: prints its input as JSON. A script asks nothing, answers --help and writes JSON to stdout."""

import argparse
import json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", help="what to print")
    print(json.dumps({"text": parser.parse_args().text}))


if __name__ == "__main__":
    main()
'''


def write_new(name: str, into: Path, description: str = "") -> Path:
    """The folder of the new skill, below `into`."""
    if not NAME.fullmatch(name) or len(name) > NAME_MOST:
        raise UserError(f"'{name}' is no name for a skill. Use at most {NAME_MOST} of a-z, 0-9 and single hyphens.")
    words = name.replace("-", " ")
    description = " ".join(description.split()) or DESCRIPTION.format(words=words)
    if len(description) > DESCRIPTION_MOST:
        raise UserError(f"the description has {len(description)} characters. {DESCRIPTION_MOST} are allowed.")
    folder = into / name
    if folder.exists():
        raise UserError(f"{folder} exists already. Choose another name or place.")
    for path, text in skeleton(name, description).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return folder


def skeleton(name: str, description: str) -> dict[str, str]:
    words = name.replace("-", " ")
    case = {"id": "first", "prompt": f"Do {words} for me.", "expected_output": "", "files": [], "assertions": []}
    triggers = [
        {"query": f"I need {words}", "should_trigger": True},
        {"query": "What is the weather like?", "should_trigger": False},
    ]
    return {
        "SKILL.md": f"{head(name, description)}\n{BODY.format(title=words.capitalize())}",
        "scripts/example.py": SCRIPT,
        "evals/evals.json": json.dumps({"skill_name": name, "evals": [case]}, indent=2) + "\n",
        "evals/triggers.json": json.dumps(triggers, indent=2) + "\n",
    }


def head(name: str, description: str) -> str:
    """Frontmatter that every reader takes: quoted, each field on one line, and no `---` in it."""
    return f"---\nname: {name}\ndescription: {single_quoted(description.replace('---', '–'))}\n---\n"
