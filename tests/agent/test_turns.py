"""Turns from the task to the answer: what ends them, what stays between them, what the model is told."""

import base64
import json
from contextlib import closing
from pathlib import Path

import pytest

from agent import toolbox
from agent.cli.opening import open_screen
from agent.cli.view import View
from agent.policy import Mode
from agent.settings import load_settings

from .conftest import Talking
from .scripted_server import Fault, code
from .talking import until


def test_an_answer_ends_every_turn_and_variables_stay(talk: Talking) -> None:
    talking = talk(
        [
            code("x = 1\nimport math"),
            code("final_answer(f'first {x}')"),
            code("x += 1\ndef area(r): return math.pi * r"),
            code("final_answer(f'second {x}')"),
            code("final_answer(f'third {x} {area(1):.2f}')"),
        ]
    )
    assert [talking.run(word).answer for word in ("one", "two", "three")] == ["first 1", "second 2", "third 2 3.14"]
    assert talking.text("answer") == "first 1second 2third 2 3.14"


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    final_answer('it')\nexcept Exception:\n    print('caught')",
        "try:\n    final_answer('it')\nexcept:\n    print('caught')",
        "try:\n    final_answer('it')\nexcept:\n    final_answer('the wrong one')",
        "try:\n    final_answer('it')\nfinally:\n    print('cleaning up')",
        "import threading\nthread = threading.Thread(target=final_answer, args=['it'])\nthread.start(); thread.join()",
        "def deeper(n):\n    return final_answer('it') if n == 0 else deeper(n - 1)\ndeeper(50)",
        "import asyncio\nasync def say(): final_answer('it')\nawait say()",
        "for _ in range(3):\n    final_answer('it')\nprint('not reached')",
    ],
)
def test_an_answer_counts_wherever_it_is_given(talk: Talking, source: str) -> None:
    talking = talk([code(source), "A second step that nobody wants."])
    outcome = talking.run()
    assert (outcome.state, outcome.answer) == ("succeeded", "it")
    assert len(talking.server.bodies) == 1


def test_rich_answers_come_as_what_they_are(talk: Talking) -> None:
    talking = talk(
        [
            code("final_answer({'accuracy': 0.5, 'rows': [1, 2]})"),
            code("import pandas as pd; final_answer(pd.DataFrame({'a': [1, 2], 'b': ['x', None]}))"),
            code("import matplotlib.pyplot as plt; fig, ax = plt.subplots(); ax.plot([1, 2]); final_answer(fig)"),
            code("final_answer(None)"),
            code("final_answer()"),
            code("final_answer(object)"),
            code("final_answer(float('nan'))"),
        ]
    )
    assert talking.run().answer == {"accuracy": 0.5, "rows": [1, 2]}
    table = talking.run().answer
    assert (table["type"], table["columns"], table["rows"]) == ("table", ["a", "b"], [[1, "x"], [2, None]])
    plot = talking.run().answer
    assert plot["type"] == "plot" and base64.b64decode(plot["png"]).startswith(b"\x89PNG")
    assert talking.run().state == "succeeded" and talking.run().state == "succeeded"
    assert "object" in talking.run().answer and talking.run().answer == "nan"
    envelopes = [event.data["envelope"]["type"] for event in talking.events("answer") if "envelope" in event.data]
    assert envelopes == ["table", "plot"]


@pytest.mark.slow
@pytest.mark.parametrize("value", ["'x y ' * 5_000_000", "{'type': 'text', 'text': 'x y ' * 5_000_000}"])
def test_a_huge_answer_is_an_answer_and_the_session_goes_on(talk: Talking, value: str) -> None:
    talking = talk([code(f"final_answer({value})"), code("final_answer('small')")])
    assert talking.run().state == "succeeded"
    assert talking.run().answer == "small"
    assert talking.events("answer")


def test_prose_is_an_answer(talk: Talking) -> None:
    talking = talk(["The capital of France is Paris."])
    outcome = talking.run("What is the capital of France?")
    assert (outcome.state, outcome.answer) == ("succeeded", "The capital of France is Paris.")


def test_a_promise_without_code_is_asked_for_again(talk: Talking) -> None:
    talking = talk(["Let me load the data first.", code("final_answer('done')")])
    assert talking.run().answer == "done"
    assert "exactly one" in talking.server.last_word() and talking.events("error")[0].data["kind"] == "parse"


def test_four_unusable_answers_in_a_row_end_the_turn(talk: Talking) -> None:
    talking = talk(["Let me load the data first."] * 3 + [Fault("empty")] + [code("final_answer('back')")])
    outcome = talking.run()
    assert (outcome.state, outcome.exit_code) == ("failed", 1) and "4 times in a row" in outcome.reason
    assert talking.run("Again.").answer == "back"


def test_one_good_step_between_bad_answers_starts_the_count_anew(talk: Talking) -> None:
    bad = ["Let me load the data first."] * 3
    talking = talk([*bad, code("print(1)"), *bad, code("final_answer('still here')")])
    assert talking.run().answer == "still here"


def test_the_count_of_bad_answers_begins_anew_with_a_turn(talk: Talking) -> None:
    talking = talk(["Let me load the data first."] * 4 + ["I will run the code.", code("final_answer('good')")])
    assert talking.run().state == "failed"
    assert talking.run("Again.").answer == "good"


def test_long_output_is_cut_for_the_model_and_whole_in_a_file(talk: Talking) -> None:
    talking = talk(
        [
            code("for n in range(20_000): print(f'line {n}')"),
            lambda messages: code(f"final_answer(open({path_in(messages)!r}).read().count('line'))"),
        ]
    )
    assert talking.run().answer == 20_000
    told = talking.server.last_word()
    assert len(told) < 25_000 and "line 0\n" in told and "line 19999" in told and "line 9000\n" not in told
    assert talking.text("output").count("line") == 20_000


def path_in(messages: list[dict]) -> str:
    return messages[-1]["content"].split("all of it is in ")[1].split(" ")[0]


@pytest.mark.parametrize(
    "source",
    [
        "for n in range(300): display('x' * 15_000)",
        "raise ValueError('y ' * 1_000_000)",
        "'z ' * 1_000_000",
        "print('a ' * 1_000_000)\nraise ValueError('b' * 100_000)",
    ],
)
def test_no_way_of_saying_much_gets_much_to_the_model(talk: Talking, source: str) -> None:
    talking = talk([code(source), "Ok."])
    assert talking.run().state == "succeeded"
    assert len(talking.server.last_word()) < 45_000
    if "raise" in source:
        assert "ValueError" in talking.server.last_word()


def test_an_error_is_told_with_its_line_and_the_output_before_it(talk: Talking) -> None:
    talking = talk([code("print('before')\nx = [1]\nx[5]\nprint('after')"), "Ok."])
    talking.run()
    told = talking.server.last_word()
    assert "before" in told and "IndexError: list index out of range" in told and "x[5]" in told
    assert "\x1b" not in told and "after" not in told.replace("print('after')", "")


def test_plots_and_shown_tables_are_kept_as_artifacts(talk: Talking) -> None:
    talking = talk(
        [
            code("import matplotlib.pyplot as plt; plt.plot([1, 2, 3]); plt.show()"),
            code("import pandas as pd; show(pd.DataFrame({'loss': [0.5]}))"),
            "Ok.",
        ]
    )
    talking.run()
    plot, table = (event.data for event in talking.events("artifact"))
    assert plot["kind"] == "plot" and Path(plot["path"]).read_bytes().startswith(b"\x89PNG")
    assert table["kind"] == "table" and json.loads(Path(table["path"]).read_text())["rows"] == [[0.5]]
    assert "[plot shown to the person" in talking.server.last_word(1) and "loss" in talking.server.last_word(2)


def test_artifacts_of_a_resumed_session_do_not_replace_those_of_before(talk: Talking) -> None:
    draw = code("import matplotlib.pyplot as plt; plt.plot([1, 2, 3]); plt.show()")
    talking = talk([draw, "Ok.", draw, "Ok."])
    talking.run()
    again = talking.resumed()
    again.run()
    paths = [event.data["path"] for event in again.events("artifact")]
    assert len(set(paths)) == 2 and all(Path(path).exists() for path in paths)


def test_given_files_lie_in_the_sandbox_and_are_told(talk: Talking, tmp_path: Path) -> None:
    data = tmp_path / "my data.csv"
    data.write_bytes(b"a,b\n1,2\n" + bytes(range(256)))
    talking = talk([code("final_answer(len(open('my data.csv', 'rb').read()))")], cwd=tmp_path)
    assert talking.run("Count the bytes.", [data]).answer == 264
    assert "my data.csv" in talking.server.messages(0)[0]["content"]
    assert talking.events("task")[0].data["files"] == ["/home/user/my data.csv"]


def test_a_file_that_is_not_there_is_the_persons_mistake(talk: Talking, tmp_path: Path) -> None:
    from agent.errors import UserError

    talking = talk(["Ok."])
    with pytest.raises(UserError, match="There is no file"):
        talking.run("Read it.", [tmp_path / "nothing.csv"])
    assert talking.run("Then not.").answer == "Ok."


def test_circles_are_told_once_and_then_stopped(talk: Talking) -> None:
    talking = talk(lambda messages: code("print('the same')"))
    outcome = talking.run()
    assert outcome.state == "failed" and "circles" in outcome.reason
    assert len(talking.server.bodies) == 6
    told = [number for number in range(6) if "Doing it again will not help" in talking.server.last_word(number)]
    assert told == [3]


def test_circles_of_a_turn_before_are_forgotten(talk: Talking) -> None:
    def answer(messages: list[dict]) -> str:
        return code("print('the same')") if len(talking.server.bodies) % 3 else code("final_answer('so')")

    talking = talk(answer)
    assert [talking.run(f"turn {n}").answer for n in range(4)] == ["so"] * 4
    assert "Doing it again" not in "".join(talking.server.last_word(n) for n in range(len(talking.server.bodies)))


def test_work_that_changes_is_no_circle(talk: Talking) -> None:
    talking = talk([code("n = 0")] + [code("n += 1; print(n)")] * 12 + [code("final_answer(n)")])
    assert talking.run().answer == 12


def test_the_limit_of_steps_ends_the_turn(talk: Talking) -> None:
    talking = talk(lambda messages: code(f"print({len(messages)})"), max_steps=3)
    outcome = talking.run()
    assert (outcome.state, outcome.exit_code) == ("limit", 3) and "3 steps" in outcome.reason
    assert len(talking.server.bodies) == 3


def test_the_limit_of_minutes_ends_a_sleeping_cell(talk: Talking) -> None:
    talking = talk([code("import time; time.sleep(60)"), "Ok."], max_minutes=0.04)
    outcome = talking.run()
    assert (outcome.state, outcome.exit_code) == ("limit", 3) and "minutes" in outcome.reason
    assert talking.events()[-1].data["state"] == "limit"


def test_the_limit_of_minutes_ends_a_model_that_says_nothing(talk: Talking) -> None:
    talking = talk([Fault("hold")], max_minutes=0.03)
    outcome = talking.run()
    assert (outcome.state, outcome.exit_code) == ("limit", 3)
    assert talking.server.dropped.wait(5)


@pytest.mark.parametrize("window", [8_192, pytest.param(32_768, marks=pytest.mark.slow)])
def test_sixty_long_steps_fit_the_window_and_the_task_stays(talk: Talking, window: int) -> None:
    def answer(messages: list[dict]) -> str:
        text = json.dumps(messages)
        if "Sum up the work below" in messages[-1]["content"]:
            return "Steps were done; the number to keep is 4711."
        steps.append(len(text) // 4)
        assert "KEEP-THIS-TASK" in text
        if len(steps) > 60:
            return code("final_answer(f'kept {total}')")
        return code(f"total = {len(steps)}\nfor n in range(400): print('step {len(steps)}', 'x' * 40)")

    steps: list[int] = []
    talking = talk(answer, window=window)
    assert talking.run("KEEP-THIS-TASK: make many steps.").answer == "kept 60"
    assert max(steps) < window
    assert talking.events("error")[0].data["kind"] == "context"


def test_an_overflow_is_compacted_and_asked_once_more(talk: Talking) -> None:
    def answer(messages: list[dict]) -> str | Fault:
        sizes.append(len(json.dumps(messages)))
        if "Sum up the work below" in messages[-1]["content"]:
            return "Numbers were printed."
        if len(sizes) <= 5:
            return code(f"print({len(sizes)}, 'x' * 9000)")
        return Fault("overflow") if len(sizes) == 6 else code("final_answer('fits')")

    sizes: list[int] = []
    talking = talk(answer)
    assert talking.run().answer == "fits"
    assert sizes[-1] < sizes[5] * 0.8


def test_an_overflow_that_stays_ends_the_turn(talk: Talking) -> None:
    talking = talk([Fault("overflow")] * 4)
    outcome = talking.run()
    assert outcome.state == "failed" and "context window" in outcome.reason


def test_a_summary_that_fails_does_not_end_the_turn(talk: Talking) -> None:
    def answer(messages: list[dict]) -> str | Fault:
        if "Sum up the work below" in messages[-1]["content"]:
            return Fault("empty")
        steps.append(1)
        if len(steps) > 25:
            return code("final_answer('through')")
        return code(f"# {'a long comment ' * 60}\nfor n in range(200): print('step {len(steps)}', 'x' * 40)")

    steps: list[int] = []
    talking = talk(answer, window=8_192)
    assert talking.run().answer == "through"


def test_roles_take_turns_whatever_happened_before(talk: Talking) -> None:
    talking = talk(["Let me load it.", code("1/0"), Fault("length"), code("print(1)"), "Done.", "More."])
    talking.run()
    talking.run("And now?")
    roles = [message["role"] for message in talking.server.messages()]
    assert roles == ["system", *["user", "assistant"] * (len(roles) // 2 - 1), "user"][: len(roles)]


def test_a_resumed_session_remembers_and_keeps_its_sandbox(talk: Talking) -> None:
    talking = talk([code("x = 41"), "I set x.", code("final_answer(x + 1)")])
    talking.run("Set x to 41.")
    again = talking.resumed()
    assert again.run("Add one.").answer == 42
    said = [message["content"] for message in again.server.messages()[1:]]
    assert "Set x to 41." in said[0] and "x = 41" in said[1] and "Add one." in said[-1]
    assert "new one" not in said[-1] and "interrupted" not in said[-1]
    again.session.executor.cleanup()


def test_a_session_resumed_without_its_sandbox_gets_a_new_one_and_is_told(talk: Talking, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("seven")
    talking = talk([code("x = 1"), "Done.", code("final_answer(open('data.txt').read())")], cwd=tmp_path)
    talking.run("Set x.", [data])
    talking.sandbox.close()
    again = talking.resumed()
    assert again.run("Go on.").answer == "seven"
    assert "this is a new one" in again.server.last_word()
    again.session.executor.cleanup()


def test_the_system_prompt_is_the_same_in_every_step_of_a_turn(talk: Talking) -> None:
    talking = talk([code("print(1)"), code("print(2)"), "Ok."])
    talking.run()
    assert len({talking.server.messages(number)[0]["content"] for number in range(3)}) == 1
    until(lambda: talking.store.session(talking.session.id).state == "succeeded")


def test_trainings_that_went_on_are_told_as_they_stand_after_a_resume_and_once(
    talk: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolbox, "MODULES", ["tests.agent.training_tools"])
    talking = talk([code("for name in 'abc': begin(f'run-{name}')"), code("end('run-c')"), "Ok.", "Ok.", "Ok."])
    talking.run()
    (talking.settings.home / "run-a").write_text("succeeded")
    (talking.settings.home / "run-b").unlink()
    again = talking.resumed()
    again.run("And now?")
    told = again.server.last_word()
    assert "Run run-a, begun before, is now succeeded" in told and "run-b, begun before: There is no run" in told
    assert "run-c, begun" not in told, "its end was told before"
    assert [event.data["state"] for event in again.events("job") if event.data["id"] == "run-a"][-1] == "succeeded"
    again.run("And now?")
    assert "begun before" not in again.server.last_word().rpartition("Task:")[0].rpartition("Task:")[2]
    again.session.executor.cleanup()


def test_a_plan_is_told_and_kept_when_the_conversation_is_shortened_also_after_a_resume(talk: Talking) -> None:
    plan = code("show_plan(['look', 'build'], done=1)")
    talking = talk([plan, code("show_plan(['look'], done=2)"), "Ok."])
    talking.run()
    details = [event.data.get("detail", {}) for event in talking.events("state")]
    assert [detail["plan"]["done"] for detail in details if "plan" in detail] == [1]
    assert "done counts from 0" in talking.server.last_word()
    again = talking.resumed()
    again.session.context.summarise = lambda messages: "Much was done."
    again.session.agent.memory.steps *= 4
    again.session.context.sum_up(again.session.agent.memory)
    again.server.answers = ["Ok."]
    again.run("Go on.")
    read = "\n".join(message["content"] for message in again.server.messages())
    assert "Much was done.\n\n[The plan you showed]\n[x] look\n[ ] build" in read


def test_a_session_taken_up_in_the_terminal_keeps_its_model_unless_another_is_said(talk: Talking) -> None:
    talking = talk(["One.", "Two."])
    talking.run()
    talking.session.close()
    settings = load_settings(home=str(talking.settings.home), sandbox="embedded")
    with closing(open_screen(settings, talking.store, View(), Mode.YES, False, talking.session.id)) as screen:
        assert screen.session.settings.model == talking.server.url
    other = settings.model_copy(update={"model": "recipes"})
    with closing(open_screen(other, talking.store, View(), Mode.YES, False, talking.session.id)) as screen:
        assert screen.session.choice.kind == "recipes"
