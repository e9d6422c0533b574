"""Spaces as tools: find one, see what it can do, call it with plain values and files.

Gradio Spaces only. A token is sent to a private Space of the user's own, at its own host, and to no other.
"""

from typing import Any
from urllib.parse import urlsplit

from tools import envelope
from tools.context import ToolError, here
from tools.declare import Stake, tool
from tools.hubs import gradio_app
from tools.hubs.client import account, ask, endpoint, offline
from tools.hubs.place import place_of

MOST_TEXT = 20_000
MOST_VALUE = 200_000  # characters of JSON; more goes into a file
BROKEN = ("BUILD_ERROR", "CONFIG_ERROR", "RUNTIME_ERROR", "NO_APP_FILE", "PAUSED", "STOPPED", "DELETING")
OFFLINE = "Offline: Spaces run elsewhere and are not called."


@tool(risk="free")
def find_space(query: str, limit: int = 10) -> dict:
    """Find running Gradio Spaces by what they do.

    Args:
        query: What it should do, for example "transcribe speech".
        limit: How many, at most 50.

    Returns:
        A table of id, title, what it does, likes and hardware; the id is for describe_space and call_space.
    """
    _online()
    found, note = ask(lambda api: list(api.search_spaces(query, sdk="gradio"))[: max(1, min(limit, 50))])
    rows = [
        [one.id, one.title, one.ai_short_description, one.likes, one.runtime.hardware if one.runtime else None]
        for one in found
    ]
    if not rows:
        note = f"{note} Nothing found. Say in other words what it should do.".strip()
    return envelope.table(f"Spaces for {query!r}", ["id", "title", "does", "likes", "hardware"], rows, note)


@tool(risk="free")
def describe_space(space_id: str) -> dict:
    """Tell how to call a Gradio Space: its endpoints with arguments, types and defaults.

    Args:
        space_id: "owner/name" or the address of the Space.

    Returns:
        A report with a ready call per endpoint; `endpoints` hold the same as values.
    """
    _online()
    url, token, note = _host(space_id)
    with gradio_app.app(url, token) as client:
        found = {name: gradio_app.parameters(one) for name, one in gradio_app.endpoints(client).items()}
        returns = {name: one["returns"] for name, one in gradio_app.endpoints(client).items()}
    lines = []
    for name, takes in found.items():
        example = {one["name"]: _example(one) for one in takes if one["required"]}
        lines += [f"### {name}", f"`call_space({space_id!r}, {name!r}, {example!r})`", ""]
        lines += [_line(one) for one in takes]
        lines += [f"- returns {one['label']}: {one['python_type']['type']}" for one in returns[name]] + [""]
    if not found:
        lines = ["This Space has no endpoint that can be called from outside."]
    shown = "\n".join([*lines, note]).strip()[:MOST_TEXT]
    return envelope.report(shown, f"Space {space_id}", endpoints=found, note=note)


def _stake(space_id: str, endpoint: str | None = None, arguments: dict | None = None, timeout: float = 120) -> Stake:
    return Stake(f"call {endpoint or 'the endpoint'} of the Space {space_id}", where=_page(space_id))


@tool(risk="network", stake=_stake)
def call_space(
    space_id: str, endpoint: str | None = None, arguments: dict[str, Any] | None = None, timeout: float = 120
) -> dict:
    """Call a Gradio Space and get its result; files come back into the working folder.

    Args:
        space_id: "owner/name" or the address of the Space.
        endpoint: For example "/predict"; may be left out when there is only one.
        arguments: By name, as describe_space tells; a file as its path in the working folder, or an https address.
        timeout: Seconds to wait for the result, at most 600.

    Returns:
        A file where the result is one file, else a text; `result` has the values, files as paths; `files` lists them.
    """
    _online()
    url, token, note = _host(space_id)
    with gradio_app.app(url, token) as client:
        known = gradio_app.endpoints(client)
        name = _chosen(endpoint, list(known))
        given = gradio_app.arguments_in(arguments or {}, known[name])
        answer = gradio_app.call(client, name, given, max(1.0, min(timeout, 600.0)))
        folder = here().folder / "spaces" / space_id.rstrip("/").split("/")[-1].replace(":", "_")
        value, paths = gradio_app.fetched(client, answer, folder)
    files = [str(path) for path in paths]
    if len(files) == 1 and value == files[0]:
        return envelope.file(files[0], paths[0].name, paths[0].stat().st_size, result=value, files=files, note=note)
    text = gradio_app.plain(value)
    if len(text) > MOST_VALUE:
        folder.mkdir(parents=True, exist_ok=True)
        whole = folder / "result.json"
        whole.write_text(text)
        note = f"{note} The whole result ({len(text):,} characters) lies in {whole}.".strip()
        return envelope.text(text[:MOST_TEXT], result=None, files=[*files, str(whole)], note=note)
    return envelope.text(text[:MOST_TEXT], result=value, files=files, note=note)


def _host(space_id: str) -> tuple[str, str | None, str]:
    """Where the Space runs, the token it may see, and a note."""
    if urlsplit(space_id).hostname and str(urlsplit(space_id).hostname).endswith(".hf.space"):
        return gradio_app.checked_host(space_id), None, ""
    place = place_of(space_id, None if "spaces/" in space_id else "space")
    info, note = ask(lambda api: api.space_info(place.repo_id))
    stage = info.runtime.stage if info.runtime else None
    if info.sdk == "static" or not info.host:
        raise ToolError(f"{place.repo_id} is a {info.sdk} Space with no app to call. Use find_space for Gradio ones.")
    if stage in BROKEN:
        raise ToolError(f"{place.repo_id} does not run now ({stage}). Choose another with find_space.")
    token = here().hf_token if info.private and _is_own(place.repo_id) else None
    return gradio_app.checked_host(info.host), token, note


def _is_own(repo_id: str) -> bool:
    known = account()
    return repo_id.split("/")[0] in {known.get("name"), *(org["name"] for org in known.get("orgs") or [])}


def _chosen(endpoint: str | None, names: list[str]) -> str:
    if endpoint is None and len(names) == 1:
        return names[0]
    wanted = f"/{endpoint.strip('/')}" if endpoint else None
    if wanted in names:
        return wanted
    wrong = f"There is no endpoint {endpoint!r}." if endpoint else "Say which endpoint."
    raise ToolError(f"{wrong} This Space has: {', '.join(names) or 'none'}.")


def _online() -> None:
    if offline():
        raise ToolError(OFFLINE)


def _page(space_id: str) -> str:
    return space_id if "://" in space_id else f"{endpoint()}/spaces/{space_id.removeprefix('spaces/')}"


def _example(one: dict[str, Any]) -> Any:
    if one["is_file"]:
        return "file.ext"
    return {"str": "text", "float": 1.0, "int": 1, "bool": True}.get(one["type"].split(" ")[0], one["type"])


def _line(one: dict[str, Any]) -> str:
    default = "required" if one["required"] else f"default {one['default']!r}"
    about = f"; {one['about']}" if one["about"] else ""
    return f"- {one['name']}: {one['type'][:200]} ({default}; {one['component']} {one['label']!r}{about})"[:500]
