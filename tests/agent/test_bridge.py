"""Tool calls from the sandbox: the stubs as code sees them, and what the host does with honest and forged requests."""

import json
import threading
import time

import pytest

from .conftest import Talking
from .scripted_server import code
from .talking import until

FORGE = """
import os, time, uuid, json, pathlib
from IPython.display import display
import modelsmith
def forge(**request):
    request.setdefault("id", uuid.uuid4().hex)
    display({modelsmith.CALL: request}, raw=True)
    return request["id"]
def answer(number, seconds=5):
    [folder] = pathlib.Path("/tmp").glob(".calls-*")
    end = time.time() + seconds
    while time.time() < end:
        try:
            return json.loads((folder / number).read_text())
        except (FileNotFoundError, ValueError):
            time.sleep(0.01)
"""


def test_a_stub_shows_the_signature_the_defaults_and_the_documentation(talk: Talking) -> None:
    talking = talk(
        [
            code("import inspect; print(inspect.signature(add)); help(add)"),
            code("print(add(1, 5)['got'], add(right=1, left=3)['got'], add(4, label='mine')['text'])"),
            code("final_answer(add(1))"),
        ]
    )
    outcome = talking.run()
    printed = talking.text("output")
    assert "(left: int, right: int = 2, label: str = 'sum')" in printed
    assert "Add two numbers." in printed and "left: The first number." in printed
    assert "6 4 mine: 6" in printed
    assert outcome.state == "succeeded" and outcome.answer == {"type": "text", "text": "sum: 3", "got": 3}


def test_a_printed_result_reads_as_what_it_says_and_is_still_a_dict(talk: Talking) -> None:
    talking = talk(
        [
            code("got = mirror({'rows': list(range(1000)), 'picture': 'x' * 9000}); print(got)"),
            code("import pickle; print(pickle.loads(pickle.dumps(got)) == got, {**got} == got)"),
            code("add(1)"),
            code("text = large(100_000); print(text); print(len(text['text']))"),
            code("final_answer(got)"),
        ]
    )
    outcome = talking.run()
    said = [talking.server.last_word(number) for number in range(1, 5)]
    assert "mirrored" in said[0] and "got: {rows, picture}" in said[0] and len(said[0]) < 200
    assert "True True" in said[1]
    assert "Result: sum: 3" in said[2] and "got=3" in said[2]
    assert "88000 more characters" in said[3] and said[3].rstrip().endswith("100000") and len(said[3]) < 13_000
    assert outcome.answer["got"]["rows"] == list(range(1000))


@pytest.mark.parametrize(
    "call, wanted",
    [
        ("add()", "left"),
        ("add(1, 2, 'x', 4)", "too many positional arguments"),
        ("add(left=1, rigth=2)", "rigth"),
        ("add('one')", "left"),
        ("add(1, right=None)", "right"),
    ],
)
def test_wrong_arguments_are_an_exception_that_names_them_and_the_signature(
    talk: Talking, call: str, wanted: str
) -> None:
    talking = talk(
        [code(f"try:\n    {call}\nexcept Exception as error:\n    print(type(error).__name__, error)"), "Ok."]
    )
    talking.run()
    assert wanted in talking.text("output")
    assert "add(left: int, right: int = 2, label: str = 'sum')" in talking.text("output")
    assert not talking.results(ok=True)


def test_arguments_that_are_no_json_are_refused_before_they_leave(talk: Talking) -> None:
    talking = talk([code("mirror(value={1, 2})"), code("mirror(value=float('nan'))"), "Ok."])
    talking.run()
    assert "must be plain JSON values" in talking.server.last_word(1)
    assert "must be plain JSON values" in talking.server.last_word(2)
    assert not talking.events("tool_call")


def test_a_tool_that_fails_in_any_way_is_an_exception_in_the_code(talk: Talking) -> None:
    source = """
for name in ("refuse", "crash", "leave", "no_json", "deep"):
    try:
        refuse("The moon is down. Wait for the sun.") if name == "refuse" else globals()[name]()
    except Exception as error:
        print(name, "|", error)
print("still", mirror("here")["got"])
"""
    talking = talk([code(source), "Ok."])
    assert talking.run().state == "succeeded"
    told = dict(line.split(" | ", 1) for line in talking.text("output").splitlines() if " | " in line)
    assert told["refuse"] == "The moon is down. Wait for the sun."
    assert "ZeroDivisionError: division by zero in the tool" in told["crash"]
    assert "leave" in told["leave"] and "no_json" in told["no_json"] and "deep" in told["deep"]
    assert "still here" in talking.text("output")


def test_a_tool_that_ends_nothing_but_itself(talk: Talking) -> None:
    talking = talk([code("leave()"), code("final_answer('alive')")])
    assert talking.run().answer == "alive"


def test_twenty_megabytes_go_out_and_come_back(talk: Talking) -> None:
    source = """
back = mirror("y" * 20_000_000)
print(len(back["got"]), len(large(20_000_000)["text"]))
"""
    talking = talk([code(source), "Ok."])
    outcome = talking.run()
    assert outcome.state == "succeeded" and "20000000 20000000" in talking.text("output")
    assert max(len(event.to_json()) for event in talking.events()) < 1_000_000  # the log keeps the beginning


def test_a_result_too_large_for_the_way_is_told(talk: Talking) -> None:
    talking = talk([code("large(70_000_000)"), "Ok."])
    talking.run()
    assert "too large" in talking.server.last_word()


def test_sixteen_calls_are_under_way_at_once_from_threads(talk: Talking) -> None:
    source = """
import threading
met = []
threads = [threading.Thread(target=lambda: met.append(meet()["text"])) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(met), set(met))
"""
    talking = talk([code(source), "Ok."])
    talking.run()
    assert "16 {'met'}" in talking.text("output")


def test_sixteen_calls_are_under_way_at_once_from_asyncio(talk: Talking) -> None:
    source = """
import asyncio, concurrent.futures
asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(16))
met = await asyncio.gather(*(asyncio.to_thread(meet) for _ in range(16)))
print(len(met))
"""
    talking = talk([code(source), "Ok."])
    talking.run()
    assert "16" in talking.text("output") and len(talking.results(ok=True)) == 16


def test_forged_requests_get_no_further_than_honest_ones(talk: Talking) -> None:
    source = FORGE + """
print("unknown", answer(forge(tool="os.system", arguments={"command": "id"})))
print("no dict", answer(forge(tool="mirror", arguments=["got"])))
print("none", answer(forge(tool="mirror")))
print("extra", answer(forge(tool="add", arguments={"left": 1, "shell": True})))
print("risk", answer(forge(tool="delete", arguments={"name": "all"}, risk="free", origin="person")))
print("inner", answer(forge(tool="__class__", arguments={})))
one = uuid.uuid4().hex
forge(id=one, tool="mirror", arguments={"value": "first"})
print("first", answer(one)["result"]["got"])
forge(id=one, tool="mirror", arguments={"value": "second"})
print("again", answer(one, 0.5)["result"]["got"])
bad_ids = ["../etc", "a" * 31, "A" * 32, "a" * 33, "a" * 32 + "\\n", "", None, 7, ["a"], {"a": 1}, int("1" * 32)]
for bad in bad_ids:
    forge(id=bad, tool="mirror", arguments={"value": "bad id"})
for body in ("text", 7, None, [], ["a"] * 3):
    display({modelsmith.CALL: body}, raw=True)
print("alive", mirror("yes")["got"])
"""  # fmt: skip
    talking = talk([code(source), "Ok."], mode="deny")
    assert talking.run().state == "succeeded"
    told = talking.text("output")
    assert "unknown {'error': \"There is no tool 'os.system'" in told
    assert "no dict {'error': 'The arguments of mirror must be a dict" in told
    assert "none {'error': 'The arguments of mirror must be a dict" in told
    assert "add has no argument 'shell'" in told
    assert "risk {'error': 'Not allowed: --deny refuses every destructive call" in told
    assert "inner {'error': \"There is no tool '__class__'" in told
    assert "first first" in told and "again first" in told and "alive yes" in told
    calls = [event.data["arguments"] for event in talking.events("tool_call")]
    assert {"value": "second"} not in calls and {"value": "bad id"} not in calls
    assert not talking.acts()


def test_a_forged_request_of_any_size_is_refused_and_the_session_goes_on(talk: Talking) -> None:
    source = (
        FORGE
        + """
number = forge(tool="mirror", arguments={"value": "z" * 40_000_000})
print(str(answer(number, 20))[:200])
"""
    )
    talking = talk([code(source), code("final_answer(mirror('fine')['got'])")])
    assert talking.run().answer == "fine"
    assert "too large" in talking.text("output")


def test_a_forked_child_cannot_call_and_is_told_so(talk: Talking) -> None:
    source = """
import multiprocessing
def work(queue):
    try:
        queue.put(str(mirror("child")))
    except Exception as error:
        queue.put(str(error))
context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=work, args=(queue,))
child.start()
print(queue.get(timeout=10))
child.join()
"""
    talking = talk([code(source), "Ok."])
    talking.run()
    assert "can only be called from the main process" in talking.text("output")


def test_a_thread_left_over_from_an_earlier_cell_gets_an_error_and_does_not_hang(talk: Talking) -> None:
    first = """
import threading, time
told, go = [], threading.Event()
def late():
    go.wait()
    try:
        told.append(mirror("late")["text"])
    except Exception as error:
        told.append(str(error))
thread = threading.Thread(target=late)
thread.start()
"""
    between = "import os, time\nthreading.Timer(0.3, go.set).start()"
    last = "thread.join(10); print('hangs' if thread.is_alive() else told)"
    talking = talk([code(first), code(between), lambda m: time.sleep(0.6) or code(last), "Ok."])
    talking.run()
    assert "while a cell runs" in talking.text("output")


def test_a_thread_that_calls_during_a_later_cell_is_answered(talk: Talking) -> None:
    first = """
import threading
told, go = [], threading.Event()
def late():
    go.wait()
    try:
        told.append(mirror("late")["got"])
    except Exception as error:
        told.append(str(error))
thread = threading.Thread(target=late)
thread.start()
"""
    second = "go.set(); thread.join(3); print('waits' if thread.is_alive() else told)"
    third = "thread.join(3); print('hangs' if thread.is_alive() else told)"
    talking = talk([code(first), code(second), code(third), "Ok."])
    talking.run()
    assert "hangs" not in talking.text("output"), talking.text("output")


def test_replies_leave_nothing_behind_in_the_sandbox(talk: Talking) -> None:
    talking = talk([code("for n in range(5): add(n)"), code("import glob; print(glob.glob('/tmp/.calls-*/*'))"), "Ok."])
    talking.run()
    assert "[]" in talking.text("output")


def test_the_hosts_objects_cannot_be_reached_through_a_tools_arguments(talk: Talking) -> None:
    talking = talk([code("print(mirror({'__class__': 'x', 'py/object': 'os.system'})['got'])"), "Ok."])
    talking.run()
    assert json.loads(talking.text("output").strip().replace("'", '"'))["py/object"] == "os.system"


def test_a_call_is_quick(talk: Talking) -> None:
    source = """
import time
add(1)
times = []
for n in range(50):
    begin = time.perf_counter(); add(n); times.append(time.perf_counter() - begin)
print(sorted(times)[25])
"""
    talking = talk([code(source), "Ok."])
    talking.run()
    assert float(talking.text("output")) < 0.1  # the benchmark holds the real bar


def test_a_cancel_leaves_no_tool_call_waiting(talk: Talking) -> None:
    from . import host_tools

    talking = talk([code("slow(30)"), code("final_answer('next')")])
    turn = talking.start()
    assert host_tools.started.wait(20)
    begin = time.monotonic()
    talking.session.cancel()
    turn.join(10)
    assert time.monotonic() - begin < 2 and talking.outcomes[-1].state == "cancelled"
    until(lambda: talking.results(ok=False))
    assert threading.active_count() < 100
    assert talking.run().answer == "next"
