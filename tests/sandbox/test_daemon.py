"""The server that starts when it is needed: one for all who ask, never with other settings than asked for."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.sandbox import daemon
from agent.sandbox.open import open_sandbox
from agent.settings import Settings

from .serving import ROOT, serving

ASK = (
    "import json, pathlib, sys; from agent.sandbox import daemon; from agent.settings import Settings\n"
    "print(daemon.ensure(Settings(home=pathlib.Path(sys.argv[1]), sandbox_pool=0)).pid)"
)


@pytest.fixture
def settings(home: Path) -> Iterator[Settings]:
    made = Settings(home=home, sandbox_pool=0)
    daemon.make_root(made)
    yield made
    if found := daemon.running(made):
        os.kill(found.pid, signal.SIGTERM)
    until(lambda: daemon.is_free(home / "sandbox" / "server.lock"), 20)


def until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_two_processes_that_ask_at_once_get_one_server(settings: Settings) -> None:
    command = [sys.executable, "-c", ASK, str(settings.home)]
    asking = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {process.communicate(timeout=60)[0] for process in asking}
    found = daemon.running(settings)
    assert found and pids == {f"{found.pid}\n"}
    assert daemon.ensure(settings) == found


def test_the_key_is_in_a_private_file_and_nowhere_else(settings: Settings) -> None:
    found = daemon.ensure(settings)
    folder = settings.home / "sandbox"
    assert (folder / "server.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    port = found.url.rpartition(":")[2]
    seen = (Path("/proc", str(found.pid)) / "cmdline").read_text() + (folder / "server.log").read_text()
    assert "serve" in seen and found.key not in seen and port not in seen
    assert found.key not in (Path("/proc", str(found.pid)) / "environ").read_text()
    assert found.key not in repr(found)


def test_credentials_of_the_person_stay_out_of_the_servers_process(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "E2B_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"):
        monkeypatch.setenv(name, "do-not-pass-on")
    found = daemon.ensure(settings)
    assert "do-not-pass-on" not in (Path("/proc", str(found.pid)) / "environ").read_text()


def test_a_server_that_was_killed_is_followed_by_another(settings: Settings) -> None:
    first = daemon.ensure(settings)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: daemon.running(settings) is None)
    assert (settings.home / "sandbox" / "server.json").exists(), "the stale file is what this is about"
    second = daemon.ensure(settings)
    assert second.pid != first.pid and second.key != first.key


def test_a_stale_file_never_shows_the_key_to_another_process(settings: Settings) -> None:
    """The port of a dead server may be a stranger's by now."""
    with serving(settings.home / "stranger", MODELSMITH_SANDBOX_POOL="0") as stranger:
        gone = subprocess.Popen(["true"])
        gone.wait()
        daemon.make_root(settings)
        told = {"url": stranger.url, "key": "ours", "pid": gone.pid, "terms": {}, "by_hand": False}
        (settings.home / "sandbox" / "server.json").write_text(json.dumps(told))
        assert daemon.running(settings) is None
        assert daemon.ensure(settings).url != stranger.url


def test_a_broken_file_is_as_none(settings: Settings) -> None:
    daemon.make_root(settings)
    for text in ("", "{", '{"url": "http://127.0.0.1:1"}', "[]"):
        (settings.home / "sandbox" / "server.json").write_text(text)
        assert daemon.running(settings) is None


def test_an_idle_server_leaves_by_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "IDLE_EXIT", 1)
    with closing(open_sandbox(settings)) as box:
        assert box.run_cell("import time; time.sleep(2.5); 'busy'").execution.text == "busy"
    until(lambda: daemon.running(settings) is None)


def test_an_idle_server_with_other_settings_is_replaced(settings: Settings) -> None:
    first = daemon.ensure(settings)
    wanted = settings.model_copy(update={"offline": True, "sandbox_memory_mb": 700})
    second = daemon.ensure(wanted)
    assert second.pid != first.pid
    assert (second.terms["memory_mb"], second.terms["local_only"]) == (700, True)
    assert daemon.ensure(wanted) == second


def test_a_server_with_other_settings_that_has_work_is_left_alone_and_told(settings: Settings) -> None:
    wanted = settings.model_copy(update={"sandbox_memory_mb": 700})
    with closing(open_sandbox(settings)) as box:
        with pytest.raises(UserError, match=r"memory_mb \d+ instead of 700.* sandbox kill --all"):
            daemon.ensure(wanted)
        assert box.run_cell("'alive'").execution.text == "alive"
    assert daemon.ensure(wanted).terms["memory_mb"] == 700


def test_a_server_started_by_hand_is_used_as_it_is_or_told_to_differ(home: Path) -> None:
    settings = Settings(home=home, sandbox_pool=0)
    with serving(home, MODELSMITH_SANDBOX_POOL="0") as served:
        assert daemon.ensure(settings).url == served.url
        with pytest.raises(UserError, match=r"started by hand.*local_only False instead of True"):
            daemon.ensure(settings.model_copy(update={"offline": True}))
        assert served.process.poll() is None


def test_settings_that_no_server_can_have_are_told_in_one_line(settings: Settings) -> None:
    nowhere = [{"host": "/nowhere/at/all", "inside": "/data"}]
    for field, value in (("sandbox_allow", ["no such host!"]), ("sandbox_shares", nowhere)):
        wrong = Settings.model_validate(settings.model_dump() | {field: value})
        with pytest.raises(UserError, match=field) as told:
            daemon.ensure(wrong)
        assert "\n" not in str(told.value)
    assert daemon.running(settings) is None


def test_a_server_that_dies_as_it_starts_tells_its_last_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSMITH_MAX_STEPS", "none")  # the new process reads its own environment
    with pytest.raises(UserError, match=r"^MODELSMITH_MAX_STEPS: max_steps: "):
        daemon.ensure(settings)


def test_a_home_that_cannot_be_written_is_told() -> None:
    with pytest.raises(UserError, match=r"^/proc/nowhere/sandbox cannot be written: .*MODELSMITH_HOME"):
        daemon.ensure(Settings(home=Path("/proc/nowhere")))


def test_a_server_of_another_version_is_named_in_words() -> None:
    server = daemon.Address("http://127.0.0.1:9", "key", terms={"code": "a1"}, by_hand=True)
    with pytest.raises(UserError, match="other settings: an older or newer program"):
        daemon.retire(server, {"code": "b2"})
