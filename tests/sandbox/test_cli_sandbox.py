"""`python -m agent sandbox …` as a person meets it: nothing started in vain, mistakes in one line, a demo."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox

from tests.conftest import ROOT, Cli

from .serving import Served, serving


@pytest.fixture
def at_home(home: Path) -> Iterator[Path]:
    """A home whose server, if one was started, is stopped at the end."""
    yield home
    told = home / "sandbox" / "server.json"
    if told.exists():
        pid = json.loads(told.read_text())["pid"]
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 20
        while told.exists() or Path("/proc", str(pid)).exists():
            assert time.monotonic() < end
            time.sleep(0.05)


def one_line(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 2 and answer.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", answer.stderr), answer.stderr
    return answer.stderr


def test_looking_starts_no_server(cli: Cli, at_home: Path) -> None:
    told = json.loads(cli("sandbox", "status", "--json").stdout)
    assert told["place"] == "embedded" and told["server"].startswith("does not run")
    assert told["jail"] and ("cgroup" in told["caps"]) and (told["running"], told["paused"]) == (0, 0)
    assert cli("sandbox", "list").stdout == "No sandbox lives.\n"
    assert json.loads(cli("sandbox", "list", "--json").stdout) == []
    assert cli("sandbox", "kill", "--all").returncode == 0
    assert "no sandbox i0" in one_line(cli("sandbox", "kill", "i0"))
    assert list(at_home.iterdir()) == []


def test_the_demo_shows_cells_walls_and_files_and_leaves_nothing_alive(cli: Cli, at_home: Path) -> None:
    started = time.monotonic()
    demo = cli("sandbox", "demo")
    assert demo.returncode == 0 and demo.stderr == ""
    assert time.monotonic() - started < 25  # about 8 s on an idle machine
    for shown in (
        r"uid 1000, /home/user",
        r"loss \d",
        r"is refused: it is not on the allow list",
        r"\[deadline, 1\.\d",
    ):
        assert re.search(shown, demo.stdout), shown
    assert "written from outside" in demo.stdout and "MODELSMITH" not in demo.stdout
    assert cli("sandbox", "list").stdout == "No sandbox lives.\n"
    assert "runs at http://127.0.0.1:" in cli("sandbox", "status").stdout


def test_list_and_kill_of_living_and_paused_sandboxes(cli: Cli, at_home: Path) -> None:
    with serving(at_home, MODELSMITH_SANDBOX_POOL="0") as served:
        made = [Sandbox.create(metadata={"n": str(n)}, **served.options) for n in range(2)]
        made[1].pause()
        rows = {row["id"]: row for row in json.loads(cli("sandbox", "list", "--json").stdout)}
        assert {key: row["state"] for key, row in rows.items()} == {
            made[0].sandbox_id: "running",
            made[1].sandbox_id: "paused",
        }
        table = cli("sandbox", "list").stdout.splitlines()
        assert table[0].split()[:2] == ["id", "state"] and any(line.endswith("n=1") for line in table[1:])
        assert cli("sandbox", "kill", made[0].sandbox_id).stdout == f"ended {made[0].sandbox_id}\n"
        assert not made[0].is_running()
    paused = json.loads(cli("sandbox", "list", "--json").stdout)
    assert paused == [rows[made[1].sandbox_id]], "the same without a server"
    assert cli("sandbox", "kill", "--all").stdout == f"ended {made[1].sandbox_id}\n"
    assert cli("sandbox", "list").stdout == "No sandbox lives.\n"


def test_a_wrong_id_and_none_are_mistakes(cli: Cli, served: Served) -> None:
    for wrong in ("nothing", "../../etc", "i" + "0" * 19):
        assert f"no sandbox {wrong}" in one_line(cli("sandbox", "kill", wrong, MODELSMITH_HOME=str(served.home)))
    assert cli("sandbox", "kill").returncode == 2
    assert cli("sandbox", "kill", "--all", "i0").returncode == 2


def test_a_wrong_key_or_address_of_another_e2b_is_one_line(cli: Cli, served: Served) -> None:
    for verb in ("list", "demo"):
        refused = cli("sandbox", verb, E2B_API_KEY="wrong", E2B_API_URL=served.url)
        assert "key was refused" in refused.stderr and refused.stderr.count("\n") == 1
        nobody = cli("sandbox", verb, E2B_API_KEY="wrong", E2B_API_URL="http://127.0.0.1:1")
        assert "cannot be reached: Connection refused" in nobody.stderr and nobody.stderr.count("\n") == 1
        assert (refused.returncode, nobody.returncode) == (2, 2)


def test_another_e2b_is_looked_after_with_the_same_commands(cli: Cli, served: Served) -> None:
    there = {"E2B_API_KEY": served.key, "E2B_API_URL": served.url, "E2B_SANDBOX_URL": served.url}
    assert "self-hosted e2b" in cli("sandbox", "status", **there).stdout
    with Sandbox.create(**served.options) as sandbox:
        assert sandbox.sandbox_id in cli("sandbox", "list", **there).stdout
        assert cli("sandbox", "kill", sandbox.sandbox_id, **there).returncode == 0


def test_a_port_in_use_and_a_second_server_are_one_line(cli: Cli, home: Path, served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = cli("sandbox", "serve", "--port", port)
    assert f"error: Cannot listen on 127.0.0.1:{port}: Address already in use." in answer.stderr
    second = cli("sandbox", "serve", "--port", "0", MODELSMITH_HOME=str(served.home))
    assert "already uses" in one_line(second)


def test_a_home_that_cannot_be_written_is_one_line(cli: Cli) -> None:
    for verb in (["demo"], ["serve", "--port", "0"]):
        answer = cli("sandbox", *verb, MODELSMITH_HOME="/proc/nowhere")
        assert answer.returncode == 2 and answer.stderr.startswith("error: /proc/nowhere/sandbox cannot be written")


def test_serve_prints_what_a_program_needs_and_ends_on_ctrl_c(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "sandbox", "serve", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "MODELSMITH_SANDBOX_KEY": "a key; with 'marks'", "MODELSMITH_SANDBOX_POOL": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    lines = "".join(process.stdout.readline() for _ in range(3))
    shell = subprocess.run(["sh", "-c", f"{lines}\nenv"], capture_output=True, text=True, check=True).stdout
    said = dict(line.split("=", 1) for line in shell.splitlines() if line.startswith("E2B_"))
    assert said["E2B_API_KEY"] == "a key; with 'marks'"
    with Sandbox.create(
        api_key=said["E2B_API_KEY"], api_url=said["E2B_API_URL"], sandbox_url=said["E2B_SANDBOX_URL"]
    ) as sandbox:
        assert sandbox.run_code("1 + 1").text == "2"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0 and "Traceback" not in err
    assert not (home / "sandbox" / "server.json").exists()


def test_ctrl_c_in_the_demo_ends_its_sandbox(cli: Cli, at_home: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "agent", "sandbox", "demo"],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout
    while "import torch" not in demo.stdout.readline():
        pass
    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate(timeout=20)
    assert (demo.returncode, err) == (130, "")
    assert cli("sandbox", "list").stdout == "No sandbox lives.\n"


def test_the_template_is_printed_as_json(cli: Cli) -> None:
    assert json.loads(cli("sandbox", "template").stdout)["steps"]
    assert "E2B_API_KEY" in one_line(cli("sandbox", "template", "--build"))
