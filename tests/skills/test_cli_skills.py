"""`python -m agent skills …` as a person and a script use it, each command a process of its own."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.skills.files import PROVENANCE
from tests.conftest import ROOT, Cli
from tests.skills.test_match import put
from tests.tools.fake_hub import FakeHub
from tests.tools.hub_samples import Repo


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


@pytest.fixture
def gizmo(tmp_path: Path) -> Path:
    folder = put(tmp_path, "gizmo", "Use this skill to repair a gizmo.", "# Gizmo\n\nTurn it off and on.")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "fix.py").write_text("print('fixed')\n")
    return folder


def listed(cli: Cli) -> dict[str, dict[str, object]]:
    answer = cli("skills", "list", "--json")
    assert answer.returncode == 0, answer.stderr
    return {skill["name"]: skill for skill in json.loads(answer.stdout)["skills"]}


def test_the_life_of_an_added_skill(cli: Cli, home: Path, gizmo: Path) -> None:
    answer = cli("skills", "add", str(gizmo), "--yes")
    assert answer.returncode == 0, answer.stderr
    assert "scripts/fix.py  (script)" in answer.stdout and "  | print('fixed')" in answer.stdout
    assert "untrusted" in answer.stdout and "skills trust gizmo" in answer.stdout
    assert listed(cli)["gizmo"]["trusted"] is False
    assert json.loads((home / "skills" / "gizmo" / PROVENANCE).read_text())["source"] == str(gizmo)

    assert cli("skills", "trust", "gizmo").returncode == 0
    assert listed(cli)["gizmo"]["trusted"] is True
    assert "trusted already" in cli("skills", "trust", "gizmo").stdout

    shown = cli("skills", "show", "gizmo")
    assert "Turn it off and on." in shown.stdout and "scripts/fix.py" in shown.stdout
    assert cli("skills", "show", "gizmo", "scripts/fix.py").stdout == "print('fixed')\n\n"

    assert cli("skills", "remove", "gizmo", "--yes").returncode == 0
    assert "gizmo" not in listed(cli) and not (home / "skills" / "gizmo").exists()


def test_json_of_adding_tells_what_came(cli: Cli, gizmo: Path) -> None:
    told = json.loads(cli("skills", "add", str(gizmo), "--yes", "--trust", "--json").stdout)
    assert (told["name"], told["trusted"], told["origin"]["kind"]) == ("gizmo", True, "folder")
    assert list(told["look"]["scripts"]) == ["scripts/fix.py"]


def test_where_nobody_can_be_asked_nothing_is_added_or_removed(cli: Cli, home: Path, gizmo: Path) -> None:
    answer = cli("skills", "add", str(gizmo))
    assert answer.returncode == 2 and "--yes" in answer.stderr and not (home / "skills" / "gizmo").exists()
    assert cli("skills", "add", str(gizmo), "--yes").returncode == 0
    answer = cli("skills", "remove", "gizmo")
    assert answer.returncode == 2 and "--yes" in answer.stderr and (home / "skills" / "gizmo").exists()


@pytest.mark.parametrize(("said", "installed"), [("y", True), ("n", False), ("", False)])
def test_a_person_is_asked_after_seeing_what_it_brings(home: Path, gizmo: Path, said: str, installed: bool) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agent", "skills", "add", str(gizmo)]
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
        os.write(ours, f"{said}\n".encode())
        out, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert out.index("print('fixed')") < out.index("Install gizmo?")
    assert (home / "skills" / "gizmo").exists() == installed and process.returncode == 0


def test_validation_fails_by_its_exit_code_and_says_why(cli: Cli, tmp_path: Path, gizmo: Path) -> None:
    assert cli("skills", "validate", str(gizmo)).stdout == f"{gizmo}: valid\n"
    bad = put(tmp_path / "set", "bad", "Bad.")
    bad.rename(tmp_path / "set" / "other")
    put(tmp_path / "set", "good", "Good.")
    answer = cli("skills", "validate", str(tmp_path / "set"))
    assert answer.returncode == 1
    assert f"{tmp_path / 'set' / 'good'}: valid" in answer.stdout and "error: the name 'bad' differs" in answer.stdout
    told = json.loads(cli("skills", "validate", str(tmp_path / "set"), "--json").stdout)
    assert {Path(path).name: bool(verdict["errors"]) for path, verdict in told.items()} == {
        "good": False,
        "other": True,
    }
    assert cli("skills", "validate", str(tmp_path / "nowhere")).returncode == 1


def test_a_list_tells_what_was_refused_and_cannot_command_the_terminal(cli: Cli, home: Path) -> None:
    put(home / "skills", "good", "Good.")
    (home / "skills" / "good" / "SKILL.md").write_text('---\nname: good\ndescription: "Good \\x1b[31m"\n---\n')
    (home / "skills" / "bad").mkdir()
    (home / "skills" / "bad" / "SKILL.md").write_text("nothing")
    answer = cli("skills", "list")
    assert "good" in answer.stdout and "\x1b" not in answer.stdout
    assert "refused:" in answer.stderr and "no frontmatter" in answer.stderr


def test_a_new_skill_validates(cli: Cli, tmp_path: Path) -> None:
    answer = cli("skills", "new", "my-skill", "--into", str(tmp_path), "--description", "Use it: always.")
    assert answer.stdout == f"{tmp_path / 'my-skill'}\n"
    assert cli("skills", "validate", str(tmp_path / "my-skill")).returncode == 0
    script = [sys.executable, str(tmp_path / "my-skill" / "scripts" / "example.py"), "hello"]
    assert json.loads(subprocess.check_output(script)) == {"text": "hello"}
    assert cli("skills", "new", "My Skill", "--into", str(tmp_path)).returncode == 2


def test_packing_writes_once_and_a_check_fails_when_something_differs(cli: Cli, tmp_path: Path) -> None:
    put(tmp_path / "skills", "one", "One.")
    facts = ["--name", "set", "--version", "1.0.0", "--description", "A set.", "--owner", "Us"]
    assert cli("skills", "pack", str(tmp_path), "--check", *facts).returncode == 1
    assert not (tmp_path / "gemini-extension.json").exists()
    answer = cli("skills", "pack", str(tmp_path), *facts)
    assert answer.returncode == 0 and answer.stdout.count(" written\n") == 6
    assert cli("skills", "pack", str(tmp_path), *facts).stdout == ""
    assert cli("skills", "pack", str(tmp_path), "--check", *facts).returncode == 0
    put(tmp_path / "skills", "two", "Two.")
    answer = cli("skills", "pack", str(tmp_path), "--check", *facts)
    assert answer.returncode == 1 and "skills/AGENTS.md differs" in answer.stdout


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    served = FakeHub()
    text = b"---\nname: gizmo\ndescription: Use this skill to repair a gizmo.\n---\nFrom the Hub.\n"
    served.repos += [
        Repo("dataset", "acme/know-how", {"gizmo/SKILL.md": text, "gizmo/scripts/fix.py": b"1\n", "README.md": b"x"}),
        Repo("model", "acme/secret-skill", {"SKILL.md": text}, private=True),
        Repo("model", "acme/climber", {"SKILL.md": text, "../../evil": b"x"}),
    ]
    yield served
    served.close()


def test_a_skill_is_added_from_a_hub_repository(cli: Cli, home: Path, hub: FakeHub) -> None:
    online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    answer = cli("skills", "add", "hf://datasets/acme/know-how", "--yes", "--json", **online)
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["origin"]["kind"] == "hub" and told["origin"]["path"] == "gizmo"
    assert told["origin"]["revision"] == next(repo.sha for repo in hub.repos if repo.id == "acme/know-how")
    files = sorted(path.name for path in (home / "skills" / "gizmo").rglob("*") if path.is_file())
    assert files == [PROVENANCE, "SKILL.md", "fix.py"]
    assert all(not headers.get("authorization") for _, _, headers in hub.seen)


def test_hub_repositories_that_cannot_be_had_are_mistakes(cli: Cli, home: Path, hub: FakeHub) -> None:
    online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    for source in ("acme/secret-skill", "acme/gone", "hf://datasets/acme/know-how@nowhere", "hf://acme/climber"):
        answer = cli("skills", "add", source, "--yes", **online)
        assert answer.returncode == 2, source
        assert answer.stderr.startswith("error: ") and answer.stderr.count("\n") == 1, answer.stderr
    before = len(hub.seen)
    answer = cli("skills", "add", "hf://datasets/acme/know-how", "--yes", HF_ENDPOINT=hub.url)
    assert answer.returncode == 2 and "offline" in answer.stderr and len(hub.seen) == before
    assert not (home / "skills" / "gizmo").exists()
