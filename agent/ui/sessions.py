"""Sessions over HTTP: the list, making and removing one, tasks, stop, approvals, the model, the export."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from agent.errors import UserError
from agent.session import Session
from agent.store import Session as Known
from agent.ui.asking import Ask, Refusal, route
from agent.ui.files import attachment, given, made
from agent.ui.forking import fork
from agent.ui.live import Busy
from tools.context import inside
from tools.running import record

if TYPE_CHECKING:
    from agent.ui.server import Server

LARGEST_TASK = 200_000
LARGEST_SCRIPT = 1_000_000
LARGEST_PICTURE = 4 * 1024 * 1024
SHOWN = ("id", "title", "created", "updated", "model", "state", "pinned", "last_seq")
EXPORTS = {"md": "text/markdown", "jsonl": "application/x-ndjson", "html": "text/html"}


def routes(server: "Server") -> list[BaseRoute]:
    one = "/x/sessions/{id}"
    return [
        route(server, "/x/me", get=me),
        route(server, "/x/sessions", get=listed, post=make),
        route(server, one, patch=change, delete=delete),
        route(server, f"{one}/events/{{seq:int}}", get=event),
        route(server, f"{one}/tasks", post=task),
        route(server, f"{one}/stop", post=stop),
        route(server, f"{one}/approvals/{{approval}}", post=decide),
        route(server, f"{one}/export", get=export),
    ]


def me(ask: Ask) -> dict[str, Any]:
    door = ask.server.door
    return {
        "name": ask.person.shown,
        "signed_in": bool(ask.person.name),
        "space": door.space,
        "local": door.local,
        "can_sign_out": door.can_sign_out,
        "notice": ask.server.notice,
    }


def listed(ask: Ask) -> list[dict[str, Any]]:
    found = ask.server.store.sessions(ask.query.get("q", "")[:200], owner=ask.person.name, limit=200)
    return [row(ask.server, known) for known in found]


def row(server: "Server", known: Known) -> dict[str, Any]:
    """One that says it runs and has no living process was lost."""
    told = {name: value for name, value in asdict(known).items() if name in SHOWN}
    active = known.state in ("running", "waiting")
    told["running"] = server.live.running(known.id) or (active and server.store.running(known.id))
    if active and not told["running"]:
        told["state"] = "lost"
    return told


def make(ask: Ask) -> dict[str, Any]:
    folder = ask.server.work_folder(ask.person)
    return {"id": ask.server.store.create_session(cwd=str(folder), owner=ask.person.name).id}


def change(ask: Ask) -> dict[str, Any]:
    known = ask.session()
    if "title" in ask.body:
        ask.server.store.rename(known.id, ask.text("title", 500))
    if "pinned" in ask.body:
        ask.server.store.pin(known.id, ask.body["pinned"] is True)
    return row(ask.server, ask.session())


def delete(ask: Ask) -> dict[str, Any]:
    known = ask.session()
    if ask.server.live.running(known.id):
        raise Busy("A turn of this session runs. Stop it before you delete it.")
    ask.server.live.forget(known.id)
    ask.server.preferences.set_model(known.id, None)
    ask.server.store.delete(known.id)
    shutil.rmtree(ask.server.settings_for(ask.person).home / "artifacts" / known.id, ignore_errors=True)
    return {}


def event(ask: Ask) -> dict[str, Any]:
    known, seq = ask.session(), int(ask.path["seq"])
    found = ask.server.store.read(known.id, seq - 1, 1)
    if not found or found[0].seq != seq:
        raise Refusal(404, "There is no such event. Load the session again.")
    return {"seq": seq, "at": found[0].at, "type": found[0].type, "data": found[0].data}


def task(ask: Ask) -> Response:
    known, text = ask.session(), ask.text("text", LARGEST_TASK)
    if not text.strip():
        raise UserError("The task is empty. Say what you want.")
    files = given(known, ask.body.get("files", []))
    begin, told = known, {}
    if (after := ask.body.get("after")) is not None:
        if not isinstance(after, int) or isinstance(after, bool):
            raise Refusal(422, "'after' is no number of a task event. Send its seq.")
        begin = fork(ask.server.store, known, after)
        told = {"id": begin.id}
        ask.server.preferences.set_model(begin.id, ask.server.preferences.model_of(known.id))
    ask.server.live.start(begin.id, ask.server.settings_for(ask.person, begin.id), text, files)
    return JSONResponse(told, 202)


def stop(ask: Ask) -> Response:
    ask.server.live.stop(ask.session().id)
    return JSONResponse({}, 202)


def decide(ask: Ask) -> dict[str, Any]:
    known, approval, usd = ask.session(), ask.path["approval"], ask.body.get("session_usd")
    decision = ask.text("decision", 20)
    if decision not in ("approve", "refuse"):
        raise Refusal(422, "The decision is neither approve nor refuse. Send one of them.")
    if usd is not None and (isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < 1e9):
        raise Refusal(422, "session_usd is no amount of dollars. Send a number of 0 or more.")
    reason, script = ask.text("reason", 2_000, ""), ask.text("script", LARGEST_SCRIPT, "")

    def answer(session: Session) -> None:
        if decision == "approve":
            if script:
                rewrite(session, approval, script)
            session.approve(approval, None if usd is None else float(usd))
        else:
            session.refuse(approval, reason)

    ask.server.live.decide(known.id, approval, answer)
    return {}


def rewrite(session: Session, approval: str, script: str) -> None:
    """The person's own words for the script of the run that the question is about. It counts as changed from here on:
    what must be rehearsed again before it starts says so to the model."""
    records = session.gate.to_state()["records"]
    card = next(one["card"] for one in records if one["id"] == approval)
    with inside(session.tool_context):
        record.write_text(record.folder_of(str(card["arguments"].get("run", ""))) / "train.py", script)


def export(ask: Ask) -> Response:
    known, format = ask.session(), ask.query.get("format", "md")
    if format not in EXPORTS:
        raise Refusal(422, f"There is no format '{format[:20]}'. Choose one of {', '.join(EXPORTS)}.")
    if format == "html":
        shown = {str(one.path): one.path for one in made(ask.server, ask.person, known) if one.kind == "plot"}
        text = ask.server.store.export_html(known.id, lambda path: png(shown.get(str(Path(path).resolve()))))
    else:
        text = ask.server.store.export_markdown(known.id) if format == "md" else ask.server.store.export_jsonl(known.id)
    return attachment(text.encode(), f"{known.id}.{format}", EXPORTS[format])


def png(path: Path | None) -> bytes | None:
    """The bytes of a picture that is small enough to stand in a page."""
    if path is None or path.stat().st_size > LARGEST_PICTURE:
        return None
    data = path.read_bytes()
    return data if data.startswith(b"\x89PNG") else None
