"""The skills that come with the program: valid by every reader, small, true today, and found by what people ask.

Network commands are not run; that they exist is asked of the tools' own --help. Python blocks run against a Hub on
loopback where they are marked `hub`.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from skills_ref import validate

from agent import toolbox
from agent.loop import carry, know_how, outline, prompt
from agent.loop.given import Given
from agent.skills import Skills, commands
from agent.skills.cases import load_cases
from agent.skills.read import check, load
from agent.skills.skill import tokens as skill_tokens
from tests.conftest import ROOT
from tests.skills.hub import Hub

SET = ROOT / "skills"
NAMES = sorted(path.parent.name for path in SET.glob("*/SKILL.md"))
DOCUMENTS = sorted(path for name in NAMES for path in [SET / name / "SKILL.md", *(SET / name).glob("references/*.md")])
SCRIPTS = sorted(path for name in NAMES for kind in ("scripts", "assets") for path in (SET / name / kind).glob("*.py"))
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
REQUESTS = json.loads((Path(__file__).parent / "requests.json").read_text())
WANTED = {"llm-trainer", "vision-trainer", "embedding-trainer", "dataset-builder", "trackio", "hub", "papers",
          "gradio-apps", "tool-builder", "kernel-builder", "local-models", "evaluation", "gguf-export"}  # fmt: skip
SKILL_TOKENS, PROMPT_TOKENS = 2500, 4000


def told(path: Path) -> str:
    return str(path.relative_to(SET))


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Skills:
    """Only the set itself, as a person without skills of their own has it."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    return Skills.discover(tmp_path, tmp_path / "home")


# -- the format ------------------------------------------------------------------------------------------------------


def test_the_set_is_there() -> None:
    assert set(NAMES) >= WANTED


@pytest.mark.parametrize("name", NAMES)
def test_a_skill_is_valid_by_our_check_and_by_the_reference(name: str) -> None:
    verdict = check(SET / name)
    assert (verdict.errors, verdict.warnings) == ([], [])
    assert validate(SET / name) == []
    skill = load(SET / name)
    assert skill.license == "Apache-2.0" and skill.description.startswith("Use this skill when")


@pytest.mark.parametrize("name", NAMES)
def test_a_skill_is_small(name: str) -> None:
    assert (SET / name / "SKILL.md").stat().st_size / 4 <= SKILL_TOKENS
    assert all(path.stat().st_size < 200_000 for path in (SET / name).rglob("*") if path.is_file())


@pytest.mark.parametrize("path", DOCUMENTS, ids=told)
def test_what_a_document_points_to_is_there(path: Path) -> None:
    text = path.read_text()
    linked = re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", text)
    named = re.findall(r"(?<![\w/])((?:scripts|assets|references)/[\w.-]+\.\w+)", text)
    top = SET / path.relative_to(SET).parts[0]
    if top.name == "embedding-trainer":  # its program lies in another skill
        assert (SET / "llm-trainer" / "scripts" / "embeddings.py").is_file()
        named = [one for one in named if one != "scripts/embeddings.py"]
    assert [one for one in [*linked, *named] if not (top / one).exists() and not (path.parent / one).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_numbers_have_a_source_and_a_date(name: str) -> None:
    written = "".join(path.read_text() for path in (SET / name / "references").glob("*.md"))
    assert re.search(r"20\d\d-\d\d", written), f"{name}/references tells no date"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_whole_prompt_stays_small_with_every_tool_and_skill_and_any_one_of_them_in_use(
    built_in: Skills, name: str
) -> None:
    carrying = carry.carrying_tools(Given(ROOT), None, ROOT, None) | outline.plan_tool(print)
    tools = {**toolbox.load(), **carrying, **know_how.skill_tools(built_in, lambda skill: None)}
    catalog, place = built_in.catalog(prompt.room_for_catalog(tools.values())), "x" * 4 * prompt.FOR_PLACE
    skill = built_in.get(name)
    body = {"name": name, "folder": skill.inside, "body": built_in.body(skill)}
    text = prompt.system(tools.values(), place, catalog, [body])
    assert len(text.encode()) / 4 <= PROMPT_TOKENS
    assert skill_tokens(skill.text) <= prompt.room_for_bodies(prompt.system(tools.values(), place, catalog))
    lines = [line.partition(": ")[2] for line in catalog.splitlines()[1:]]
    assert len(lines) == len(built_in.trusted) and min(map(len, lines)) > 40, "what each is for can still be read"


def test_the_table_of_models_is_the_one_the_agent_uses() -> None:
    ours = (SET / "local-models" / "assets" / "models.toml").read_text()
    assert ours == (ROOT / "agent" / "models" / "recommend.toml").read_text()
    assert tomllib.loads(ours)["row"]


# -- blocks of code --------------------------------------------------------------------------------------------------


def blocks(*languages: str) -> list:  # type: ignore[type-arg]
    found = []
    for path in DOCUMENTS:
        for number, (language, info, code) in enumerate(BLOCK.findall(path.read_text()), 1):
            if language in languages:
                found.append(pytest.param(info.strip(), code, id=f"{told(path)}-{number}"))
    return found


@pytest.mark.parametrize(("info", "code"), blocks("python"))
def test_a_python_block_compiles(info: str, code: str) -> None:
    assert info in ("", "hub", "no-run")
    ast.parse(code)


@pytest.mark.slow
@pytest.mark.parametrize(("info", "code"), [one for one in blocks("python") if one.values[0] != "no-run"])
def test_a_python_block_runs(info: str, code: str, tmp_path: Path, hub: Hub) -> None:
    own = {"HOME": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HOME": str(tmp_path / "hf")}
    if info == "hub":
        own |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    source = code.replace("demo.launch(share=False)", "print(demo)")  # it would serve for ever
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, env={**os.environ, **own}, input="one two\n",
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("info", "code"), blocks("bash", "sh"))
def test_a_bash_block_parses(info: str, code: str) -> None:
    done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("info", "code"), blocks("bash", "sh"))
def test_scripts_that_a_bash_block_runs_know_its_options(info: str, code: str, request: pytest.FixtureRequest) -> None:
    top = SET / request.node.callspec.id.split("/")[0]
    for line in code.replace("\\\n", " ").splitlines():
        argv = shlex.split(line.partition("|")[0], comments=True)
        if len(argv) > 1 and argv[0] == "python" and argv[1].startswith("scripts/"):
            text = helped(str(top / argv[1]))
            options = [word.partition("=")[0] for word in argv[2:] if re.match(r"--?[a-z]", word)]
            assert [one for one in options if not re.search(rf"(?<![\w-]){one}(?![\w-])", text)] == [], line


@cache
def helped(script: str) -> str:
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def help_of(words: tuple[str, ...]) -> str | None:
    argv = (
        [sys.executable, *words[1:]]
        if words[0] == "python"
        else [str(Path(sys.executable).parent / words[0]), *words[1:]]
    )
    env = {**os.environ, "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([*argv, "--help"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("path", DOCUMENTS, ids=told)
def test_every_command_exists_today(path: Path) -> None:
    found = commands.found_in(path.read_text())
    wrong = {" ".join(argv): commands.problems(argv, lambda words: help_of(tuple(words))) for argv in found}
    assert {line: problem for line, problem in wrong.items() if problem} == {}


@pytest.mark.parametrize(
    "line",
    [
        "hf upload a/b . --repo-kind model",
        "hf repo create a/b",
        "hf download a/b --type weights",
        "trackio list runs --proj demo",
        "python -m agent skills frobnicate",
        "hf jobs uv run --flavour l4x1 train.py",
    ],
)
def test_a_command_that_does_not_exist_is_found_out(line: str) -> None:
    argv = commands.commands_of(line)[0]
    assert commands.problems(argv, lambda words: help_of(tuple(words)))


def test_commands_are_found_in_blocks_in_lines_and_in_inline_code() -> None:
    text = "Run `hf cache ls`, then\n```bash\nA=1 trackio list runs --project x --json | head  # look\n```\nhf env\n"
    assert commands.found_in(text) == [
        ["trackio", "list", "runs", "--project", "x", "--json"],
        ["hf", "cache", "ls"],
        ["hf", "env"],
    ]


# -- scripts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [one for one in SCRIPTS], ids=told)
def test_a_script_says_what_it_does_and_what_it_needs(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    if path.parent.name == "scripts" and "__main__" in path.read_text():
        assert path.read_text().startswith("# /// script\n"), "a PEP 723 header tells its dependencies"
        if "import argparse" in path.read_text():  # a training script has constants instead, and takes no options
            assert "usage:" in helped(str(path))
        else:
            assert "from kit_run import" in path.read_text()


def test_dependencies_of_scripts_are_the_pinned_ones() -> None:
    pinned = set((ROOT / "requirements.txt").read_text().split())
    named = {one for path in SCRIPTS for one in re.findall(r'"([\w-]+==[\w.]+)"', head_of(path))}
    assert named and named <= pinned


def head_of(path: Path) -> str:
    text = path.read_text()
    return text[: text.find("\n# ///\n")] if text.startswith("# /// script") else ""


# -- matching --------------------------------------------------------------------------------------------------------


def test_there_are_enough_requests_and_none_of_them_is_known_to_the_ranking() -> None:
    known = {row["query"].lower() for name in NAMES for row in triggers(name)}
    assert len(REQUESTS) >= 120 and sum(row["skill"] is None for row in REQUESTS) >= 35
    assert not known & {row["query"].lower() for row in REQUESTS}
    assert {row["skill"] for row in REQUESTS} - {None} == set(NAMES)


def triggers(name: str) -> list[dict]:  # type: ignore[type-arg]
    path = SET / name / "evals" / "triggers.json"
    return json.loads(path.read_text()) if path.exists() else []


@pytest.mark.parametrize("name", NAMES)
def test_a_trigger_set_has_both_kinds(name: str) -> None:
    rows = triggers(name)
    assert len(rows) >= 8 and {row["should_trigger"] for row in rows} == {True, False}


def test_the_right_skill_is_among_the_two_that_are_proposed(built_in: Skills) -> None:
    wanted = [(row["query"], row["skill"]) for row in REQUESTS if row["skill"]]
    missed = [(task, name, proposed(built_in, task)) for task, name in wanted if name not in proposed(built_in, task)]
    assert len(missed) <= 0.05 * len(wanted), missed


def test_a_task_that_needs_no_skill_gets_none(built_in: Skills) -> None:
    unrelated = [row["query"] for row in REQUESTS if row["skill"] is None]
    given = [(task, proposed(built_in, task)) for task in unrelated if proposed(built_in, task)]
    assert len(given) <= 0.1 * len(unrelated), given


def test_false_friends_rarely_call_a_skill(built_in: Skills) -> None:
    friends = [(name, row["query"]) for name in NAMES for row in triggers(name) if not row["should_trigger"]]
    called = [(name, query) for name, query in friends if name in proposed(built_in, query)]
    assert len(called) <= 0.15 * len(friends), called


def proposed(skills: Skills, task: str) -> list[str]:
    return [skill.name for skill in skills.match(task)]


def test_two_bodies_fit_into_the_prompt_at_once(built_in: Skills) -> None:
    task = "convert my fine-tuned model to GGUF and serve it with llama.cpp on my machine"
    assert set(proposed(built_in, task)) == {"gguf-export", "local-models"}


# -- eval cases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_skill_has_five_cases_with_checks(name: str) -> None:
    cases = load_cases(SET / name)
    assert len(cases) >= 5 and all(case.checks for case in cases)
    assert len({case.id for case in cases}) == len(cases)
