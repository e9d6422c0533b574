"""A program in a sandbox of its own with one folder of this host: what it sees, what it leaves, how it ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.sandbox.embedded.config import Share
from agent.sandbox.embedded.lending import Lending
from agent.sandbox.jail import SandboxJail
from agent.sandbox.manage import kill, listing
from agent.settings import Settings, load_settings
from tests.conftest import ROOT
from tests.sandbox.serving import Served
from tools.context import ToolError

SEES = """
import os, pathlib, sys
print(pathlib.Path("given.txt").read_text(), os.getcwd() == sys.argv[1], pathlib.Path(sys.argv[2], "page").read_text())
pathlib.Path("made").mkdir()
pathlib.Path("made/out.txt").write_text("made inside")
for place in sys.argv[3:]:
    print(place, pathlib.Path(place).exists())
    try:
        pathlib.Path(place).write_text("harm")
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The embedded server that the agent starts for itself."""
    settings = load_settings(home=tmp_path_factory.mktemp("home"), sandbox="embedded", sandbox_pool=0)
    yield settings
    from agent.sandbox.daemon import running

    if server := running(settings):
        os.kill(server.pid, signal.SIGTERM)


@pytest.fixture
def elsewhere(served: Served, tmp_path: Path) -> Settings:
    """The same kind of server as if it were on another machine: it is only known by its URL and key."""
    urls = {"e2b_api_url": served.options["api_url"], "e2b_sandbox_url": served.options["api_url"]}
    return load_settings(home=tmp_path / "home", sandbox="e2b", e2b_api_key=served.options["api_key"], **urls)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "given.txt").write_text("from outside")
    (tmp_path / "work" / "kept.txt").write_text("kept")
    (tmp_path / "lent").mkdir()
    (tmp_path / "lent" / "page").write_text("a lent page")
    (tmp_path / "lent" / "page").chmod(0o600)
    (tmp_path / "lent").chmod(0o700)
    return tmp_path / "work"


@pytest.mark.parametrize("place", ["embedded", "elsewhere"])
def test_a_program_sees_its_folder_and_what_is_lent_and_nothing_else(
    place: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    settings: Settings = request.getfixturevalue(place)
    beside, lent = folder.parent / "beside.txt", folder.parent / "lent"
    beside.write_text("not for its eyes")
    (folder / "look.py").write_text(SEES)
    places = [beside, folder / "kept.txt", lent / "page"]
    lines: list[str] = []
    ended = SandboxJail(settings).run(
        folder,
        [sys.executable, "look.py", *map(str, [folder, lent, *places])],
        timeout=60,
        reads=[lent, folder / "kept.txt"],
        line=lines.append,
    )
    assert ended.ok, ended
    assert lines[0] == "from outside True a lent page"
    assert ended.output.splitlines() == lines
    assert f"{beside} False" in lines and f"{folder / 'kept.txt'} True" in lines
    assert beside.read_text() == "not for its eyes"
    assert (folder / "kept.txt").read_text() == "kept" and (lent / "page").read_text() == "a lent page"
    made = folder / "made" / "out.txt"
    assert made.read_text() == "made inside"
    assert made.stat().st_uid == os.geteuid()
    assert not [row for row in listing(settings) if row["metadata"].get("jail") == str(folder)]


def test_its_end_is_told_as_it_was(embedded: Settings, folder: Path) -> None:
    jail = SandboxJail(embedded)
    assert jail.run(folder, ["bash", "-c", "printf half; exit 7"], timeout=60).exit_code == 7
    killed = jail.run(folder, ["bash", "-c", "kill -9 $$"], timeout=60)
    assert (killed.end, killed.exit_code, killed.ok) == ("exited", 137, False)


def test_at_its_time_it_may_finish_what_it_does(embedded: Settings, folder: Path) -> None:
    polite = ["bash", "-c", "trap 'echo saved > kept.txt; exit 3' TERM; echo up; while :; do sleep 0.05; done"]
    ended = SandboxJail(embedded).run(folder, polite, timeout=1)
    assert (ended.end, ended.exit_code, (folder / "kept.txt").read_text()) == ("timeout", 3, "saved\n")
    deaf = ["bash", "-c", "trap '' TERM; while :; do sleep 0.05; done"]
    ended = SandboxJail(embedded).run(folder, deaf, timeout=1, grace=0.5)
    assert (ended.end, ended.exit_code) == ("timeout", 137)


def test_it_stops_when_the_call_is_cancelled_and_nobody_else_gets_its_folder(embedded: Settings, folder: Path) -> None:
    cancel, up = threading.Event(), threading.Event()
    jail, told = SandboxJail(embedded), []

    def work() -> None:
        command = ["bash", "-c", "echo up; sleep 600"]
        told.append(jail.run(folder, command, timeout=600, line=lambda text: up.set(), cancel=cancel))

    thread = threading.Thread(target=work)
    thread.start()
    assert up.wait(60)
    with pytest.raises(ToolError, match="Another program works in"):
        jail.run(folder, ["true"], timeout=60)
    cancel.set()
    thread.join(60)
    assert told[0].end == "cancelled"


def test_a_sandbox_that_goes_away_is_told_as_lost(embedded: Settings, folder: Path) -> None:
    def end_it(text: str) -> None:
        assert all(kill(embedded, row["id"]) for row in listing(embedded) if row["metadata"].get("jail"))

    ended = SandboxJail(embedded).run(folder, ["bash", "-c", "echo up; sleep 600"], timeout=600, line=end_it)
    assert (ended.end, ended.exit_code, ended.ok) == ("lost", None, False)
    assert (folder / "given.txt").stat().st_uid == os.geteuid()


def test_the_next_program_ends_what_a_killed_one_left(embedded: Settings, folder: Path) -> None:
    command = [sys.executable, "-m", "agent", "sandbox", "run", str(folder), "--", "bash", "-c", "echo up; sleep 600"]
    env = {**os.environ, "MODELSMITH_HOME": str(embedded.home), "MODELSMITH_SANDBOX_POOL": "0"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        process.kill()
    assert [row for row in listing(embedded) if row["metadata"].get("jail") == str(folder)]
    assert SandboxJail(embedded).run(folder, ["touch", "mine"], timeout=60).ok
    assert (folder / "mine").exists()


def test_the_command_ends_as_its_program_does(embedded: Settings, folder: Path) -> None:
    env = {**os.environ, "MODELSMITH_HOME": str(embedded.home), "MODELSMITH_SANDBOX_POOL": "0"}
    command = [sys.executable, "-m", "agent", "sandbox", "run", str(folder), "--env", "NAME=a b"]
    program = "trap 'echo $NAME; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    process = subprocess.Popen([*command, "--", "bash", "-c", program], cwd=ROOT, env=env, stdout=-1, text=True)
    assert process.stdout and process.stdout.readline() == "up\n"
    process.terminate()
    assert process.communicate(timeout=60)[0] == "a b\n"
    assert process.returncode == 5


def test_a_lending_is_taken_once_and_not_by_guessing(tmp_path: Path) -> None:
    name = Lending([Share(tmp_path, "/x", True)], {"pids": 9}).leave(tmp_path)
    assert Lending.take(tmp_path, "lent-" + "0" * 32) is None
    assert Lending.take(tmp_path, f"lent-/../lent/{name}") is None
    found = Lending.take(tmp_path, name)
    assert found and found.shares == [Share(tmp_path, "/x", True)] and found.limits == {"pids": 9}
    assert Lending.take(tmp_path, name) is None


def test_giving_a_folder_over_follows_no_link(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir(), inside.mkdir()
    (outside / "file").write_text("x")
    (inside / "link").symlink_to(outside)
    (inside / "file").symlink_to(outside / "file")
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    Lending([Share(inside, "/x", True)]).own(64999, 64999)
    assert inside.stat().st_uid == (inside / "link").lstat().st_uid == 64999
    assert outside.stat().st_uid == (outside / "file").stat().st_uid == 0
