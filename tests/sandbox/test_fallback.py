"""Where bubblewrap cannot run: behind Landlock as root, refused otherwise, unjailed only if that was typed in full."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox

from agent.sandbox.embedded import landlock, users
from agent.sandbox.embedded.config import Config

from .leftovers import until_none
from .serving import ROOT, as_ordinary_user, serving


@pytest.fixture
def no_bwrap(tmp_path: Path) -> dict[str, str]:
    """A PATH with everything but bubblewrap."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for directory in ("/usr/bin", "/usr/sbin"):
        for program in Path(directory).iterdir():
            link = folder / program.name
            if program.name != "bwrap" and not link.exists():
                link.symlink_to(program)
    return {"PATH": str(folder)}


def refusal(home: Path, environment: dict[str, str], *, ordinary: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "sandbox", "serve", "--port", "0"]
    if ordinary:
        shutil.chown(home, 4711, 4711)
        command = as_ordinary_user(command, home)
    told = {**os.environ, "MODELSMITH_HOME": str(home), **environment}
    return subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_wall_the_server_refuses_with_three_ways_out(home: Path, no_bwrap: dict[str, str]) -> None:
    told = refusal(home, no_bwrap, ordinary=True)
    assert told.returncode == 2, told.stdout + told.stderr
    line = told.stderr.strip()
    assert "\n" not in line and "Traceback" not in line
    assert all(way in line for way in ("bubblewrap", "E2B_API_KEY", "--unsafe-no-sandbox"))


def test_unsafe_runs_code_as_the_person_and_says_so(home: Path, no_bwrap: dict[str, str]) -> None:
    with serving(home, "--unsafe-no-sandbox", **no_bwrap) as served:
        with Sandbox.create(**served.options) as sandbox:
            assert sandbox.run_code("import os; os.getuid()").text == str(os.getuid())
            assert sandbox.commands.run("echo $HOME").stdout.startswith(str(home))
            sandbox.files.write("note.txt", "x")
            assert sandbox.run_code("open('note.txt').read()").text == "x"
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(home).encode() in reading(path)]
        assert all("serve" in reading(path).decode() for path in left if sandbox.sandbox_id.encode() in reading(path))
        assert "no wall" in served.log()


def reading(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.skipif(landlock.usable() is not None, reason=f"no Landlock here: {landlock.usable()}")
def test_landlock_takes_over_for_root(home: Path, no_bwrap: dict[str, str]) -> None:
    with serving(home, opened=True, **no_bwrap) as served, Sandbox.create(**served.options) as sandbox:
        ran = sandbox.run_code("import os; os.getuid()")
        assert int(ran.text or 0) >= 64000
        assert sandbox.run_code("open('/etc/shadow').read()").error
        reached = sandbox.run_code("import socket; socket.create_connection(('127.0.0.1', 1), 1)")
        assert reached.error and "Address family" in reached.error.value


HOG = """
import os, time
for _ in range(4):  # together over the cap of 300 MB, each by itself well below it
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            kept = b"x" * (100 << 20)
            time.sleep(60)
        os._exit(0)
"""


@pytest.mark.skipif(landlock.usable() is not None, reason=f"no Landlock here: {landlock.usable()}")
def test_behind_landlock_a_program_that_left_its_parents_still_counts(home: Path, no_bwrap: dict[str, str]) -> None:
    weak = ("-m", "tests.sandbox.escape.weakened", "cgroup")
    with serving(home, opened=True, program=weak, MODELSMITH_SANDBOX_MEMORY_MB="300", **no_bwrap) as served:
        sandbox = Sandbox.create(**served.options)
        sandbox.commands.run(f"python3 -c '{HOG}'", background=True)
        until_none(lambda: [sandbox.sandbox_id] if sandbox.is_running() else [], 20)
        assert "memory at" in served.log()


@pytest.mark.skipif(landlock.usable() is not None, reason=f"no Landlock here: {landlock.usable()}")
def test_two_servers_never_give_one_user_to_two_sandboxes(home: Path, no_bwrap: dict[str, str]) -> None:
    own = {"MODELSMITH_SANDBOX_POOL": "0", **no_bwrap}
    with serving(home / "a", opened=True, **own) as one, serving(home / "b", opened=True, **own) as two:
        first, second = Sandbox.create(**one.options), Sandbox.create(**two.options)
        uids = {int(each.run_code("import os; os.getuid()").text or 0) for each in (first, second)}
        assert len(uids) == 2
        first.kill()  # which ends all that its user runs
        assert second.run_code("6 * 7").text == "42"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives users")
def test_a_user_is_held_by_one_server_until_it_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "LOCKS", tmp_path / "locks")
    one, two = users.Users(64000, tmp_path), users.Users(64000, tmp_path)  # the same place to begin
    taken = one.take()
    assert two.take() == 64000 + (taken - 64000 + 1) % users.MOST and not two.hold(taken)
    one.free(taken)
    assert two.hold(taken)
    assert users.Users(Config(tmp_path).first_uid, tmp_path).first + users.MOST <= 65534


def test_without_a_place_for_locks_a_server_keeps_its_own_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(users, "LOCKS", tmp_path / "file" / "locks")
    held = users.Users(64000, tmp_path)
    assert held.take() != held.take()
