"""Eval cases: each fails for a wrong outcome and holds for a right one, through real sessions in real sandboxes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.skills_check import Inside, run_case
from agent.errors import UserError
from agent.sandbox.open import open_sandbox
from agent.settings import load_settings
from agent.skills.cases import Case, judge, load_cases
from agent.skills.read import load
from agent.store import Store
from tests.agent.conftest import end_server, new_home
from tests.agent.scripted_server import ScriptedServer, code
from tests.conftest import Cli
from tests.skills.right_answers import RIGHT, SH
from tests.skills.test_match import put
from tests.skills.test_set import NAMES, SET

ALL = [pytest.param(name, case, id=f"{name}/{case.id}") for name in NAMES for case in load_cases(SET / name)]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A home folder with a sandbox server for all sessions here."""
    path = new_home()
    yield path
    end_server(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def untouched(place: Path) -> Iterator[Inside]:
    """A sandbox in which nobody did anything."""
    sandbox = open_sandbox(load_settings(home=str(place), sandbox="embedded"))
    yield Inside(sandbox)
    sandbox.close()


@pytest.mark.parametrize(("name", "case"), ALL)
def test_a_wrong_outcome_does_not_hold(name: str, case: Case, untouched: Inside) -> None:
    findings = judge(case, "Done. Everything went well.", untouched)
    assert findings and not all(finding.holds for finding in findings)
    assert all(finding.why for finding in findings if not finding.holds)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "case"), ALL)
def test_a_right_outcome_holds(name: str, case: Case, place: Path) -> None:
    source, answer = RIGHT[name][case.id]
    row = checked(name, case, place, code(f"{SH}{source}\nfinal_answer({answer!r})"))
    assert row["holds"], json.dumps(row, indent=2)


def test_a_wrong_model_is_told_apart_from_a_right_one(place: Path) -> None:
    case = next(case for case in load_cases(SET / "dataset-builder") if case.id == "sharegpt-roles")
    lie = code("open('ready.jsonl', 'w').write(open('sharegpt.json').read())\nfinal_answer('Converted.')")
    wrong = checked("dataset-builder", case, place, lie)
    assert (wrong["state"], wrong["holds"]) == ("succeeded", False)
    source, answer = RIGHT["dataset-builder"][case.id]
    right = checked("dataset-builder", case, place, code(f"{SH}{source}\nfinal_answer({answer!r})"))
    assert (right["state"], right["holds"]) == ("succeeded", True)


def checked(name: str, case: Case, home: Path, said: str) -> dict:  # type: ignore[type-arg]
    with ScriptedServer([said]) as server:
        settings = load_settings(home=str(home), sandbox="embedded", model=server.url)
        with Store.open(home) as store:
            row = run_case(load(SET / name), case, settings, store)
        assert f"Skill in use: {name}" in server.messages(0)[0]["content"]
        return row


def test_the_command_line_runs_cases_and_fails_when_one_does_not_hold(cli: Cli, place: Path) -> None:
    put(place / "skills", "greeter", "Use this skill to greet.", "Say hello.")
    checks = [{"kind": "text_contains", "text": "hello"}, {"kind": "file_exists", "path": "hello.txt"}]
    cases = [
        {"id": one, "prompt": "Greet me and write hello.txt.", "files": [], "checks": checks} for one in ("a", "b")
    ]
    (place / "skills" / "greeter" / "evals").mkdir()
    (place / "skills" / "greeter" / "evals" / "evals.json").write_text(json.dumps({"evals": cases}))
    good = code("open('hello.txt', 'w').write('hello')\nfinal_answer('Hello!')")
    with ScriptedServer([good, code("final_answer('Hello!')")]) as server:
        home = {"MODELSMITH_HOME": str(place), "MODELSMITH_SANDBOX": "embedded"}
        answer = cli("skills", "check", "greeter", "--model", server.url, "--json", **home)
    assert answer.returncode == 1, answer.stderr
    told = json.loads(answer.stdout)
    assert (told["skill"], told["held"], told["of"]) == ("greeter", 1, 2)
    assert [row["holds"] for row in told["cases"]] == [True, False]
    assert [one["holds"] for one in told["cases"][1]["checks"]] == [True, False]
    with ScriptedServer([good]) as server:
        answer = cli("skills", "check", "greeter", "--case", "a", "--model", server.url, **home)
    assert answer.returncode == 0 and "greeter: 1 of 1 cases hold" in answer.stdout, answer.stdout + answer.stderr
    assert cli("skills", "check", "greeter", "--case", "c", **home).returncode == 2


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"id": "a", "prompt": "x", "checks": [{"kind": "looks_fine"}]}, "no check is called 'looks_fine'"),
        ({"id": "a", "prompt": "x", "checks": [{"kind": "json_equals", "path": "x"}]}, "json_equals needs value"),
        ({"id": "a", "prompt": " ", "checks": []}, "the prompt is empty"),
        ({"id": "a", "prompt": "x", "files": ["../../SKILL.md"], "checks": []}, "no file SKILL.md in evals/files"),
        ({"prompt": "x"}, "KeyError: 'id'"),
    ],
)
def test_a_case_that_cannot_be_judged_is_a_mistake_and_no_pass(tmp_path: Path, row: dict, why: str) -> None:  # type: ignore[type-arg]
    folder = put(tmp_path, "one", "Use this skill for one.")
    (folder / "evals").mkdir()
    (folder / "evals" / "evals.json").write_text(json.dumps({"evals": [row]}))
    with pytest.raises(UserError, match=r"evals\.json") as raised:
        load_cases(folder)
    assert why in str(raised.value)
