"""What a person changes on the page: a few settings of theirs, in the `config.toml` of their folder, line by line.

For the person of this machine that is the file the terminal reads too. Secrets, addresses and the sandbox's walls are
not changed from a page. Limits of the server hold for everybody: nobody lifts its budget.
"""

import json
import re
import threading
import tomllib
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from agent.errors import UserError
from agent.settings import Settings
from agent.ui.people import Person, folder_of

CHANGEABLE = {
    "model": "The language model: auto, recipes, a URL, ollama/NAME, hf/ORG/NAME",
    "offline": "Nothing leaves this machine",
    "max_usd": "Never spend more than this in a session, in dollars",
    "max_minutes": "End a turn after so many minutes",
    "max_steps": "End a turn after so many steps",
}
SECRETS = {"hf_token": "Hugging Face token", "e2b_api_key": "E2B key", "model_key": "key of the model server"}
ALONE = ("offline",)  # of the whole machine: people of a shared server do not switch it
LIMITS = ("max_usd", "max_minutes", "max_steps")
FORM = re.compile(r"auto|recipes|hf/[\w.-]+/[\w.:-]+")  # what people of a shared server may ask for by name


class Preferences:
    """`base` are the settings the server was started with."""

    def __init__(self, base: Settings):
        self.base = base
        self.lock = threading.Lock()
        self.changes: dict[str, dict[str, Any]] = {}
        self.specs = base.home / "session-models.json"

    def of(self, person: Person) -> dict[str, Any]:
        """What this person changed, within the limits of the server."""
        with self.lock:
            if person.name not in self.changes:
                path = folder_of(self.base, person) / "config.toml"
                told = read(path) if person.name else {}
                self.changes[person.name] = {key: told[key] for key in told.keys() - set(ALONE)}
            changes = dict(self.changes[person.name])
        for name in LIMITS:
            most, wanted = getattr(self.base, name), changes.get(name, getattr(self.base, name))
            if person.name and most is not None:
                changes[name] = most if wanted is None else min(most, wanted)
        return changes

    def changeable(self, person: Person) -> dict[str, str]:
        return {key: what for key, what in CHANGEABLE.items() if not (person.name and key in ALONE)}

    def change(self, person: Person, key: str, value: Any) -> None:
        if key not in self.changeable(person):
            raise UserError(
                f"'{key}' is not changed from the page. Change it in config.toml and start the server anew."
            )
        try:
            valid = Settings.model_validate({"home": self.base.home, key: value}) if value is not None else None
        except ValidationError as error:
            raise UserError(f"{key}: {error.errors(include_url=False)[0]['msg']}. Give another value.") from None
        kept = getattr(valid, key) if valid else None
        if key == "model" and kept is None:
            kept = "auto"
        with self.lock:
            write(folder_of(self.base, person) / "config.toml", key, kept)
            self.changes.setdefault(person.name, {})[key] = kept

    # -- the model of one session ------------------------------------------------------------------------------------

    def model_of(self, session: str) -> str | None:
        with self.lock:
            return self.models().get(session)

    def set_model(self, session: str, spec: str | None) -> None:
        with self.lock:
            known = {name: one for name, one in self.models().items() if name != session}
            half = self.specs.with_suffix(".half")
            half.write_text(json.dumps(known if spec is None else known | {session: spec}))
            half.replace(self.specs)

    def models(self) -> dict[str, str]:
        try:
            found = json.loads(self.specs.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def check_spec(self, person: Person, spec: str, offered: list[str]) -> None:
        """A shared server takes no address or path from people: both would be opened from where it stands."""
        if person.name and spec not in offered and not FORM.fullmatch(spec):
            raise UserError(f"'{spec[:80]}' cannot be chosen here. Take one of: {', '.join(offered)}, hf/ORG/NAME.")

    # -- as the page shows them --------------------------------------------------------------------------------------

    def told(self, person: Person, settings: Settings) -> list[dict[str, Any]]:
        """Values of what may be changed; of secrets only whether they are set."""
        rows = [
            {"key": key, "what": what, "value": getattr(settings, key), "changeable": True, "kind": kind(key)}
            for key, what in self.changeable(person).items()
        ]
        for key, what in SECRETS.items():
            there: SecretStr | None = getattr(settings, key)
            if not person.name or key == "hf_token":
                rows.append({"key": key, "what": what, "set": there is not None, "changeable": False, "kind": "secret"})
        if not person.name:
            fixed = {"sandbox": settings.sandbox, "home": str(settings.home), "upload_mb": settings.upload_mb}
            rows += [{"key": key, "what": "", "value": value, "changeable": False} for key, value in fixed.items()]
        return rows


def kind(key: str) -> str:
    return {"model": "text", "offline": "switch"}.get(key, "number")


def read(path: Path) -> dict[str, Any]:
    """Only what may be changed, and only as it is valid: the file of a person opens nothing."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
    found = {}
    for key in CHANGEABLE.keys() & table.keys():
        try:
            found[key] = getattr(Settings.model_validate({"home": path.parent, key: table[key]}), key)
        except ValidationError:
            continue
    return found


def write(path: Path, key: str, value: Any) -> None:
    """One line of the file is set, added or taken away; everything else in it stays as a person wrote it."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        lines = []
    end = next((at for at, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    head = [line for line in lines[:end] if not re.match(rf"\s*{key}\s*=", line)]
    if value is not None:
        while head and not head[-1].strip():
            head.pop()
        head.append(f"{key} = {json.dumps(value)}")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    half = path.with_name(f".{path.name}.half")
    half.touch(mode=0o600)
    half.write_text("\n".join([*head, *lines[end:]]) + "\n")
    half.replace(path)
