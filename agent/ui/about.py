"""What a person can look up and choose: models, slash commands, examples, settings, health, skills."""

import json
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute

from agent import doctor
from agent.errors import UserError
from agent.models.discover import discover
from agent.models.recommend import load_table
from agent.session import choose_model
from agent.settings import Settings
from agent.skills import Skill, Skills, off
from agent.skills.find import find
from agent.skills.trust import add as trust
from agent.slash import commands
from agent.ui.asking import Ask, Refusal, route
from agent.ui.live import Busy
from agent.ui.people import Person

if TYPE_CHECKING:
    from agent.ui.server import Server

EXAMPLES = Path(__file__).with_name("examples.json")
FRESH = 30.0  # seconds that a look at the machine's health is good for
SHARED = ("sandbox", "model", "token")  # what people of a shared server are told of its health
looking = threading.Lock()
looked: dict[str, tuple[float, list[dict[str, Any]]]] = {}


def routes(server: "Server") -> list[BaseRoute]:
    return [
        route(server, "/x/models", get=models),
        route(server, "/x/sessions/{id}/model", put=set_model),
        route(server, "/x/commands", get=slash),
        route(server, "/x/examples", get=lambda ask: json.loads(EXAMPLES.read_text())),
        route(server, "/x/settings", get=settings, put=change),
        route(server, "/x/health", get=health),
        route(server, "/x/skills", get=skills),
        route(server, "/x/skills/{name}", put=switch),
    ]


# -- models ----------------------------------------------------------------------------------------------------------


def models(ask: Ask) -> dict[str, Any]:
    """What answers here, and what a session would take now."""
    wanted = ask.server.settings_for(ask.person)
    try:
        choice = choose_model(wanted)
        current = {"spec": wanted.model, "label": choice.label, "why": choice.why, "window": choice.window}
    except UserError as error:
        current = {"spec": wanted.model, "label": None, "why": str(error), "window": None}
    return {"current": current, "choices": choices(ask.server, ask.person)}


def choices(server: "Server", person: Person) -> list[dict[str, Any]]:
    wanted = server.settings_for(person)
    rows = [{"spec": "auto", "label": "auto", "what": "the best that answers here"}]
    for found in discover():
        for model in found.models:
            window = f", window {model.window:,}" if model.window else ""
            label = f"{model.name} ({found.kind})"
            rows.append({"spec": f"{found.base_url}#{model.name}", "label": label, "what": f"{found.base_url}{window}"})
    if wanted.hf_token and not wanted.offline:
        told = "HF Inference Providers; your text goes there"
        rows += [{"spec": f"hf/{name}", "label": name, "what": told} for name in load_table()["hf"]["models"]]
    rows.append({"spec": "recipes", "label": "recipes", "what": "rules for a few fixed tasks, no language model"})
    if server.settings.model not in {row["spec"] for row in rows}:
        rows.insert(
            0, {"spec": server.settings.model, "label": server.settings.model, "what": "as the server was started"}
        )
    return rows


def set_model(ask: Ask) -> dict[str, Any]:
    known, spec = ask.session(), ask.text("spec", 500).strip()
    if ask.server.live.running(known.id):
        raise Busy("A turn of this session runs. Stop it before you change the model.")
    offered = [row["spec"] for row in choices(ask.server, ask.person)] if ask.person.name else []
    ask.server.preferences.check_spec(ask.person, spec, offered)
    choice = choose_model(ask.server.settings_for(ask.person).model_copy(update={"model": spec}))
    ask.server.preferences.set_model(known.id, spec)
    ask.server.live.forget(known.id)
    ask.server.store.set_model(known.id, choice.label)
    return {"spec": spec, "label": choice.label, "why": choice.why, "window": choice.window}


def slash(ask: Ask) -> list[dict[str, str]]:
    rows = [{"name": one.name, "what": one.what, "argument": one.argument} for one in commands("page")]
    return [*rows, *({"name": one.name, "what": one.description, "argument": "…"} for one in found(ask).all)]


# -- settings and health ---------------------------------------------------------------------------------------------


def settings(ask: Ask) -> list[dict[str, Any]]:
    return ask.server.preferences.told(ask.person, ask.server.settings_for(ask.person))


def change(ask: Ask) -> list[dict[str, Any]]:
    for key, value in ask.body.items():
        if key == "model" and isinstance(value, str):
            offered = [row["spec"] for row in choices(ask.server, ask.person)] if ask.person.name else []
            ask.server.preferences.check_spec(ask.person, value, offered)
        ask.server.preferences.change(ask.person, key, value)
    return settings(ask)


def health(ask: Ask) -> list[dict[str, Any]]:
    """The doctor's findings. One look at a time, and a fresh one is shared."""
    wanted = ask.server.settings_for(ask.person)
    with looking:
        at, rows = looked.get(ask.person.name, (0.0, []))
        if not rows or time.monotonic() - at > FRESH or ask.query.get("again") == "1":
            rows = [asdict(one) for one in examine(ask, wanted)]
            looked[ask.person.name] = time.monotonic(), rows
    return rows


def examine(ask: Ask, wanted: Settings) -> list[doctor.Finding]:
    text = ask.server.store.redactor.text
    checks = doctor.CHECKS if not ask.person.name else {name: doctor.CHECKS[name] for name in SHARED}
    return [replace(one, text=text(one.text), mend=text(one.mend)) for one in doctor.examine(wanted, checks)]


# -- skills ----------------------------------------------------------------------------------------------------------


def found(ask: Ask) -> Skills:
    return Skills.discover(ask.server.work_folder(ask.person), ask.server.settings_for(ask.person).home)


def everything(ask: Ask) -> dict[str, Skill]:
    """Those that are switched off, too."""
    home = ask.server.settings_for(ask.person).home
    return {skill.name: skill for skill in find(ask.server.work_folder(ask.person), home).skills}


def skills(ask: Ask) -> list[dict[str, Any]]:
    without = off.known(ask.server.settings_for(ask.person).home)
    return [
        {
            "name": skill.name,
            "description": skill.description,
            "source": skill.source,
            "trusted": skill.trusted,
            "on": skill.name not in without and skill.trusted,
            "warnings": skill.warnings,
            "text": skill.text,
        }
        for skill in everything(ask).values()
    ]


def switch(ask: Ask) -> list[dict[str, Any]]:
    """On also means: used by itself, which a skill that nobody trusts is not. Its text stands beside the switch."""
    home, skill = ask.server.settings_for(ask.person).home, everything(ask).get(ask.path["name"])
    if skill is None:
        raise Refusal(404, "There is no such skill. Load the list again.")
    if not isinstance(ask.body.get("on"), bool):
        raise Refusal(422, "'on' is missing. Send true or false.")
    if ask.body["on"] and not skill.trusted:
        from agent.skills.files import digest

        trust(home, skill.name, digest(skill.folder))
    off.switch(home, skill.name, ask.body["on"])
    ask.server.live.forget_warm()
    return skills(ask)
