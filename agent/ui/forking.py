"""Edit and resend: a new session that knows what another did before one of its tasks, and nothing of what came after.

Its sandbox is a new one, because the old one has seen what came after; the model is told. What was spent counts on;
what a person allowed for the other session is asked again here.
"""

from typing import Any

from agent.errors import UserError
from agent.events import Event
from agent.store import Session, Store

PAGE = 200
LEFT_BEHIND = "left-behind"  # no sandbox has this id: the session finds it gone and says so to the model


def fork(store: Store, known: Session, task: int) -> Session:
    """`task` is the number of the task event that is left out, with all that follow."""
    found = store.read(known.id, task - 1, 1)
    if not found or found[0].seq != task or found[0].type != "task":
        raise UserError("There is no such task in this session. Load it again.")
    made = store.create_session(known.title if task > 3 else "", known.model, known.cwd, known.owner)
    after = 0
    while page := [event for event in store.read(known.id, after, PAGE) if event.seq < task]:
        store.append_many(made.id, [(event.type, carried(event)) for event in page])
        after = page[-1].seq
    store.append(made.id, "state", {"state": "idle", "reason": f"goes on from {known.id}"})
    return store.session(made.id)


def carried(event: Event) -> dict[str, Any]:
    data = event.data
    if event.type == "approval" and data.get("grant"):
        return {**data, "grant": None}
    detail = data.get("detail")
    if event.type == "state" and isinstance(detail, dict) and "sandbox" in detail:
        return {**data, "detail": {**detail, "sandbox": LEFT_BEHIND}}
    return data
