"""What a person can set, from four places; a later one wins: defaults, `config.toml` in the home folder, the
environment (`MODELSMITH_*`, and the names E2B and Hugging Face use), keyword overrides.

A wrong value or an unknown key in the file is a `UserError` that names where it stands. Secrets are `SecretStr`: no
repr, log or JSON of the settings shows them.
"""

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from .errors import UserError

PREFIX = "MODELSMITH_"
FOREIGN = {  # read before MODELSMITH_*, so that ours win
    "E2B_API_KEY": "e2b_api_key",
    "E2B_API_URL": "e2b_api_url",
    "E2B_SANDBOX_URL": "e2b_sandbox_url",
    "HF_TOKEN": "hf_token",
}

Count = Annotated[int, Field(ge=1)]
Url = Annotated[str, Field(pattern=r"^https?://[^/]+")]


class Share(BaseModel):
    """A host directory seen inside the sandbox, read-only unless `write` is said."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: Path
    inside: str = Field(pattern="^/")
    write: bool = False


class Settings(BaseModel):
    """None means: not said, the part concerned has its own default."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    home: Path
    model: str = "auto"
    offline: bool = False
    confined: bool = False  # sessions see no file of this machine but those of their own folder and home
    people: list[str] | None = None  # who may sign in with the Hub; not said: whoever has an account there
    upload_mb: Count = 200  # the largest file the page takes

    sandbox: Literal["auto", "embedded", "e2b"] = "auto"
    sandbox_home: Path | None = None  # whose embedded server is used; not said: that of `home`
    sandbox_timeout: int = Field(default=3600, ge=1, le=24 * 3600)
    sandbox_memory_mb: Count | None = None
    sandbox_pids: Count | None = None
    sandbox_cpus: Annotated[float, Field(gt=0)] | None = None
    sandbox_disk_mb: Count | None = None
    sandbox_max: Count | None = None
    sandbox_pool: Annotated[int, Field(ge=0)] | None = None
    sandbox_allow: list[str] | None = None
    sandbox_shares: list[Share] = []
    unsafe_no_sandbox: bool = False

    e2b_api_key: SecretStr | None = None
    e2b_api_url: Url | None = None
    e2b_sandbox_url: Url | None = None
    e2b_template: str | None = None
    hf_token: SecretStr | None = None
    model_key: SecretStr | None = None

    max_usd: Annotated[float, Field(ge=0)] | None = None
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    max_steps: Count | None = None


KEYS = sorted(Settings.model_fields.keys() - {"home"})


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process. An override of None counts as not said."""
    home = (
        Path(overrides.pop("home", None) or os.environ.get(f"{PREFIX}HOME") or "~/.modelsmith").expanduser().absolute()
    )
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key, value, origin in [*from_token_file(), *from_file(home / "config.toml"), *from_environment()]:
        values[key], origins[key] = value, origin
    for key, value in overrides.items():
        if value is not None:
            values[key], origins[key] = value, f"--{key.replace('_', '-')}"
    try:
        return Settings(home=home, **values)
    except ValidationError as error:
        raise UserError(explain(error, origins)) from None


def from_token_file() -> list[tuple[str, Any, str]]:
    """The token that `hf auth login` left; huggingface_hub knows where."""
    from huggingface_hub import constants

    path = Path(constants.HF_TOKEN_PATH)
    try:
        token = path.read_text().strip()
    except OSError:
        return []
    return [("hf_token", token, str(path))] if token else []


def from_file(path: Path) -> list[tuple[str, Any, str]]:
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Mend or remove it.") from None
    unknown = [key for key in table if key not in KEYS]
    if unknown:
        raise UserError(f"{path}: unknown key '{unknown[0]}'. Allowed: {', '.join(KEYS)}.")
    return [(key, value, str(path)) for key, value in table.items()]


def from_environment() -> list[tuple[str, Any, str]]:
    names = FOREIGN | {f"{PREFIX}{key.upper()}": key for key in KEYS}
    found = [(key, os.environ.get(name, "").strip(), name) for name, key in names.items()]
    return [(key, parse(key, text, name), name) for key, text, name in found if text]


def parse(key: str, text: str, origin: str) -> Any:
    """Environment text as the value pydantic expects: lists have no spelling of their own there."""
    if key in ("sandbox_allow", "people"):
        return [] if text == "none" else [host.strip() for host in text.split(",") if host.strip()]
    if key == "sandbox_shares":
        try:
            return json.loads(text)
        except ValueError:
            raise UserError(f'{origin} is no JSON. Write [{{"host": "/data", "inside": "/data"}}].') from None
    return text


def explain(error: ValidationError, origins: dict[str, str]) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{origins.get(str(first['loc'][0]), 'settings')}: {place}: {first['msg']}."
