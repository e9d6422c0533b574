"""Where skills are found, which of one name counts, what trust changes, and that no path leads out of a folder."""

import os
import shutil
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.skills import Skills, trust
from agent.skills.files import PROVENANCE, digest
from tests.skills.test_match import nobody_home, put  # noqa: F401 (a fixture for every test here)


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def smith(tmp_path: Path) -> Path:
    return tmp_path / "smith"


def names(skills: Skills) -> list[str]:
    return [skill.name for skill in skills.all]


def believe(home: Path, folder: Path) -> None:
    trust.add(home, folder.name, digest(folder))


def test_skills_of_every_place_are_found(
    cwd: Path, smith: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.skills.find.BUILT_IN", tmp_path / "built-in")
    put(cwd / "skills", "one", "One.")
    put(cwd / ".agents" / "skills", "two", "Two.")
    put(smith / "skills", "three", "Three.")
    put(tmp_path / "built-in", "four", "Four.")
    put(tmp_path / "nobody" / ".agents" / "skills", "five", "Five.")
    found = {skill.name: (skill.source, skill.trusted) for skill in Skills.discover(cwd, smith).all}
    assert found == {
        "one": ("project", False),
        "two": ("project", False),
        "three": ("home", True),
        "four": ("built-in", True),
        "five": ("agents", True),
    }


def test_the_project_wins_once_it_is_trusted(cwd: Path, smith: Path) -> None:
    theirs = put(cwd / "skills", "hub", "Of the project.")
    put(smith / "skills", "hub", "Of the home.")
    before = Skills.discover(cwd, smith)
    assert before.get("hub").source == "home" and [skill.source for skill in before.shadowed] == ["project"]
    believe(smith, theirs)
    after = Skills.discover(cwd, smith)
    assert after.get("hub").source == "project"
    assert after.shadowed[0].source == "home" and "same name" in after.shadowed[0].warnings[-1]


def test_an_untrusted_skill_enters_no_prompt_unless_it_is_called(cwd: Path, smith: Path) -> None:
    folder = put(cwd / "skills", "gizmo", "Use this skill to repair a gizmo that sputters.")
    file = folder / "SKILL.md"
    file.write_text(file.read_text().replace("\n---\n\n", "\nallowed-tools: Bash\n---\n\n"))
    task = "repair the gizmo, it sputters"
    skills = Skills.discover(cwd, smith)
    assert skills.catalog() == "" and skills.match(task) == []
    assert [skill.name for skill in skills.match(f"/gizmo {task}")] == ["gizmo"]
    assert skills.get("gizmo").allowed_tools == ("Bash",) and not skills.get("gizmo").trusted
    believe(smith, folder)
    skills = Skills.discover(cwd, smith)
    assert "gizmo" in skills.catalog() and [skill.name for skill in skills.match(task)] == ["gizmo"]
    assert skills.get("gizmo").trusted


def test_a_changed_skill_must_be_trusted_anew(cwd: Path, smith: Path) -> None:
    folder = put(cwd / "skills", "hub", "Text.")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "go.py").write_text("print(1)\n")
    believe(smith, folder)
    assert Skills.discover(cwd, smith).get("hub").trusted
    (folder / "scripts" / "__pycache__").mkdir()
    (folder / "scripts" / "__pycache__" / "go.pyc").write_bytes(b"x")
    assert Skills.discover(cwd, smith).get("hub").trusted
    (folder / "scripts" / "go.py").write_text("print(2)\n")
    assert not Skills.discover(cwd, smith).get("hub").trusted


def test_an_added_skill_is_not_trusted_by_lying_in_the_home(cwd: Path, smith: Path) -> None:
    folder = put(smith / "skills", "hub", "Text.")
    (folder / PROVENANCE).write_text("{}")
    assert not Skills.discover(cwd, smith).get("hub").trusted


def test_a_broken_list_of_trust_trusts_nothing(cwd: Path, smith: Path) -> None:
    believe(smith, put(cwd / "skills", "hub", "Text."))
    for broken in ("{", "[]", "null"):
        (smith / trust.FILE).write_text(broken)
        assert not Skills.discover(cwd, smith).get("hub").trusted


def test_a_broken_skill_does_not_hide_the_others(cwd: Path, smith: Path) -> None:
    put(cwd / "skills", "good", "Good.")
    (cwd / "skills" / "bad").mkdir()
    (cwd / "skills" / "bad" / "SKILL.md").write_text("no head")
    skills = Skills.discover(cwd, smith)
    assert names(skills) == ["good"]
    assert [(problem.folder.name, "no frontmatter" in problem.why) for problem in skills.problems] == [("bad", True)]


def test_folders_in_folders_are_found_but_not_too_deep_nor_in_other_peoples_stores(cwd: Path, smith: Path) -> None:
    put(cwd / "skills" / "group" / "sub", "deep", "Deep.")
    put(cwd / "skills" / "a" / "b" / "c" / "d", "too-deep", "Too deep.")
    put(cwd / "skills" / "node_modules", "package", "A package.")
    put(cwd / "skills" / ".git", "object", "An object.")
    put(cwd / "skills" / "group" / "sub" / "deep", "inner", "Part of deep.")
    assert names(Skills.discover(cwd, smith)) == ["deep"]


def test_a_project_cannot_link_to_a_folder_outside(cwd: Path, smith: Path, tmp_path: Path) -> None:
    put(tmp_path / "private", "diary", "Secret.")
    (cwd / "skills").mkdir()
    (cwd / "skills" / "diary").symlink_to(tmp_path / "private" / "diary")
    skills = Skills.discover(cwd, smith)
    assert skills.all == [] and "leads out of the project" in skills.problems[0].why


def test_a_link_within_the_project_is_one_skill_and_a_circle_ends(cwd: Path, smith: Path) -> None:
    put(cwd / "skills", "hub", "Text.")
    (cwd / ".agents").mkdir()
    (cwd / ".agents" / "skills").symlink_to("../skills")
    (cwd / "skills" / "circle").symlink_to(".")
    skills = Skills.discover(cwd, smith)
    assert names(skills) == ["hub"] and skills.shadowed == []


def test_the_person_may_link_skills_into_the_home(cwd: Path, smith: Path, tmp_path: Path) -> None:
    put(tmp_path / "dotfiles", "hub", "Text.")
    (smith / "skills").mkdir(parents=True)
    (smith / "skills" / "hub").symlink_to(tmp_path / "dotfiles" / "hub")
    assert Skills.discover(cwd, smith).get("hub").trusted


def test_in_the_programs_own_tree_its_skills_are_built_in(
    cwd: Path, smith: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.skills.find.BUILT_IN", cwd / "skills")
    put(cwd / "skills", "hub", "Text.")
    skills = Skills.discover(cwd, smith)
    assert skills.get("hub").source == "built-in" and skills.get("hub").trusted and skills.shadowed == []


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "scripts/../../secret", "out", "out-folder/secret", "gone", "a\0b", "pipe"]
)
def test_no_path_leads_out_of_a_skill(smith: Path, cwd: Path, path: str) -> None:
    folder = put(smith / "skills", "hub", "Text.")
    (smith / "skills" / "secret").write_text("SECRET")
    (folder / "scripts").mkdir()
    (folder / "out").symlink_to("../secret")
    (folder / "out-folder").symlink_to("..")
    os.mkfifo(folder / "pipe")
    skills = Skills.discover(cwd, smith)
    with pytest.raises(UserError):
        skills.read_skill_file("hub", path)
    assert any("'out'" in warning for warning in skills.get("hub").warnings)
    assert "out" not in skills.load_skill("hub").split("<skill_resources>")[-1]


def test_files_are_read_by_their_paths_and_folders_list_theirs(smith: Path, cwd: Path) -> None:
    folder = put(smith / "skills", "hub", "Text.")
    (folder / "references").mkdir()
    (folder / "references" / "a.md").write_text("A")
    (folder / "references" / "b.md").symlink_to("a.md")
    (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    skills = Skills.discover(cwd, smith)
    assert skills.read_skill_file("hub", "references/a.md") == "A"
    assert skills.read_skill_file("hub", "./references/b.md") == "A"
    assert skills.read_skill_file("hub", "references").split() == ["a.md", "b.md"]
    with pytest.raises(UserError, match="no text"):
        skills.read_skill_file("hub", "picture.png")
    with pytest.raises(UserError, match=r"references/a\.md"):
        skills.read_skill_file("hub", "wrong.md")


def test_an_unknown_skill_is_a_mistake_that_names_the_known_ones(smith: Path, cwd: Path) -> None:
    put(smith / "skills", "hub", "Text.")
    with pytest.raises(UserError, match="There are: hub"):
        Skills.discover(cwd, smith).get("hup")


def test_a_session_keeps_the_text_it_read(smith: Path, cwd: Path) -> None:
    folder = put(smith / "skills", "hub", "Text.", "First.")
    skills = Skills.discover(cwd, smith)
    shutil.rmtree(folder)
    assert skills.body(skills.get("hub")) == "First."
