"""The opener: exact deadlines, true ends, living sandboxes found again; on a real server through the official SDK."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox as Remote

from agent.errors import UserError
from agent.sandbox.open import GRACE, Sandbox, SandboxGone, open_sandbox
from agent.sandbox.place import place
from agent.settings import Settings

from .relay import relaying
from .serving import ROOT, Served, serving

SLEEP = "import time; time.sleep(30)"
DEAF = """
import time
while True:
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        pass
"""


def by_key(served: Served, url: str | None = None) -> Settings:
    """Settings of somebody who hosts an E2B: two URLs and a key."""
    url = url or served.url
    return Settings(home=served.home / "other", e2b_api_key=served.key, e2b_api_url=url, e2b_sandbox_url=url)


@pytest.fixture
def box(served: Served) -> Iterator[Sandbox]:
    with closing(open_sandbox(Settings(home=served.home))) as opened:
        yield opened


def until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


# -- cells -------------------------------------------------------------------------------------------------------------


def test_a_cell_ends_ok_with_its_result(box: Sandbox) -> None:
    cell = box.run_cell("print('out'); 6 * 7")
    assert (cell.end, cell.execution.text, cell.kernel_lost) == ("ok", "42", False)
    assert cell.execution.logs.stdout == ["out\n"]
    assert len(cell.execution.results) == 1, "our own end mark is not shown"


@pytest.mark.parametrize(("code", "name"), [("1 / 0", "ZeroDivisionError"), ("1 +", "SyntaxError")])
def test_an_error_in_the_code_is_an_error_and_no_loss(box: Sandbox, code: str, name: str) -> None:
    box.run_cell("kept = 1")
    cell = box.run_cell(code)
    assert cell.end == "error" and cell.execution.error and cell.execution.error.name == name
    assert not cell.kernel_lost and box.run_cell("kept").execution.text == "1"


def test_the_deadline_is_exact_and_variables_stay(box: Sandbox) -> None:
    for seconds in (1.0, 0.5):
        cell = box.run_cell(f"kept = {seconds}; {SLEEP}", deadline=seconds)
        assert cell.end == "deadline" and not cell.kernel_lost
        assert seconds <= cell.seconds < seconds + 0.6
        assert box.run_cell("kept").execution.text == str(seconds)


def test_the_deadline_stands_still_while_the_host_works(box: Sandbox) -> None:
    def work(_: object) -> None:
        with box.hold():
            time.sleep(1.5)

    cell = box.run_cell("print('up', flush=True); import time; time.sleep(0.2); 'done'", deadline=1, on_stdout=work)
    assert (cell.end, cell.execution.text) == ("ok", "done")


def test_interrupts_from_another_thread_keep_the_variables_twenty_times_in_a_row(box: Sandbox) -> None:
    for number in range(20):
        cell = box.run_cell(
            f"n = {number}; print('up', flush=True); {SLEEP}",
            on_stdout=lambda _: threading.Thread(target=box.interrupt).start(),
        )
        assert cell.end == "interrupted" and not cell.kernel_lost and cell.seconds < 5
        assert box.run_cell("n").execution.text == str(number)


def test_an_interrupt_that_comes_as_the_cell_ends_harms_nothing_after_it(box: Sandbox) -> None:
    box.run_cell("import time; kept = 1")
    choose, ended = random.Random(7), set()
    for _ in range(30):
        late = threading.Timer(choose.uniform(0.0, 0.06), box.interrupt)
        late.start()
        ended.add(box.run_cell("time.sleep(0.03)").end)
        late.join()
        after = box.run_cell("time.sleep(0.03); kept")
        assert (after.end, after.execution.text, after.kernel_lost) == ("ok", "1", False)
    assert ended == {"ok", "interrupted"}


def test_an_interrupt_without_a_cell_does_nothing(box: Sandbox) -> None:
    box.run_cell("kept = 1")
    box.interrupt()
    assert box.run_cell("kept").end == "ok"


def test_a_cell_deaf_to_interrupts_costs_its_kernel_and_says_so(box: Sandbox) -> None:
    box.run_cell("gone = 1")
    cell = box.run_cell(DEAF, deadline=1)
    assert cell.end == "deadline" and cell.kernel_lost
    assert cell.seconds < 1 + GRACE + 3
    assert box.run_cell("'gone' in globals()").execution.text == "False"


def test_a_dead_kernel_is_reported_and_the_next_one_is_prepared_again(box: Sandbox) -> None:
    box.boot_code = ["helper = 'from boot'"]
    assert box.run_cell("x = 1; helper").execution.text == "from boot"
    cell = box.run_cell("import os; os._exit(3)")
    assert cell.end == "kernel_died" and cell.kernel_lost and cell.seconds < 10
    assert box.run_cell("helper, 'x' in globals()").execution.text == "('from boot', False)"
    assert box.run_cell("1").end == "ok", "the new kernel's cells are marked too"


def test_a_kernel_that_died_between_two_cells_is_told_to_the_next(box: Sandbox) -> None:
    box.run_cell("x = 1")
    box.remote.commands.run(f"kill -9 {box.kernel_pid}")
    cell = box.run_cell("x")
    assert cell.end == "kernel_died" and cell.kernel_lost
    assert box.run_cell("'x' in globals()").execution.text == "False"


def test_output_arrives_in_order_on_the_callers_thread(box: Sandbox) -> None:
    heard: list[str] = []
    threads: set[int] = set()

    def hear(message: object) -> None:
        threads.add(threading.get_ident())
        heard.append(message.line if hasattr(message, "line") else "result " + message.text)

    cell = box.run_cell(
        "import sys\n"
        "for i in range(300): print(i, file=(sys.stdout, sys.stderr)[i % 2], flush=True)\n"
        "display('shown'); 'last'",
        on_stdout=hear,
        on_stderr=hear,
        on_result=hear,
    )
    assert cell.end == "ok" and threads == {threading.get_ident()}
    lines = "".join(line for line in heard if not line.startswith("result"))
    assert lines == "".join(f"{i}\n" for i in range(300))
    assert [line for line in heard if line.startswith("result")] == heard[-2:]


def test_a_callback_that_raises_stops_the_cell_and_is_raised(box: Sandbox) -> None:
    def refuse(_: object) -> None:
        raise ValueError("enough")

    started = time.monotonic()
    with pytest.raises(ValueError, match="enough"):
        box.run_cell(f"kept = 5; print('up', flush=True); {SLEEP}", on_stdout=refuse)
    assert time.monotonic() - started < 3
    assert box.run_cell("kept").execution.text == "5"


def test_ctrl_c_stops_a_silent_cell_at_once(box: Sandbox) -> None:
    box.run_cell("kept = 6")
    started = time.monotonic()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        box.run_cell(SLEEP)
    assert time.monotonic() - started < 2
    assert box.run_cell("kept").execution.text == "6"


# -- the sandbox's life ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "tear"])
def test_a_stream_that_stops_short_is_no_success_and_keeps_the_kernel(served: Served, how: str) -> None:
    with relaying(served.url) as relay, closing(open_sandbox(by_key(served, relay.url))) as box:
        box.run_cell("kept = 1")
        cell = box.run_cell(f"print('up', flush=True); {SLEEP}", on_stdout=lambda _: getattr(relay, how)())
        assert (cell.end, cell.execution.error, cell.kernel_lost) == ("cut", None, False)
        assert cell.seconds < 10
        assert box.run_cell("kept").execution.text == "1"


def test_a_server_killed_in_mid_cell_is_a_sandbox_that_is_gone(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as served:
        box = open_sandbox(Settings(home=served.home))
        started = time.monotonic()
        with pytest.raises(SandboxGone):
            box.run_cell(f"print('up', flush=True); {SLEEP}", on_stdout=lambda _: served.process.kill())
        assert time.monotonic() - started < 20  # the cell would have slept for a minute
        for again in (lambda: box.run_cell("1"), lambda: box.command("true")):
            with pytest.raises(SandboxGone):
                again()


@pytest.mark.parametrize("when", ["between cells", "in a cell", "in a command"])
def test_a_sandbox_that_was_ended_is_gone_at_once(served: Served, when: str) -> None:
    box = open_sandbox(Settings(home=served.home))
    box.run_cell("1")
    if when == "between cells":
        Remote.kill(box.id, **served.options)
    else:
        threading.Timer(0.5, Remote.kill, (box.id,), served.options).start()
    started = time.monotonic()
    with pytest.raises(SandboxGone):
        box.command("sleep 30") if when == "in a command" else box.run_cell(SLEEP)
    assert time.monotonic() - started < 3


def test_the_lifetime_is_extended_while_work_runs_and_only_then(served: Served) -> None:
    with closing(open_sandbox(Settings(home=served.home, sandbox_timeout=2))) as box:
        assert box.run_cell("import time; time.sleep(3); 'alive'").execution.text == "alive"
        assert box.command("sleep 3; echo alive") == (0, "alive\n", "")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert box.run_cell("time.sleep(0.1)").end == "ok"
        until(lambda: not box.remote.is_running(), 4)


def test_another_process_finds_the_living_sandbox_by_its_id(served: Served) -> None:
    code = (
        "import pathlib, sys; from agent.settings import Settings; from agent.sandbox.open import open_sandbox\n"
        "box = open_sandbox(Settings(home=pathlib.Path(sys.argv[1])))\n"
        "box.run_cell('x = 41'); print(box.id)"
    )
    command = [sys.executable, "-c", code, served.home]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    with closing(open_sandbox(Settings(home=served.home), sandbox_id=found)) as box:
        box.boot_code = ["helper = 1"]
        cell = box.run_cell("x + helper")
        assert box.id == found and cell.execution.text == "42"
        assert len(cell.execution.results) == 1


def test_a_dead_or_made_up_id_is_gone(served: Served, box: Sandbox) -> None:
    box.close()
    for dead in (box.id, "i" + "0" * 19, "no such thing"):
        with pytest.raises(SandboxGone):
            open_sandbox(Settings(home=served.home), sandbox_id=dead)


def test_metadata_and_environment_are_passed_on(served: Served) -> None:
    settings = Settings(home=served.home)
    with closing(open_sandbox(settings, metadata={"session": "s1"}, envs={"COLOUR": "red"})) as box:
        assert box.remote.get_info().metadata == {"session": "s1"}
        assert box.run_cell("import os; os.environ['COLOUR']").execution.text == "red"
        assert box.command("echo $COLOUR; echo no >&2; exit 3") == (3, "red\n", "no\n")


# -- places ------------------------------------------------------------------------------------------------------------


def test_a_self_hosted_e2b_behaves_the_same(served: Served) -> None:
    with closing(open_sandbox(by_key(served))) as box:
        assert box.where.name == "self-hosted e2b"
        assert box.run_cell("kept = 1; 6 * 7").execution.text == "42"
        late = box.run_cell(SLEEP, deadline=0.5)
        assert late.end == "deadline" and late.seconds < 1.2
        assert box.run_cell("kept").execution.text == "1"
        died = box.run_cell("import os; os.kill(os.getpid(), 9)")
        assert died.end == "kernel_died" and died.kernel_lost
        again = open_sandbox(by_key(served), sandbox_id=box.id)
        assert again.run_cell("'kept' in globals()").execution.text == "False"
    assert not (served.home / "other").exists(), "no server of our own was started"


def test_a_refused_key_and_an_unreachable_address_are_one_line(served: Served) -> None:
    wrong = by_key(served).model_copy(update={"e2b_api_key": Settings(home="/", e2b_api_key="wrong").e2b_api_key})
    with pytest.raises(UserError, match=r"^The key was refused \(self-hosted e2b\)\. .*E2B_API_KEY"):
        open_sandbox(wrong)
    with pytest.raises(UserError, match=r"^http://127\.0\.0\.1:1 cannot be reached: Connection refused"):
        open_sandbox(by_key(served, "http://127.0.0.1:1"))


def test_the_place_follows_from_the_settings(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2B_DEBUG", "true")
    cloud = place(Settings(home=served.home, e2b_api_key="k", e2b_template="modelsmith"))
    assert (cloud.name, cloud.template, cloud.options) == ("e2b", "modelsmith", {"api_key": "k", "debug": False})
    for settings in (
        Settings(home=served.home),
        Settings(home=served.home, e2b_api_key="k", sandbox="embedded"),
    ):
        there = place(settings)
        assert there.name == "embedded" and there.options["api_url"] == served.url
        assert served.key not in repr(there)
    for wrong in (
        Settings(home=served.home, sandbox="e2b"),
        Settings(home=served.home, sandbox="e2b", e2b_api_key="k", offline=True),
        Settings(home=served.home, e2b_api_key="k", e2b_sandbox_url="http://127.0.0.1:1"),
    ):
        with pytest.raises(UserError):
            place(wrong)


def test_a_proxy_in_the_environment_is_not_asked_for_our_own_address(served: Served) -> None:
    code = (
        "import pathlib, sys; from agent.settings import Settings; from agent.sandbox.open import open_sandbox\n"
        "box = open_sandbox(Settings(home=pathlib.Path(sys.argv[1]))); print(box.run_cell('1 + 1').execution.text)\n"
        "box.close()"
    )
    dead = {name: "http://127.0.0.1:1" for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")}
    ran = subprocess.run(
        [sys.executable, "-c", code, served.home],
        cwd=ROOT,
        env={**os.environ, **dead, "NO_PROXY": "example.com"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout == "2\n", ran.stderr
