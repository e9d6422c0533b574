"""What is dropped in, what comes out, and what a resend, an export and the page of a run are made of."""

import base64
import io
import json
import re
import sqlite3
import time
import zipfile
from pathlib import Path

import pytest

from tests.agent.scripted_server import code
from tools.jobs.local import LOG

from .conftest import Serve
from .serving import Page, live

DRAW = """
import matplotlib.pyplot as plt
plt.plot([1, 2, 3]); plt.show()
"""
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> [x](javascript:alert(1)) ![p](https://evil.example/p.png)"
)


def drop(page: Page, id: str, name: str, data: bytes = b"a,b\n1,2\n") -> dict:
    answer = page.client.post(f"/x/sessions/{id}/files", files={"file": (name, data)})
    return answer.json() | {"status": answer.status_code}


# -- in --------------------------------------------------------------------------------------------------------------


def test_a_dropped_dataset_is_there_for_the_code(serve: Serve) -> None:
    page = serve([code("final_answer(open('uploads/my data.csv').read())")])
    id = page.new()
    assert drop(page, id, "my data.csv") == {"name": "my data.csv", "size": 8, "status": 200}
    assert page.ask(id, files=["my data.csv"]).status_code == 202
    assert page.ended(id) == "succeeded"
    assert page.events(id, "answer")[-1]["data"]["text"] == "a,b\n1,2\n"
    assert page.events(id, "task")[0]["data"]["files"] == ["/home/user/uploads/my data.csv"]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("../../etc/cron.csv", "cron.csv"),
        ("..\\..\\boot.csv", "boot.csv"),
        ("/etc/passwd.csv", "passwd.csv"),
        ("<img onerror=x>.csv", "_img onerror_x_.csv"),
        ("a$(reboot)`x`.csv", "a_(reboot)_x_.csv"),
        ("großer Datensatz.csv", "großer Datensatz.csv"),
        ("n\u202egnp.csv", "n_gnp.csv"),
        ("x" * 300 + ".csv", "x" * 100 + ".csv"),
    ],
)
def test_a_name_leads_nowhere_and_carries_nothing(serve: Serve, work_folder: Path, told: str, kept: str) -> None:
    from agent.ui.files import safe_name

    assert safe_name(told) == kept


def test_uploads_of_a_wrong_kind_or_size_are_told_so(serve: Serve, work_folder: Path) -> None:
    page = serve(upload_mb=1)
    id = page.new()
    for name in ("run.exe", "page.html", "x.svg", "x.sh", "noname", ".csv", "..", ".env"):
        assert drop(page, id, name)["status"] in (415, 422), name
    assert drop(page, id, "big.csv", b"x" * 1_400_000)["status"] == 413
    assert drop(page, id, "fits.csv", b"x" * 1_000_000)["status"] == 200

    def endless():
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        for _ in range(40):
            yield b"x" * 100_000

    address, kind = f"/x/sessions/{id}/files", {"content-type": "multipart/form-data; boundary=b"}
    assert page.client.post(address, content=endless(), headers=kind).status_code == 413
    for body, headers in ((b"nonsense", kind), (b"{}", {"content-type": "application/json"})):
        assert page.client.post(address, content=body, headers=headers).status_code == 422
    assert [path.name for path in (work_folder / "uploads").iterdir()] == ["fits.csv"]


def test_the_same_file_twice_is_kept_once_and_another_of_its_name_beside_it(serve: Serve, work_folder: Path) -> None:
    page = serve()
    id = page.new()
    names = [drop(page, id, "d.csv", data)["name"] for data in (b"1", b"1", b"2")]
    assert names == ["d.csv", "d.csv", "d-2.csv"]
    (work_folder / "uploads" / "e.csv").symlink_to("/etc/passwd")
    assert drop(page, id, "e.csv", b"3")["name"] == "e-2.csv"
    for wrong in (["e.csv"], ["../x.csv"], ["none.csv"], "d.csv", [3]):
        assert page.ask(id, files=wrong).status_code == 422, wrong


# -- out -------------------------------------------------------------------------------------------------------------


def test_what_a_session_made_is_listed_shown_and_taken_along(serve: Serve) -> None:
    page = serve([code(DRAW), "done"])
    id = page.new()
    page.ask(id)
    page.ended(id)
    (made,) = page.client.get(f"/x/sessions/{id}/artifacts").json()
    assert made["kind"] == "plot" and made["size"] > 1_000
    address = f"/x/sessions/{id}/artifacts/{made['seq']}"
    taken, shown = page.client.get(address), page.client.get(f"{address}?view=1")
    assert (
        taken.headers["content-disposition"].startswith("attachment") and shown.headers["content-type"] == "image/png"
    )
    for answer in (taken, shown):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")
    with zipfile.ZipFile(io.BytesIO(page.client.get(f"/x/sessions/{id}/artifacts.zip").content)) as archive:
        assert archive.namelist() == [made["name"]] and archive.read(made["name"]) == taken.content
    text = page.client.get(f"/x/sessions/{id}/export?format=html").text
    assert base64.b64encode(taken.content[:300]).decode()[:300] in text
    page.client.delete(f"/x/sessions/{id}")
    assert not (page.server.settings.home / "artifacts" / id).exists()


def test_an_artifact_that_lies_elsewhere_is_not_given_out(serve: Serve, work_folder: Path) -> None:
    page = serve()
    id, room = page.new(), page.server.settings.home / "artifacts" / "x"
    room.mkdir(parents=True, exist_ok=True)
    (room / "link.json").symlink_to(page.server.settings.home / "sessions.db")
    (room / "page.png").write_text("<script>alert(1)</script>")
    for path in (
        "/etc/passwd",
        page.server.settings.home / "sessions.db",
        room / "link.json",
        room / "../../turns.json",
    ):
        page.store.append(id, "artifact", {"path": str(path), "kind": "file"})
    page.store.append(id, "artifact", {"path": str(room / "page.png"), "kind": "plot"})
    assert [one["name"] for one in page.client.get(f"/x/sessions/{id}/artifacts").json()] == ["page.png"]
    assert [page.client.get(f"/x/sessions/{id}/artifacts/{seq}").status_code for seq in range(1, 6)] == [404] * 4 + [
        200
    ]
    assert page.client.get(f"/x/sessions/{id}/artifacts/5?view=1").status_code == 415  # no picture by its bytes
    assert page.client.get(f"/x/sessions/{id}/artifacts/5").headers["content-type"] == "application/octet-stream"


def test_an_exported_page_runs_and_loads_nothing(serve: Serve) -> None:
    page = serve()
    id = page.new()
    page.client.patch(f"/x/sessions/{id}", json={"title": HOSTILE})
    for kind in ("task", "thought", "code", "output", "answer"):
        page.store.append(id, kind, {"text": HOSTILE})
    page.store.append(id, "error", {"text": HOSTILE, "kind": "x"})
    rows = {"type": "table", "title": HOSTILE, "columns": [HOSTILE], "rows": [[HOSTILE]]}
    page.store.append(id, "answer", {"envelope": rows})
    page.store.append(id, "tool_call", {"id": "1", "tool": HOSTILE, "arguments": {HOSTILE: HOSTILE}})
    report = {"type": "report", "markdown": HOSTILE}
    page.store.append(id, "tool_result", {"id": "1", "tool": "x", "ok": True, "seconds": 1, "result": report})
    answer = page.client.get(f"/x/sessions/{id}/export?format=html")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "default-src 'none'" in answer.text and "alert(1)" in answer.text
    assert not re.search(r"<(script|iframe|form|object|link|base)\b", answer.text, re.I)
    assert not re.findall(r"<img(?![^>]* src=\"data:)[^>]*>", answer.text) and 'href="javascript' not in answer.text
    assert page.client.get(f"/x/sessions/{id}/export?format=md").text.startswith("# ")
    assert json.loads(page.client.get(f"/x/sessions/{id}/export?format=jsonl").text.splitlines()[0])["version"] == 1
    assert page.client.get(f"/x/sessions/{id}/export?format=exe").status_code == 422


# -- again -----------------------------------------------------------------------------------------------------------


def test_a_resend_goes_on_from_before_the_task_and_leaves_the_rest_as_it_was(serve: Serve) -> None:
    def answer(messages: list[dict]) -> str:
        tasks = [one["content"] for one in messages if one["role"] == "user" and "colour" in one["content"]]
        return f"I was asked {len(tasks)} times, last: {tasks[-1][-60:]}"

    page = serve(answer)
    id = page.new()
    for turn, text in enumerate(("the first colour", "the second colour"), 1):
        page.ask(id, text)
        page.ended(id, turn)
    second = [one["seq"] for one in page.events(id, "task")][1]
    before = page.store.session(id).last_seq
    told = page.ask(id, "another colour", after=second)
    fork = told.json()["id"]
    assert told.status_code == 202 and fork != id
    assert page.ended(fork, 2) == "succeeded"
    assert [one["data"]["text"] for one in page.events(fork, "task")] == ["the first colour", "another colour"]
    assert "asked 2 times" in "".join(one["data"]["text"] for one in page.events(fork, "answer")[-3:])
    assert page.store.session(id).last_seq == before
    assert page.store.session(fork).title == "the first colour"
    for wrong in (second + 1, 99_999, "1", True, -1):
        assert page.ask(id, "x", after=wrong).status_code == 422, wrong
    assert len(page.follow(fork, live)[0]["events"]) == page.store.session(fork).last_seq


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(shared_home: Path) -> Path:
    """A run that ended a while ago, as its script and its runner leave it."""
    folder = shared_home / "runs" / f"tiny-{time.monotonic_ns()}"
    (folder / "metrics").mkdir(parents=True)
    plan = {"method": "sft", "model": {"id": "tiny"}, "dataset": {"id": "d.jsonl"}, "limits": {"minutes": 5}}
    (folder / "plan.json").write_text(json.dumps(plan))
    end = {"state": "failed", "exit_code": 1, "message": "exit code 1", "started": 100.0, "ended": 160.0}
    attempt = {"ref": {"runner": "local", "id": "1", "where": {}}, "submitted": 99.0, "end": end}
    (folder / "job.json").write_text(
        json.dumps({"run": folder.name, "attempts": [attempt], "usd_per_hour": 0.0, "minutes": 5})
    )
    (folder / "train.py").write_text("print('trained')\n")
    (folder / LOG).write_text("one\ntwo\n")
    (folder / "curves.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    with sqlite3.connect(folder / "metrics" / "trackio.db") as base:
        base.execute("create table metrics(id integer primary key, run_name text, metrics text)")
        rows = [
            json.dumps({"train/global_step": n, "train/loss": 3 / (n + 1) if n != 7 else "NaN"}) for n in range(3_000)
        ]
        base.executemany("insert into metrics(run_name, metrics) values(?, ?)", [(folder.name, row) for row in rows])
    return folder


def test_a_run_is_told_from_its_folder(serve: Serve, run: Path) -> None:
    page = serve()
    row = next(one for one in page.client.get("/x/runs").json() if one["run"] == run.name)
    assert (row["state"], row["model"], row["method"], row["usd"]) == ("failed", "tiny", "sft", 0.0)
    whole = page.client.get(f"/x/runs/{run.name}").json()
    assert whole["script"] == "print('trained')" and whole["report"].startswith("# sft of tiny")
    assert whole["plan"]["limits"] == {"minutes": 5} and whole["preflight"] is None
    assert page.client.get(f"/x/runs/{run.name}/log?after=4").json() == {"text": "two\n", "next": 8, "size": 8}
    told = page.client.get(f"/x/runs/{run.name}/metrics").json()
    loss = told["series"]["train/loss"]
    assert len(loss) == 1_000 and loss[0] == [0, 3.0] and loss[-1][0] == 2_999 and told["next"] == 3_000
    assert page.client.get(f"/x/runs/{run.name}/metrics?after=2999").json()["series"]["train/loss"] == [[2999, 0.001]]
    assert [7, None] in page.client.get(f"/x/runs/{run.name}/metrics").json()["series"]["train/loss"] or len(
        loss
    ) == 1_000
    assert page.client.get(f"/x/runs/{run.name}/pictures/curves.png").headers["content-type"] == "image/png"


def test_what_is_no_run_and_no_picture_of_one_is_not_found(serve: Serve, run: Path) -> None:
    page = serve()
    (run / "out.png").symlink_to("/etc/passwd")
    for path in ("none", "..", "%2e%2e%2fsandbox", f"{run.name}/pictures/train.py", f"{run.name}/pictures/out.png"):
        assert page.client.get(f"/x/runs/{path}").status_code == 404, path
    (run / LOG).unlink()
    (run / LOG).symlink_to("/etc/passwd")
    assert "root" not in page.client.get(f"/x/runs/{run.name}/log").text
    assert page.client.post(f"/x/runs/{run.name}/cancel").status_code == 422  # it is over, and that is said
    assert "error" in page.client.get("/x/runs/compare?runs=one").json()


def test_two_runs_are_compared(serve: Serve, run: Path) -> None:
    page = serve()
    other = run.with_name(f"{run.name}-b")
    other.mkdir()
    for name in ("job.json", "train.py"):
        (other / name).write_text((run / name).read_text())
    (other / "plan.json").write_text((run / "plan.json").read_text().replace("tiny", "small"))
    told = page.client.get(f"/x/runs/compare?runs={run.name},{other.name}").json()
    assert told["type"] == "table" and ["plan: model.id", "tiny", "small"] in told["rows"]
