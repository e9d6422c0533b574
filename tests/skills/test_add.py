"""Adding skills from everywhere, and everything that a hostile archive or repository may try."""

import gzip
import io
import json
import os
import stat
import subprocess
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.settings import Settings
from agent.skills import Skills, trust
from agent.skills.archive import Hostile, unpack
from agent.skills.fetch import bring
from agent.skills.files import PROVENANCE, digest
from agent.skills.install import install, look, remove
from tests.skills.test_match import nobody_home, put  # noqa: F401 (a fixture for every test here)

GOOD = "---\nname: gizmo\ndescription: Use this skill to repair a gizmo.\n---\n\n# Gizmo\n\nTurn it off and on.\n"


@pytest.fixture
def smith(tmp_path: Path) -> Path:
    return tmp_path / "smith"


@pytest.fixture
def gizmo(tmp_path: Path) -> Path:
    folder = put(tmp_path / "source", "gizmo", "Use this skill to repair a gizmo.", "# Gizmo\n\nTurn it off and on.")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "fix.py").write_text("#!/usr/bin/env python3\nprint('fixed')\n")
    (folder / "scripts" / "fix.py").chmod(0o4755)
    return folder


def add(source: object, smith: Path, **where: str) -> Path:
    settings = Settings(home=smith)
    with bring(str(source), settings, where.get("revision"), where.get("path", "")) as brought:
        look(brought.folder)
        return install(brought, smith, trusted=where.get("trusted") == "yes").folder


def told(folder: Path) -> dict[str, str | None]:
    return json.loads((folder / PROVENANCE).read_text())


def nothing_is_left(smith: Path) -> bool:
    return not (smith / "skills").exists() or list((smith / "skills").iterdir()) == []


def zipped(path: Path, members: dict[str, bytes | str], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that stand twice, which are meant
        for name, content in members.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    return path


def tarred(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for entry, content in members:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, target, 0o4777
    return made


# Where skills come from


def test_a_folder_is_copied_with_a_note_of_where_it_was(gizmo: Path, smith: Path) -> None:
    place = add(gizmo, smith)
    assert place == smith / "skills" / "gizmo"
    assert (place / "scripts" / "fix.py").read_text() == (gizmo / "scripts" / "fix.py").read_text()
    note = told(place)
    assert (note["kind"], note["source"], note["revision"]) == ("folder", str(gizmo), None)
    assert note["digest"] == digest(gizmo) == digest(place) and str(note["added"]).startswith("20")


def test_nothing_that_was_added_may_be_executed_as_it_lies(gizmo: Path, smith: Path) -> None:
    place = add(gizmo, smith)
    assert stat.S_IMODE((place / "scripts" / "fix.py").stat().st_mode) == 0o644


def test_an_added_skill_is_untrusted_until_somebody_says_so(gizmo: Path, smith: Path, tmp_path: Path) -> None:
    add(gizmo, smith)
    skill = Skills.discover(tmp_path, smith).get("gizmo")
    assert (skill.source, skill.trusted) == ("home", False)
    trust.add(smith, "gizmo", digest(skill.folder))
    assert Skills.discover(tmp_path, smith).get("gizmo").trusted


def test_a_skill_can_be_trusted_while_it_is_added(gizmo: Path, smith: Path, tmp_path: Path) -> None:
    add(gizmo, smith, trusted="yes")
    assert Skills.discover(tmp_path, smith).get("gizmo").trusted


@pytest.mark.parametrize("prefix", ["", "gizmo/", "repository-main/skills/gizmo/"])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tgz", ".tar"])
def test_archives_are_unpacked_wherever_the_skill_lies_in_them(
    tmp_path: Path, smith: Path, suffix: str, prefix: str
) -> None:
    members = {f"{prefix}SKILL.md": GOOD.encode(), f"{prefix}scripts/fix.py": b"print(1)\n"}
    if suffix == ".zip":
        archive = zipped(tmp_path / "a.zip", dict(members))
    else:
        archive = tarred(tmp_path / f"a{suffix}", [(entry(name), content) for name, content in members.items()])
    place = add(archive, smith)
    assert place.name == "gizmo" and (place / "scripts" / "fix.py").read_bytes() == b"print(1)\n"
    assert told(place)["path"] == prefix.rstrip("/") and told(place)["kind"] == "archive"
    assert Skills.discover(tmp_path, smith).get("gizmo").warnings == []


def test_of_several_skills_one_must_be_chosen(tmp_path: Path, smith: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"one/SKILL.md": GOOD.replace("gizmo", "one"), "two/SKILL.md": GOOD})
    with pytest.raises(UserError, match=r"several skills.*--path: one, two"):
        add(archive, smith)
    assert add(archive, smith, path="one").name == "one"
    for wrong in ("three", "../..", "/etc"):
        with pytest.raises(UserError, match="no skill at"):
            add(archive, smith, path=wrong)


def git(folder: Path, *arguments: str) -> str:
    name = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(gizmo: Path) -> Path:
    root = gizmo.parent
    git(root, "init", "--quiet", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "one")
    git(root, "tag", "v1")
    (gizmo / "scripts" / "fix.py").write_text("print('two')\n")
    git(root, "commit", "--quiet", "-a", "-m", "two")
    return root


def test_a_git_repository_gives_the_newest_commit_or_the_one_asked_for(repository: Path, smith: Path) -> None:
    url = f"file://{repository}"
    place = add(url, smith)
    assert (place / "scripts" / "fix.py").read_text() == "print('two')\n"
    assert told(place)["revision"] == git(repository, "rev-parse", "HEAD") and told(place)["path"] == "gizmo"
    assert not (place / ".git").exists()
    remove(Skills.discover(repository, smith).get("gizmo"), smith)
    place = add(url, smith, revision="v1")
    assert "fixed" in (place / "scripts" / "fix.py").read_text()
    assert told(place)["revision"] == git(repository, "rev-parse", "v1")


def test_nothing_of_a_repository_is_run_while_it_is_fetched(repository: Path, smith: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    (repository / ".gitattributes").write_text("* filter=evil\n")
    git(repository, "config", "filter.evil.smudge", f"touch {mark}")
    (repository / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = file://{repository}\n')
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "evil")
    template = tmp_path / "template" / "hooks"
    template.mkdir(parents=True)
    (template / "post-checkout").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (template / "post-checkout").chmod(0o755)
    settings = Settings(home=smith)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_TEMPLATE_DIR", str(template.parent))
        with bring(f"file://{repository}", settings) as brought:
            assert brought.folder.name == "gizmo"
    assert not mark.exists()


@pytest.mark.parametrize(
    "url", ["ssh://example.org/a", "git://example.org/a", "ext::sh -c true", "http://example.org/a.git", "ftp://x/y"]
)
def test_only_https_and_file_are_taken_for_git(smith: Path, url: str) -> None:
    with pytest.raises(UserError):
        add(url, smith)


def test_an_address_with_a_password_is_refused_and_not_repeated(smith: Path) -> None:
    with pytest.raises(UserError, match="carries a name or password") as caught:
        add("https://someone:hunter2@example.org/a.git", smith)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("revision", ["--upload-pack=touch x", "a..b", "a b", "", "-x"])
def test_a_revision_is_no_way_to_pass_options(repository: Path, smith: Path, revision: str) -> None:
    if not revision:
        assert add(f"file://{repository}", smith, revision=revision)
        return
    with pytest.raises(UserError, match="no branch, tag or commit"):
        add(f"file://{repository}", smith, revision=revision)


def test_a_repository_that_is_not_there_is_a_mistake(tmp_path: Path, smith: Path) -> None:
    with pytest.raises(UserError, match="git fetch failed"):
        add(f"file://{tmp_path}/nowhere", smith)


@pytest.mark.parametrize("source", ["https://example.org/skills.git", "hf://acme/skills", "acme/skills"])
def test_offline_nothing_on_the_network_is_asked(smith: Path, source: str) -> None:
    with pytest.raises(UserError, match="offline"), bring(source, Settings(home=smith, offline=True)):
        pass


def test_a_source_of_no_known_kind_is_a_mistake(smith: Path, tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    for source in ("nothing here", str(tmp_path / "a.rar"), "a/b/c"):
        with pytest.raises(UserError):
            add(source, smith)


# What is refused


HOSTILE_ZIPS = {
    "climbs": ({"gizmo/SKILL.md": GOOD, "gizmo/../../evil": "x"}, {}),
    "absolute": ({"gizmo/SKILL.md": GOOD, "/tmp/evil": "x"}, {}),
    "backslashes": ({"gizmo/SKILL.md": GOOD, "gizmo\\..\\..\\evil": "x"}, {}),
    "drive": ({"gizmo/SKILL.md": GOOD, "C:/evil": "x"}, {}),
    "newline-in-name": ({"gizmo/SKILL.md": GOOD, "gizmo/a\nb": "x"}, {}),
    "link-out": ({"gizmo/SKILL.md": GOOD}, {"gizmo/link": "../../../../etc/passwd"}),
    "link-absolute": ({"gizmo/SKILL.md": GOOD}, {"gizmo/link": "/etc/passwd"}),
    "link-out-of-the-skill": ({"gizmo/SKILL.md": GOOD, "other": "x"}, {"gizmo/link": "../other"}),
    "link-to-folder": ({"gizmo/SKILL.md": GOOD, "gizmo/a/b": "x"}, {"gizmo/link": "a"}),
    "link-then-write-through": ({"gizmo/SKILL.md": GOOD, "gizmo/d/evil": "x"}, {"gizmo/d": ".."}),
    "link-over-file": ({"gizmo/SKILL.md": GOOD}, {"gizmo/SKILL.md": "other"}),
    "folder-over-file": ({"gizmo": "x", "gizmo/SKILL.md": GOOD}, {}),
    "bomb": ({"gizmo/SKILL.md": GOOD, "gizmo/zeros": b"\0" * (60 << 20)}, {}),
    "heavy": ({"gizmo/SKILL.md": GOOD, "gizmo/zeros": b"\0" * (30 << 20)}, {}),
    "many": ({"gizmo/SKILL.md": GOOD, **{f"gizmo/{n}": "" for n in range(2001)}}, {}),
    "rather-many": ({"gizmo/SKILL.md": GOOD, **{f"gizmo/{n}": "" for n in range(1001)}}, {}),
}


@pytest.mark.parametrize("name", HOSTILE_ZIPS)
def test_a_hostile_zip_leaves_nothing_behind(tmp_path: Path, smith: Path, name: str) -> None:
    members, links = HOSTILE_ZIPS[name]
    archive = zipped(tmp_path / "a.zip", members, links)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError):
        add(archive, smith)
    assert nothing_is_left(smith) and sorted(tmp_path.rglob("*")) in (before, [*before, smith, smith / "skills"])
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    "name", ["climbs", "absolute", "backslashes", "drive", "link-out", "link-absolute", "bomb", "many"]
)
def test_unpacking_itself_stops_at_what_no_skill_needs(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "a.zip", *HOSTILE_ZIPS[name])
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    with pytest.raises(Hostile):
        unpack(archive, into)
    assert sum(path.stat().st_size for path in into.rglob("*")) <= 51 << 20
    assert not any(path.is_symlink() for path in into.rglob("*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "deep"]


def test_the_same_name_twice_in_a_zip_is_refused(tmp_path: Path, smith: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning):
        archive.writestr("gizmo/SKILL.md", GOOD)
        archive.writestr("gizmo/SKILL.md", GOOD.replace("gizmo", "other"))
    with pytest.raises(UserError, match="twice"):
        add(tmp_path / "a.zip", smith)


def test_a_zip_that_lies_about_its_size_is_counted(tmp_path: Path, smith: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"gizmo/SKILL.md": GOOD, "gizmo/zeros": b"\0" * (60 << 20)})
    content = path.read_bytes()
    path.write_bytes(content.replace((60 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(UserError):
        add(path, smith)
    assert nothing_is_left(smith)


HOSTILE_TARS = {
    "climbs": entry("gizmo/../../evil"),
    "absolute": entry("/tmp/evil"),
    "link-out": entry("gizmo/link", tarfile.SYMTYPE, "../../etc/passwd"),
    "hard-link": entry("gizmo/link", tarfile.LNKTYPE, "/etc/passwd"),
    "device": entry("gizmo/null", tarfile.CHRTYPE),
    "pipe": entry("gizmo/pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("name", HOSTILE_TARS)
def test_a_hostile_tar_leaves_nothing_behind(tmp_path: Path, smith: Path, name: str) -> None:
    archive = tarred(tmp_path / "a.tar.gz", [(entry("gizmo/SKILL.md"), GOOD.encode()), (HOSTILE_TARS[name], b"")])
    with pytest.raises(UserError):
        add(archive, smith)
    assert nothing_is_left(smith) and not Path("/tmp/evil").exists() and not (tmp_path / "evil").exists()


def test_a_tar_whose_header_claims_gigabytes_costs_no_memory(tmp_path: Path, smith: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 8 << 30
    bomb = tmp_path / "a.tar.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(80):
            file.write(b"\0" * (1 << 20))
    start = time.perf_counter()
    with pytest.raises(UserError, match="more than 50 MiB"):
        add(bomb, smith)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04garbage", b"\x1f\x8bgarbage", b"no archive at all"])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_broken_archive_is_a_mistake(tmp_path: Path, smith: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError):
        add(tmp_path / name, smith)


def test_a_link_inside_the_skill_arrives_as_the_file_it_names(tmp_path: Path, smith: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"gizmo/SKILL.md": GOOD, "gizmo/a.md": "A"}, {"gizmo/b.md": "a.md"})
    place = add(archive, smith)
    assert (place / "b.md").read_text() == "A" and not (place / "b.md").is_symlink()


def test_a_folder_that_links_out_or_holds_a_pipe_is_refused(gizmo: Path, smith: Path) -> None:
    (gizmo / "link").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="leads out"):
        add(gizmo, smith)
    (gizmo / "link").unlink()
    os.mkfifo(gizmo / "pipe")
    with pytest.raises(UserError, match="no regular file"):
        add(gizmo, smith)
    assert nothing_is_left(smith)


def test_a_skill_cannot_bring_its_own_provenance(gizmo: Path, smith: Path) -> None:
    (gizmo / PROVENANCE).write_text('{"source": "built-in"}')
    assert told(add(gizmo, smith))["source"] == str(gizmo)


def test_a_name_that_climbs_stays_on_the_shelf(tmp_path: Path, smith: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"SKILL.md": GOOD.replace("name: gizmo", "name: ../../../evil")})
    assert add(archive, smith) == smith / "skills" / "evil"


def test_what_is_there_already_is_not_overwritten(gizmo: Path, smith: Path) -> None:
    place = add(gizmo, smith)
    (gizmo / "SKILL.md").write_text(GOOD + "changed")
    with pytest.raises(UserError, match="exists already"):
        add(gizmo, smith)
    assert "changed" not in (place / "SKILL.md").read_text()
    assert [path.name for path in (smith / "skills").iterdir()] == ["gizmo"]


# The look before


def test_the_look_names_scripts_and_shows_how_they_begin(gizmo: Path) -> None:
    (gizmo / "run").write_text("#!/bin/sh\necho hi\n")
    (gizmo / "notes.md").write_text("no script\n")
    seen = look(gizmo)
    assert list(seen.scripts) == ["run", "scripts/fix.py"]
    assert seen.scripts["run"] == ["#!/bin/sh", "echo hi"]
    assert dict(seen.files)["notes.md"] == 10 and seen.errors == []


def test_the_look_cannot_command_a_terminal(gizmo: Path) -> None:
    (gizmo / "scripts" / "fix.py").write_text("\x1b[2J\u202eprint\n")
    (gizmo / "\x1b[31m.sh").write_text("true\n")
    shown = json.dumps([list(look(gizmo).scripts.items()), look(gizmo).files], ensure_ascii=False)
    assert "\x1b" not in shown and "\u202e" not in shown and "\\u001b" not in shown


# Removing


def test_removing_takes_the_folder_and_nothing_else(gizmo: Path, smith: Path, tmp_path: Path) -> None:
    add(gizmo, smith)
    put(smith / "skills", "other", "Other.")
    remove(Skills.discover(tmp_path, smith).get("gizmo"), smith)
    assert [path.name for path in (smith / "skills").iterdir()] == ["other"]


def test_removing_a_link_leaves_what_it_points_to(gizmo: Path, smith: Path, tmp_path: Path) -> None:
    (smith / "skills").mkdir(parents=True)
    (smith / "skills" / "gizmo").symlink_to(gizmo)
    remove(Skills.discover(tmp_path, smith).get("gizmo"), smith)
    assert (gizmo / "SKILL.md").exists() and not (smith / "skills" / "gizmo").is_symlink()


def test_skills_elsewhere_are_not_removed(smith: Path, tmp_path: Path) -> None:
    folder = put(tmp_path / "skills", "gizmo", "Gizmo.")
    with pytest.raises(UserError, match="Remove it there by hand"):
        remove(Skills.discover(tmp_path, smith).get("gizmo"), smith)
    assert folder.exists()
