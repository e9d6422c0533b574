"""Sessions over HTTP and WebSocket: what a person does on the page, without the page."""

import threading
from pathlib import Path

import httpx
import pytest

from tests.agent.scripted_server import Fault, code
from tests.agent.talking import until

from .conftest import Serve
from .serving import live, over


def test_a_task_runs_to_its_report_and_a_viewer_sees_every_event_once(serve: Serve, work_folder: Path) -> None:
    (work_folder / "runs.csv").write_text("rate,loss\n0.1,2.5\n0.2,2.1\n")
    page = serve()
    id = page.new()
    assert page.ask(id, "describe runs.csv").status_code == 202
    frames = page.follow(id, over)
    seen = [event["seq"] for frame in frames for event in frame.get("events", [])]
    assert seen == list(range(1, len(seen) + 1))
    assert page.ended(id) == "succeeded"
    row = page.client.get("/x/sessions").json()[0]
    assert (row["id"], row["title"], row["state"], row["running"]) == (id, "describe runs.csv", "succeeded", False)


def test_a_viewer_that_comes_back_gets_what_it_missed_and_nothing_twice(serve: Serve) -> None:
    page = serve([code("print('one')"), "done"])
    id = page.new()
    page.ask(id)
    page.ended(id)
    whole = page.follow(id, live)
    last = whole[-1]["seq"]
    again = page.follow(id, live, after=last - 2)
    assert [event["seq"] for frame in again for event in frame.get("events", [])] == [last - 1, last]
    assert page.follow(id, live, after=last) == [{"live": True, "seq": last}]


def test_a_second_viewer_in_mid_run_sees_the_same_run_go_on(serve: Serve) -> None:
    page = serve(
        [code("print('begun', flush=True)\ninput_wait = __import__('time').sleep(1.5)\nprint('gone on')"), "done"]
    )
    id = page.new()
    page.ask(id)
    until(lambda: "begun" in str(page.events(id, "output")))
    frames = page.follow(id, over)
    seen = [event["seq"] for frame in frames for event in frame.get("events", [])]
    assert seen == list(range(1, len(seen) + 1))
    assert "gone on" in str(frames) and page.ended(id) == "succeeded"


def test_stop_ends_a_cell_within_a_second(serve: Serve) -> None:
    page = serve([code("import time\nprint('begun', flush=True)\ntime.sleep(60)")])
    id = page.new()
    page.ask(id)
    until(lambda: "begun" in str(page.events(id, "output")))
    stopped = threading.Event()
    threading.Thread(target=lambda: (page.ended(id), stopped.set()), daemon=True).start()
    assert page.client.post(f"/x/sessions/{id}/stop").status_code == 202
    assert stopped.wait(3)  # a second on a quiet machine
    assert page.ended(id) == "cancelled"
    assert page.client.post(f"/x/sessions/{id}/stop").status_code == 409


def test_a_task_while_a_turn_runs_is_refused_and_the_session_can_be_used_after(serve: Serve) -> None:
    page = serve(lambda messages: "done" if "second" in messages[-1]["content"] else Fault("hold"))
    id = page.new()
    page.ask(id, "first")
    until(lambda: page.events(id, "task"))
    assert page.ask(id, "second").status_code == 409
    assert page.client.delete(f"/x/sessions/{id}").status_code == 409
    page.client.post(f"/x/sessions/{id}/stop")
    page.ended(id)
    assert page.ask(id, "second").status_code == 202
    assert page.ended(id, 2) == "succeeded"


def test_variables_are_still_there_in_the_next_turn(serve: Serve) -> None:
    page = serve([code("kept = 41"), "one", code("final_answer(kept + 1)")])
    id = page.new()
    page.ask(id)
    page.ended(id)
    page.ask(id)
    assert page.ended(id, 2) == "succeeded"
    assert page.events(id, "answer")[-1]["data"]["text"].strip("`\njson") == "42"


@pytest.mark.usefixtures("only_test_tools")
def test_a_call_with_a_price_waits_for_a_yes_and_is_done_once(serve: Serve) -> None:
    page = serve([code("print(buy(item='gpu hour', usd=2.0))"), "bought"])
    id = page.new()
    page.ask(id)
    card = page.waiting(id)
    assert card["usd"] == 2.0 and "gpu hour" in card["what"]
    answer = page.client.post(f"/x/sessions/{id}/approvals/{card['id']}", json={"decision": "approve"})
    assert answer.status_code == 200 and page.ended(id) == "succeeded"
    assert (page.server.settings.home / "acts.log").read_text().count("gpu hour") == 1
    again = page.client.post(f"/x/sessions/{id}/approvals/{card['id']}", json={"decision": "approve"})
    assert again.status_code == 409


@pytest.mark.usefixtures("only_test_tools")
def test_a_refusal_reaches_the_model_with_its_reason(serve: Serve) -> None:
    page = serve([code("print(buy(item='gpu hour', usd=2.0))"), "then not"])
    id = page.new()
    page.ask(id)
    card = page.waiting(id)
    page.client.post(f"/x/sessions/{id}/approvals/{card['id']}", json={"decision": "refuse", "reason": "too dear"})
    page.ended(id)
    assert "too dear" in str(page.events(id, "error")) or "too dear" in str(page.events(id, "tool_result"))
    assert not (page.server.settings.home / "acts.log").exists()


@pytest.mark.usefixtures("only_test_tools")
def test_always_up_to_an_amount_is_asked_again_beyond_it(serve: Serve) -> None:
    page = serve([code("buy(item='a', usd=2.0)\nbuy(item='b', usd=2.0)\nbuy(item='c', usd=2.0)"), "done"])
    id = page.new()
    page.ask(id)
    card = page.waiting(id)
    body = {"decision": "approve", "session_usd": 4.0}
    page.client.post(f"/x/sessions/{id}/approvals/{card['id']}", json=body)
    second = until(lambda: (found := page.waiting(id))["id"] != card["id"] and found)
    assert "c" in second["what"] and page.server.store.session(id).state == "waiting"
    page.client.post(f"/x/sessions/{id}/approvals/{second['id']}", json={"decision": "refuse"})
    page.ended(id)
    assert len((page.server.settings.home / "acts.log").read_text().splitlines()) == 2


def test_two_answers_to_one_question_at_once_decide_it_once(serve: Serve, only_test_tools: None) -> None:
    page = serve([code("print(buy(item='x', usd=1.0))"), "done"])
    id = page.new()
    page.ask(id)
    card = page.waiting(id)

    def answer(decision: str, into: list[int]) -> None:
        with page.browser() as browser:
            address = f"/x/sessions/{id}/approvals/{card['id']}"
            into.append(browser.post(address, json={"decision": decision}).status_code)

    codes: list[int] = []
    threads = [threading.Thread(target=answer, args=("approve", codes)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 409, 409, 409, 409, 409]


@pytest.mark.usefixtures("only_test_tools")
def test_who_is_confined_gets_no_tool_and_no_task_to_a_file_outside(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("1")
    page = serve([code("print(mirror(value={'deep': ['../secret.csv']}))"), "done"], confined=True)
    id = page.new()
    page.ask(id, f"look at {tmp_path / 'secret.csv'} and ../secret.csv")
    assert page.ended(id) == "succeeded"
    assert page.events(id, "task")[0]["data"]["files"] == []
    assert "outside of your folder" in str(page.events(id, "output", "error")) + str(page.events(id, "tool_result"))


def test_a_session_that_another_process_runs_is_followed_and_left_alone(serve: Serve, cli) -> None:
    page = serve()
    id = page.new()
    lease = page.store.claim(id)  # as a terminal would hold it
    page.store.append(id, "output", {"text": "from elsewhere"})
    assert "from elsewhere" in str(page.follow(id, live))
    assert page.ask(id).status_code == 409 and page.client.post(f"/x/sessions/{id}/stop").status_code == 409
    lease.release()


def test_sessions_are_renamed_pinned_found_and_deleted(serve: Serve) -> None:
    page = serve()
    one, other = page.new(), page.new()
    assert page.client.patch(f"/x/sessions/{one}", json={"title": "<b>Zebra</b>", "pinned": True}).json()["pinned"]
    page.new()
    assert page.client.get("/x/sessions").json()[0]["title"] == "<b>Zebra</b>"
    assert [row["id"] for row in page.client.get("/x/sessions", params={"q": "zebra"}).json()] == [one]
    assert page.client.delete(f"/x/sessions/{one}").status_code == 200
    assert page.client.delete(f"/x/sessions/{one}").status_code == 404
    assert page.client.get(f"/x/sessions/{other}/events/99").status_code == 404


def test_long_texts_are_sent_as_their_ends_and_had_whole(serve: Serve) -> None:
    page = serve()
    id = page.new()
    text = "a" * 3_000 + "MIDDLE" + "b" * 60_000
    page.store.append(id, "output", {"text": text})
    event = page.follow(id, live)[0]["events"][0]
    assert event["data"]["cut"] == {"characters": len(text)} and len(event["data"]["text"]) < 4_100
    assert event["data"]["text"].startswith("aaa") and event["data"]["text"].endswith("bbb")
    assert page.client.get(f"/x/sessions/{id}/events/1").json()["data"]["text"] == text


BODIES = [
    (b'{"text": "x"}', "text/plain", 415),
    (b"{", "application/json", 422),
    (b"[1]", "application/json", 422),
    (b'{"text": 3}', "application/json", 422),
    (b'{"text": "  "}', "application/json", 422),
    (b'{"text": "' + b"x" * 300_000 + b'"}', "application/json", 413),
    (b" " * 5_000_000, "application/json", 413),
    (b"[" * 100_000, "application/json", 422),
]


def test_bodies_that_are_no_task_are_told_so(serve: Serve) -> None:
    page = serve()
    id = page.new()
    for content, kind, status in BODIES:
        answer = page.client.post(f"/x/sessions/{id}/tasks", content=content, headers={"content-type": kind})
        assert answer.status_code == status and ". " in answer.json()["error"], content[:20]


def test_a_model_that_is_not_there_is_told_to_who_asked(serve: Serve) -> None:
    page = serve(model="ollama/none")
    answer = page.ask(page.new())
    assert answer.status_code == 422 and "Ollama" in answer.json()["error"]


def test_a_deleted_session_ends_its_viewers(serve: Serve) -> None:
    page = serve()
    id = page.new()
    import websockets.exceptions

    def remove(frame: dict) -> bool:
        page.store.delete(id)
        return False

    with pytest.raises(websockets.exceptions.ConnectionClosed) as gone:
        page.follow(id, remove)
    assert gone.value.rcvd is not None and gone.value.rcvd.code == 4404


def test_the_page_itself_comes_with_its_scripts(serve: Serve) -> None:
    page = serve()
    answer: httpx.Response = page.client.get("/")
    assert answer.status_code == 200 and "x/static/app.js" in answer.text
    script = page.client.get("/x/static/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert page.client.get("/x/static/app.js", headers={"if-none-match": script.headers["etag"]}).status_code == 304
    for wrong in ("../server.py", "..%2fserver.py", "nothing.js", ".hidden"):
        assert page.client.get(f"/x/static/{wrong}").status_code in (401, 404)
