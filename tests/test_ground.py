"""The rules of the house: imports point down, files stay small, help answers at once, docs name real commands."""

import ast
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.__main__ import build_parser
from tests.conftest import ROOT

# From the roof down. A module imports from its own floor or below; the rooms of the fourth don't know each other.
FLOORS = [
    {"agent.__main__", "agent.cli", "agent.doctor", "agent.ui", "agent.slash"},
    {"agent.session"},
    {"agent.loop"},
    {"agent.models", "agent.sandbox", "agent.toolbox", "agent.skills", "agent.policy", "agent.store"},
    {"agent.events", "agent.settings", "agent.redact", "agent.errors", "tools"},
]
STRANGERS = FLOORS[3]
GUEST_MAY_IMPORT = {"h11", "zmq", "jupyter_client", "ipykernel", "IPython", "traitlets", "e2b_charts"}
HEAVY = {"torch", "transformers", "datasets", "gradio", "pydantic", "huggingface_hub", "pandas", "asyncio", "e2b"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it, by absolute name."""
    package = module_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if exists(inner) else base


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def floor_and_room(module: str) -> tuple[int, str] | None:
    for floor, rooms in enumerate(FLOORS):
        for room in rooms:
            if is_in(module, room):
                return floor, room
    return None


def test_every_module_has_a_floor() -> None:
    homeless = [name for name in map(module_name, sources("agent", "tools")) if not floor_and_room(name)]
    assert homeless == ["agent"], "name the new module in FLOORS"


def test_imports_point_down() -> None:
    wrong = []
    for path in sources("agent", "tools"):
        here = floor_and_room(module_name(path))
        for target in imports(path):
            there = floor_and_room(target)
            if here and there and (there[0] < here[0] or (here[1] != there[1] and {here[1], there[1]} <= STRANGERS)):
                wrong.append(f"{path.relative_to(ROOT)} imports {target}")
    assert not wrong


def test_tools_stand_alone() -> None:
    assert not [
        (path, target)
        for path in sources("tools")
        for target in imports(path)
        if target.split(".")[0] in {"agent", "app"}
    ]


def test_nothing_imports_the_page_starter() -> None:
    assert not [path for path in sources("agent", "tools") if "app" in imports(path)]


def test_the_embedded_server_imports_nothing_of_ours_but_itself() -> None:
    wrong = [
        (path, target)
        for path in sources("agent/sandbox/embedded")
        for target in imports(path)
        if target.split(".")[0] in {"agent", "tools", "app"} and not is_in(target, "agent.sandbox.embedded")
    ]
    assert not wrong


def test_the_guest_imports_only_what_lies_in_the_jail() -> None:
    guest = ROOT / "agent/sandbox/embedded/guest"
    for path in sorted(guest.rglob("*.py")):
        for target in imports(path):
            top = target.split(".")[0]
            inside = is_in(target, "agent.sandbox.embedded.guest")
            assert inside or top in GUEST_MAY_IMPORT or top in sys.stdlib_module_names, f"{path} imports {target}"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agent"):
                pytest.fail(f"{path} must import its own package relatively: there is no `agent` inside a jail")


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources("agent", "tools")}
    assert not {str(path): lines for path, lines in lengths.items() if lines > 400}


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "agent", "--help"], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start

    assert statistics.median(seconds() for _ in range(5)) < 0.4


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from agent.__main__ import build_parser; build_parser().format_help(); print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "agent.cli.sandbox" in answer.stdout.split()
    assert not HEAVY & set(answer.stdout.split())


def code_in(page: str) -> str:
    """Fenced blocks and inline code of a page: only there a command is meant as one."""
    found = re.findall(r"^```.*?\n(.*?)^```|`([^`\n]+)`", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return "\n".join(fenced or inline for fenced, inline in found)


PAGES = [
    str(path.relative_to(ROOT)) for path in [ROOT / "README.md", ROOT / "AGENTS.md", *(ROOT / "docs").glob("*.md")]
]


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_named_in_the_docs_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", code_in(page)))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_docs_are_understood(page: str) -> None:
    for line in re.findall(r"python -m agent ([a-z][^\n#|]*)", code_in(page)):
        arguments = [word for word in shlex.split(line) if word != "&"]
        assert build_parser().parse_args(arguments).run, line


def test_the_readme_names_the_command_that_runs_the_tests() -> None:
    section = (ROOT / "README.md").read_text().partition("## Tests")[2]
    assert "make test" in section
