"""The guest's process service, driven by the official client: commands, terminals, deadlines, disconnects."""

import asyncio
import base64
import hashlib
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2b.exceptions import AuthenticationException, InvalidArgumentException, NotFoundException, SandboxException
from e2b.exceptions import TimeoutException as SdkTimeout
from e2b.sandbox.commands.command_handle import CommandExitException, PtySize
from e2b.sandbox_async.commands.command import Commands as AsyncCommands
from e2b.sandbox_sync.commands.command import Commands
from e2b.sandbox_sync.commands.pty import Pty

from agent.sandbox.embedded.guest.tree import members
from tests.sandbox.leftovers import until_none
from tests.sandbox.process_server import Server, bash, open_stream, read_until, unary


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.close()


@pytest.fixture
def commands(server: Server) -> Commands:
    return server.client(Commands)


@pytest.fixture
def pty(server: Server) -> Pty:
    return server.client(Pty)


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_output_comes_in_order_with_both_streams_apart(commands: Commands) -> None:
    seen: list[tuple[str, str]] = []
    script = "for i in 1 2 3; do echo out$i; sleep 0.05; echo err$i >&2; sleep 0.05; done"
    result = commands.run(
        script, on_stdout=lambda t: seen.append(("out", t)), on_stderr=lambda t: seen.append(("err", t))
    )
    assert seen == [(stream, f"{stream}{i}\n") for i in (1, 2, 3) for stream in ("out", "err")]
    assert (result.stdout, result.stderr) == ("out1\nout2\nout3\n", "err1\nerr2\nerr3\n")
    assert (result.exit_code, result.error) == (0, None)


def test_exit_codes_and_signals_are_told_apart(commands: Commands) -> None:
    with pytest.raises(CommandExitException) as failed:
        commands.run("echo partial; exit 7")
    assert (failed.value.exit_code, failed.value.error, failed.value.stdout) == (7, "exit status 7", "partial\n")
    with pytest.raises(CommandExitException) as killed:
        commands.run("kill -9 $$")
    assert (killed.value.exit_code, killed.value.error) == (-1, "signal: killed")


def test_environment_is_the_guests_with_the_callers_on_top(server: Server, commands: Commands) -> None:
    result = commands.run("echo $FROM $MINE; pwd", envs={"MINE": "caller"})
    assert result.stdout == f"guest caller\n{server.home}\n"
    assert commands.run("echo $FROM", envs={"FROM": "caller"}).stdout == "caller\n"
    (server.home / "sub").mkdir()
    assert commands.run("pwd", cwd="sub").stdout == f"{server.home}/sub\n"


def test_what_cannot_start_says_why(server: Server, commands: Commands) -> None:
    with pytest.raises(InvalidArgumentException, match="'/no/such/place' does not exist"):
        commands.run("true", cwd="/no/such/place")
    (server.home / "file").write_text("")
    with pytest.raises(InvalidArgumentException, match="not a directory"):
        commands.run("true", cwd="file")
    with pytest.raises(AuthenticationException, match="no user 'root'"):
        commands.run("true", user="root")
    assert commands.run("true", user="user").exit_code == 0
    for extra in ({}, {"pty": {"size": {"cols": 80, "rows": 24}}}):
        with open_stream(server, "Start", {"process": {"cmd": "no-such-program"}, **extra}) as stream:
            answer = read_until(stream, b'"error"')
        assert b"invalid_argument" in answer and b"no-such-program" in answer
    assert commands.list() == []


def test_input_is_delivered_and_its_end_too(commands: Commands) -> None:
    handle = commands.run("cat; sleep 0.5; echo done", background=True, stdin=True)
    handle.send_stdin("one\n")
    commands.stream_input(handle.pid, ["two\n", b"three\n"])
    handle.close_stdin()
    with pytest.raises(SandboxException, match="closed"):
        handle.send_stdin("late")
    assert handle.wait().stdout == "one\ntwo\nthree\ndone\n"


def test_large_input_waits_for_a_slow_reader(commands: Commands) -> None:
    handle = commands.run("sleep 0.3; md5sum", background=True, stdin=True)
    data = os.urandom(2_000_000)
    handle.send_stdin(data)
    handle.close_stdin()
    assert handle.wait().stdout.split()[0] == hashlib.md5(data).hexdigest()


def test_without_input_a_command_reads_nothing(server: Server, commands: Commands) -> None:
    handle = commands.run("cat; sleep 5", background=True)
    with pytest.raises(SandboxException, match="closed"):
        handle.send_stdin("x")
    handle.kill()
    with open_stream(server, "Start", bash("read line; echo got $line")) as stream:
        pid = int(re.search(rb'"pid":(\d+)', read_until(stream, b"}}}"))[1])
        commands.send_stdin(pid, "old-sdk\n")
        assert base64.b64encode(b"got old-sdk\n") in read_until(stream, b'"end"')


def test_background_commands_are_listed_connected_and_killed(commands: Commands) -> None:
    script = "while [ ! -e go ]; do sleep 0.02; done; echo after; sleep 60"
    handle = commands.run(script, background=True, timeout=0)
    (info,) = commands.list()
    assert (info.pid, info.cmd, info.args) == (handle.pid, "/bin/bash", ["-l", "-c", script])
    handle.disconnect()
    again = commands.connect(handle.pid)
    commands.run("touch go")
    assert next(iter(again)) == ("after\n", None, None)
    assert commands.kill(handle.pid) is True
    assert commands.list() == []
    assert commands.kill(handle.pid) is False
    with pytest.raises(CommandExitException) as ended:
        again.wait()
    assert ended.value.error == "signal: killed"


def test_two_clients_see_the_same_output(commands: Commands) -> None:
    first = commands.run("read go; echo both", background=True, stdin=True)
    second = commands.connect(first.pid)
    first.send_stdin("\n")
    assert first.wait().stdout == second.wait().stdout == "both\n"


def test_unknown_processes_are_not_found(commands: Commands, pty: Pty) -> None:
    assert commands.kill(999_999) is False
    for call in (
        lambda: commands.connect(999_999),
        lambda: commands.send_stdin(999_999, "x"),
        lambda: commands.close_stdin(999_999),
        lambda: commands.stream_input(999_999, ["x"]),
        lambda: pty.resize(999_999, PtySize(rows=1, cols=1)),
    ):
        with pytest.raises(NotFoundException, match="999999"):
            call()


def test_a_timeout_kills_the_whole_tree(server: Server, commands: Commands) -> None:
    script = "sleep 61 & setsid sleep 62 & (trap '' TERM; bash -c 'setsid sleep 63 & sleep 64') & echo $$ > root; wait"
    started = time.monotonic()
    with pytest.raises(SdkTimeout):
        commands.run(script, timeout=1)
    assert 0.9 < time.monotonic() - started < 5
    root = int((server.home / "root").read_text())
    wait_for(lambda: not members(root))
    left = [p for p in os.listdir("/proc") if p.isdigit() and is_ours(p, server.home)]
    assert left == []


def is_ours(pid: str, home: Path) -> bool:
    try:
        return pid != str(os.getpid()) and os.readlink(f"/proc/{pid}/cwd") == str(home)
    except OSError:
        return False


def test_a_deadline_outlives_its_client(server: Server, commands: Commands) -> None:
    handle = commands.run("sleep 60", background=True, timeout=1)
    handle.disconnect()
    assert alive(handle.pid)
    wait_for(lambda: not alive(handle.pid), 3)


def test_the_server_itself_reports_the_deadline(server: Server) -> None:
    with open_stream(server, "Start", bash("sleep 60"), **{"Connect-Timeout-Ms": "300"}) as stream:
        assert b"deadline_exceeded" in read_until(stream, b'"error"')
    wait_for(lambda: not server.service.running)


def test_a_deadline_of_connect_spares_the_command(commands: Commands) -> None:
    handle = commands.run("sleep 60", background=True, timeout=0)
    with pytest.raises(SdkTimeout):
        commands.connect(handle.pid, timeout=0.3).wait()
    assert [info.pid for info in commands.list()] == [handle.pid]


def test_keepalives_fill_the_silence(server: Server) -> None:
    with open_stream(server, "Start", bash("sleep 1.5"), **{"Keepalive-Ping-Interval": "1"}) as stream:
        assert b'{"event":{"keepalive":{}}}' in read_until(stream, b'"end"')


def test_twenty_megabytes_arrive_whole(commands: Commands) -> None:
    result = commands.run("seq -f %019.0f 1000000")
    assert result.stdout == "".join(f"{i:019d}\n" for i in range(1, 1_000_001))


def test_a_client_that_stops_reading_stops_the_command_and_leaving_frees_it(server: Server) -> None:
    script = "echo $$ > pid; for i in $(seq 400); do head -c 100000 /dev/zero; echo $i > progress; done; touch finished"
    stream = open_stream(server, "Start", bash(script))
    progress = server.home / "progress"
    wait_for(progress.exists)

    def stands_still() -> bool:
        before = progress.read_text()
        time.sleep(0.3)
        return before == progress.read_text()

    wait_for(stands_still)
    assert not (server.home / "finished").exists()
    (command,) = server.service.open
    assert sum(listener.weight for listener in command.listeners) < 2 * 1024 * 1024
    stream.close()
    wait_for((server.home / "finished").exists)


def test_an_abrupt_disconnect_leaves_the_command_running_and_no_listener(server: Server, commands: Commands) -> None:
    stream = open_stream(server, "Start", bash("echo started; sleep 60"))
    wait_for(lambda: any(command.listeners for command in server.service.open))
    read_until(stream, b"start")
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends a reset
    stream.close()
    (command,) = server.service.open
    wait_for(lambda: not command.listeners)
    assert [info.pid for info in commands.list()] == [command.pid]


def test_a_daemon_that_holds_the_pipe_does_not_hold_the_end(server: Server, commands: Commands) -> None:
    started = time.monotonic()
    script = "(sleep 2; echo late; echo alive > alive) & echo $!"
    result = commands.run(script)
    assert time.monotonic() - started < 1.8
    daemon = int(result.stdout)
    wait_for(lambda: not alive(daemon), 5)
    assert (server.home / "alive").exists(), "the daemon's later output must go on being read"
    wait_for(lambda: not server.service.open)


def test_a_talkative_daemon_does_not_hold_the_end_for_ever(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.sandbox.embedded.guest.command.LINGER", 0.5)
    result = commands.run("(for i in $(seq 40); do echo tick; sleep 0.05; done) & echo main")
    assert "main\n" in result.stdout and result.stdout.count("tick") < 40


def test_output_written_just_before_the_end_is_not_lost(commands: Commands) -> None:
    result = commands.run("exec > >(sleep 0.1; cat); head -c 200000 /dev/zero | tr '\\0' x")
    assert len(result.stdout) == 200_000


def test_a_slow_client_gets_all_although_a_daemon_holds_the_pipe(
    server: Server, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sandbox.embedded.guest.command.LINGER", 0.1)
    with open_stream(server, "Start", bash("setsid sleep 3 & exec dd if=/dev/zero bs=4096 status=none")) as stream:
        wait_for(lambda: any(command.paused for command in server.service.open))
        (info,) = commands.list()
        wait_for(lambda: Path(f"/proc/{info.pid}/wchan").read_text() in ("pipe_write", "anon_pipe_write"))
        counts = Path(f"/proc/{info.pid}/io").read_text()
        os.kill(info.pid, signal.SIGKILL)
        wait_for(lambda: not commands.list())
        time.sleep(0.3)  # longer than a daemon may hold back the end
        pieces = re.findall(rb'"stdout":"([^"]*)"', read_until(stream, b'"end"'))
    assert sum(len(base64.b64decode(piece)) for piece in pieces) == int(re.search(r"wchar: (\d+)", counts)[1])


def test_a_terminal_has_a_size_that_can_change(server: Server, pty: Pty) -> None:
    handle = pty.create(PtySize(rows=30, cols=100), timeout=20)
    seen = bytearray()
    reader = threading.Thread(target=lambda: consume(handle, seen))
    reader.start()
    pty.send_stdin(handle.pid, b"stty size; tty > name; trap 'stty size > resized' WINCH; echo $TERM > term\n")
    wait_for(lambda: b"30 100" in seen)
    wait_for(lambda: written(server.home / "term"))  # last, so the trap is set: a signal before it would be lost
    pty.resize(handle.pid, PtySize(rows=40, cols=120))
    pty.send_stdin(handle.pid, b"\n")
    wait_for(lambda: written(server.home / "resized"))
    assert (server.home / "resized").read_text() == "40 120\n"
    assert (server.home / "name").read_text().startswith("/dev/pts/")
    assert (server.home / "term").read_text() == "xterm-256color\n"
    pty.send_stdin(handle.pid, b"sleep 60\n")
    wait_for(lambda: b"sleep 60\r\n" in seen)
    pty.stream_input(handle.pid, [b"\x03", b"exit 3\n"])
    reader.join(10)
    assert not reader.is_alive()
    assert b"no job control" not in seen
    with pytest.raises(CommandExitException) as ended:
        handle.wait()
    assert ended.value.exit_code == 3


def test_a_terminal_is_the_controlling_one(server: Server) -> None:
    message = {"process": {"cmd": "/bin/sh", "args": ["-c", "echo mine > /dev/tty"]}, "pty": {}}
    with open_stream(server, "Start", message) as stream:
        assert base64.b64encode(b"mine\r\n") in read_until(stream, b'"end"')


def written(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def consume(handle: object, seen: bytearray) -> None:
    for _, _, data in handle:
        seen.extend(data or b"")


def test_input_of_the_wrong_kind_is_refused(commands: Commands, pty: Pty) -> None:
    terminal = pty.create(PtySize(rows=24, cols=80))
    with pytest.raises(SandboxException, match="'pty'"):
        commands.send_stdin(terminal.pid, "x")
    with pytest.raises(SandboxException, match="Ctrl"):
        commands.close_stdin(terminal.pid)
    piped = commands.run("cat", background=True, stdin=True)
    with pytest.raises(SandboxException, match="no terminal"):
        pty.resize(piped.pid, PtySize(rows=1, cols=1))
    assert pty.kill(terminal.pid) and not pty.kill(terminal.pid)


def test_terminate_goes_to_the_group_and_a_tag_names_it(server: Server, commands: Commands) -> None:
    script = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    with open_stream(server, "Start", {**bash(script), "tag": "job"}) as stream:
        read_until(stream, base64.b64encode(b"ready\n"))
        assert [info.tag for info in commands.list()] == ["job"]
        call = {"process": {"tag": "job"}, "signal": signal.SIGTERM}
        assert unary(server, "SendSignal", call).startswith(b"HTTP/1.1 200")
        rest = read_until(stream, b'"end"')
    assert base64.b64encode(b"bye\n") in rest and b'"exitCode":4' in rest
    assert b"not_found" in unary(server, "SendSignal", call)
    assert b"invalid_argument" in unary(server, "SendSignal", {"signal": 15})


def test_malformed_requests_are_the_callers_fault(server: Server) -> None:
    for rpc, message in (
        ("SendInput", {"process": {"pid": "x"}}),
        ("Update", {"process": 7}),
        ("SendSignal", {}),
    ):
        assert b"invalid_argument" in unary(server, rpc, message) or b"not_found" in unary(server, rpc, message)
    for process in ({}, {"cmd": "a\0b"}, {"cmd": "/bin/true", "envs": {"A=B": "x"}}, {"cmd": "/bin/true", "args": [1]}):
        with open_stream(server, "Start", {"process": process}) as stream:
            assert b"invalid_argument" in read_until(stream, b'"error"')


def test_the_async_client_runs_commands_side_by_side(server: Server) -> None:
    async def story() -> list[str]:
        commands = server.client(AsyncCommands)
        runs = [commands.run(f"sleep 0.5; echo {i}") for i in range(5)]
        return [result.stdout for result in await asyncio.gather(*runs)]

    started = time.monotonic()
    assert asyncio.run(story()) == [f"{i}\n" for i in range(5)]
    assert time.monotonic() - started < 2.2


def test_close_kills_everything(server: Server, commands: Commands) -> None:
    handle = commands.run("sleep 60 & sleep 61 & wait", background=True, timeout=0)
    commands.run("(sleep 62 &) ; sleep 0.05")  # a leftover that holds the pipe of a command that has ended
    asyncio.run_coroutine_threadsafe(server.service.close(), server.loop).result(10)
    assert not members(handle.pid) and not server.service.running and not server.service.open
    until_none(lambda: [p for p in os.listdir("/proc") if p.isdigit() and is_ours(p, server.home)])
