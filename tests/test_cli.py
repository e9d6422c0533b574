"""The command line as a person meets it: help, mistakes, cancelling, and the exit codes that scripts rely on."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cli as command_list
from tests.conftest import ROOT, Cli

# A command module as any other, made for these tests: it does what its argument says.
PROBE = """
import sys, types
from agent import cli
from agent.__main__ import main
from agent.errors import UserError

def run(args):
    if args.what == "mistake":
        raise UserError("The lamp is off. Switch it on.")
    if args.what == "crash":
        raise RuntimeError("a bug")
    if args.what == "wait":
        import signal
        print("waiting", flush=True)
        signal.pause()
    if args.what == "flood":
        for line in range(100_000):
            print(line)
    return 7

def add(commands):
    parser = commands.add_parser("probe", help="for tests")
    parser.add_argument("what")
    parser.set_defaults(run=run)

probe = types.ModuleType("probe_commands")
probe.add = add
sys.modules["probe_commands"] = probe
cli.MODULES.append("probe_commands")
sys.exit(main())
"""


def probe(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROBE, "probe", *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_help_lists_every_group_of_commands(cli: Cli) -> None:
    answer = cli("--help")
    assert answer.returncode == 0
    listed = re.findall(r"^    (\w+) ", answer.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(name.rpartition(".")[2] for name in command_list.MODULES)


def test_an_unknown_command_is_a_mistake_that_names_the_known_ones(cli: Cli) -> None:
    answer = cli("sandbx")
    assert answer.returncode == 2
    assert "'sandbx'" in answer.stderr and "'sandbox'" in answer.stderr


def test_a_mistake_is_one_line_on_stderr() -> None:
    process = probe("mistake")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (2, "", "error: The lamp is off. Switch it on.\n")


def test_debug_behind_the_command_shows_where_a_mistake_was_noticed() -> None:
    process = probe("mistake", "--debug")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "Traceback" in err and err.endswith("error: The lamp is off. Switch it on.\n")


def test_a_crash_keeps_its_traceback_and_fails() -> None:
    process = probe("crash")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" in err and "RuntimeError: a bug" in err


def test_a_command_chooses_its_own_exit_code() -> None:
    process = probe("nothing")
    process.communicate(timeout=30)
    assert process.returncode == 7


def test_ctrl_c_ends_quietly_with_130() -> None:
    process = probe("wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


def test_a_reader_that_leaves_early_is_no_error_to_talk_about() -> None:
    process = probe("flood")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 141


def test_a_server_for_other_machines_needs_a_real_key(cli: Cli) -> None:
    for key in ([], ["--key", "short"]):
        answer = cli("sandbox", "serve", "--host", "0.0.0.0", *key)
        assert answer.returncode == 2
        assert answer.stderr.startswith("error: 0.0.0.0 ") and "--key" in answer.stderr
        assert answer.stderr.count("\n") == 1


def test_numbers_out_of_range_are_refused_before_anything_starts(cli: Cli) -> None:
    for option, number in (("--port", "70000"), ("--idle-exit", "0"), ("--idle-exit", "nan")):
        answer = cli("sandbox", "serve", option, number)
        assert answer.returncode == 2
        assert option in answer.stderr


def test_wrong_settings_stop_a_command_with_one_line(cli: Cli, home: Path) -> None:
    (home / "config.toml").write_text('sandbox = "cloud"\n')
    answer = cli("sandbox", "status", COLUMNS="200")
    assert answer.returncode == 2
    assert answer.stderr == f"error: {home}{os.sep}config.toml: sandbox: Input should be 'auto', 'embedded' or 'e2b'.\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(home: Path, closed: str) -> None:
    line = f"exec {sys.executable} -m agent sessions list {closed}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_that_is_full_is_told_in_one_line(home: Path) -> None:
    line = f"exec {sys.executable} -m agent sessions list >/dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: the output cannot be written")
    assert done.stderr.count("\n") == 1


def test_a_home_that_cannot_be_written_is_told_in_one_line(cli: Cli) -> None:
    done = cli("sessions", "list", MODELSMITH_HOME="/proc/nowhere")
    assert done.returncode == 1 and done.stderr.startswith("error: Session log") and done.stderr.count("\n") == 1
    assert "Traceback" in cli("sessions", "list", "--debug", MODELSMITH_HOME="/proc/nowhere").stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sandbx"], "invalid choice: 'sandbx'"),
        (["sessions"], "required: VERB"),
        (["run", "x", "--max-steps", "many"], "--max-steps: 'many' is not a whole number of 1 or more"),
        (["run", "x", "--max-usd", "much"], "--max-usd: 'much' is not an amount of dollars"),
        (["run", "x", "--file", str(ROOT)], f"{ROOT} is a folder"),
        (["sessions", "list", "--limit", "0"], "--limit: '0' is not a whole number of 1 or more"),
        (["ui", "--port", "99999"], "--port: '99999' is not a port"),
        (["sandbox", "run", "/no/such", "--", "true"], "/no/such is not there"),
    ],
)
def test_a_wrong_word_or_number_is_told_in_one_line(arguments: list[str], told: str, cli: Cli) -> None:
    answer = cli(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("error: ") and told in answer.stderr and answer.stderr.count("\n") == 1


def test_without_a_command_the_help_is_shown(cli: Cli) -> None:
    assert cli().stdout == cli("--help").stdout != ""
