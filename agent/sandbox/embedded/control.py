"""The control plane: the REST calls of today's E2B SDKs (v2 paths) and of older ones (v1).

What this server cannot do (memory snapshots, forks, volumes, templates) is answered with 501 and a sentence.
"""

import base64
import math
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from .guest.wire import HttpError, Reply, Request, Router
from .sandboxes import DEFAULT_TEMPLATE, ENVD_VERSION, Record, Sandbox, Sandboxes

DEFAULT_TIMEOUT = 300
PAUSE_NOTE = "Memory was lost on pause: kernels and processes start anew; files, metadata and environment are kept."
UNSUPPORTED = {
    ("POST", "/sandboxes/{id}/snapshots"): "snapshots",
    ("POST", "/sandboxes/{id}/fork"): "forks",
    ("GET", "/snapshots"): "snapshots",
    ("GET", "/volumes"): "volumes",
    ("POST", "/volumes"): "volumes",
    ("POST", "/v3/templates"): "building templates",
    ("POST", "/v2/templates"): "building templates",
    ("POST", "/templates"): "building templates",
}


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def routes(router: Router, sandboxes: Sandboxes, domain: Callable[[], str]) -> None:
    """Register the control plane. `domain` is what `get_host` builds on: `{port}-{id}.{domain}`."""

    async def create(request: Request) -> Reply:
        body = await mapping(request)
        unsupported_options(body)
        record = Record(
            id="",
            uid=None,
            template=text(body, "templateID", DEFAULT_TEMPLATE),
            metadata=strings(body, "metadata"),
            envs=strings(body, "envVars"),
            auto_pause=bool(body.get("autoPause")),
            network=network_of(body),
        )
        record.public_ports = record.network.get("allowPublicTraffic") is not False
        timeout = number(body, "timeout", DEFAULT_TIMEOUT)
        key = request.headers.get("idempotency-key")
        return Reply.json(opened(await sandboxes.create(record, timeout, key), domain()), 201)

    async def connect(request: Request, id: str) -> Reply:
        body, sandbox = await mapping(request), sandboxes.get(id)
        resumed = not sandbox.running
        if resumed:
            await sandboxes.resume(sandbox)
        wanted = number(body, "timeout", DEFAULT_TIMEOUT)
        if resumed or time.time() + wanted > sandbox.record.end_at:
            sandboxes.set_timeout(sandbox, wanted)
        return Reply.json(opened(sandbox, domain()), 201 if resumed else 200)

    async def info(request: Request, id: str) -> Reply:
        return Reply.json(described(sandboxes.get(id), sandboxes) | opened(sandboxes.get(id), domain()))

    async def list_all(request: Request) -> Reply:
        return listing(request, sandboxes, "running,paused")

    async def list_running(request: Request) -> Reply:
        return listing(request, sandboxes, "running")

    async def kill(request: Request, id: str) -> Reply:
        await sandboxes.end(sandboxes.get(id))
        return Reply(204)

    async def timeout(request: Request, id: str) -> Reply:
        sandbox = sandboxes.get(id)
        sandboxes.set_timeout(sandbox, number(await mapping(request), "timeout", DEFAULT_TIMEOUT))
        return Reply(204)

    async def pause(request: Request, id: str) -> Reply:
        await sandboxes.pause(sandboxes.get(id))
        return Reply(204)

    async def metrics(request: Request, id: str) -> Reply:
        sandbox = sandboxes.get(id)
        start, end = number(request.query, "start", 0), number(request.query, "end", math.inf)
        samples = sandbox.metrics.samples(start, end) if sandbox.metrics else []
        return Reply.json(samples)

    async def network(request: Request, id: str) -> Reply:
        sandbox = sandboxes.get(id)
        sandbox.record.network = network_of({"network": await mapping(request)})
        sandbox.egress.set_rules(sandboxes.rules(sandbox.record))
        sandbox.save()
        return Reply(204)

    async def logs(request: Request, id: str) -> Reply:
        sandbox = sandboxes.get(id)
        lines = [denial.line() for denial in sandbox.egress.denials]
        return Reply.json({"logs": [{"timestamp": iso(time.time()), "line": line} for line in lines], "logEntries": []})

    for version in ("", "/v2"):
        router.add("POST", f"{version}/sandboxes", create)
        router.add("POST", f"{version}/sandboxes/{{id}}/connect", connect)
        router.add("POST", f"{version}/sandboxes/{{id}}/resume", connect)
        router.add("GET", f"{version}/sandboxes/{{id}}", info)
        router.add("DELETE", f"{version}/sandboxes/{{id}}", kill)
        router.add("POST", f"{version}/sandboxes/{{id}}/timeout", timeout)
        router.add("POST", f"{version}/sandboxes/{{id}}/pause", pause)
        router.add("GET", f"{version}/sandboxes/{{id}}/metrics", metrics)
        router.add("PUT", f"{version}/sandboxes/{{id}}/network", network)
        router.add("GET", f"{version}/sandboxes/{{id}}/logs", logs)
    router.add("GET", "/v2/sandboxes", list_all)
    router.add("GET", "/sandboxes", list_running)
    for (method, path), name in UNSUPPORTED.items():
        router.add(method, path, refuse(name))


def refuse(name: str) -> Callable[..., Awaitable[Reply]]:
    async def handle(request: Request, **_: str) -> Reply:
        raise HttpError(501, f"This server does not do {name}; E2B cloud does")

    return handle


def opened(sandbox: Sandbox, domain: str) -> dict[str, Any]:
    """What create and connect answer."""
    record = sandbox.record
    return {
        "templateID": record.template,
        "sandboxID": record.id,
        "clientID": "embedded",
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": record.access_token,
        "trafficAccessToken": record.traffic_token,
        "alias": record.template,
        "domain": domain,
    }


def described(sandbox: Sandbox, sandboxes: Sandboxes) -> dict[str, Any]:
    """What info and list answer."""
    record, limits = sandbox.record, sandboxes.config.limits
    told = {
        "templateID": record.template,
        "alias": record.template,
        "sandboxID": record.id,
        "clientID": "embedded",
        "startedAt": iso(record.started_at),
        "endAt": iso(record.end_at),
        "state": record.state,
        "cpuCount": max(1, math.ceil(limits.cpus or os.cpu_count() or 1)),
        "memoryMB": limits.memory_mb,
        "diskSizeMB": limits.disk_mb,
        "envdVersion": ENVD_VERSION,
        "metadata": record.metadata,
    }
    return told | ({"memoryKept": False, "note": PAUSE_NOTE} if record.memory_lost else {})


def listing(request: Request, sandboxes: Sandboxes, default_states: str) -> Reply:
    """Filter, order and page. The token is the place of the last row, so rows that come or go skip or double none."""
    states = set(request.query.get("state", default_states).split(","))
    wanted = dict(parse_qsl(unquote(request.query.get("metadata", ""))))
    after = instant(request.query.get("startedAfter"))
    template = request.query.get("template")
    rows = [
        sandbox
        for sandbox in sandboxes.all.values()
        if sandbox.record.state in states
        and wanted.items() <= sandbox.record.metadata.items()
        and sandbox.record.started_at >= after
        and template in (None, "", sandbox.record.template)
    ]
    descending = request.query.get("order", "desc") != "asc"
    rows.sort(key=place, reverse=descending)
    if token := request.query.get("nextToken"):
        last = read_token(token)
        rows = [row for row in rows if (place(row) < last if descending else place(row) > last)]
    limit = int(number(request.query, "limit", 100))
    if limit < 1:
        raise HttpError(400, "limit must be at least 1")
    page = rows[:limit]
    headers = {"x-next-token": make_token(place(page[-1]))} if len(rows) > limit else {}
    reply = Reply.json([described(row, sandboxes) for row in page])
    reply.headers |= headers
    return reply


def place(sandbox: Sandbox) -> tuple[str, str]:
    return iso(sandbox.record.started_at), sandbox.record.id


def make_token(last: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode("|".join(last).encode()).decode()


def read_token(token: str) -> tuple[str, str]:
    try:
        moment, _, sandbox_id = base64.urlsafe_b64decode(token).decode().partition("|")
    except ValueError:
        raise HttpError(400, "nextToken is not one that this server gave") from None
    return moment, sandbox_id


def instant(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        raise HttpError(400, f"'{text}' is not an ISO date") from None


# -- reading what was sent ---------------------------------------------------------------------------------------------


async def mapping(request: Request) -> dict[str, Any]:
    body = await request.json(1024 * 1024)
    if not isinstance(body, dict):
        raise HttpError(400, "The request body must be a JSON object")
    return body


def text(body: dict[str, Any], name: str, default: str) -> str:
    value = body.get(name) or default
    if not isinstance(value, str) or len(value) > 256:
        raise HttpError(400, f"{name} must be a string of at most 256 characters")
    return value


def strings(body: dict[str, Any], name: str) -> dict[str, str]:
    value = body.get(name) or {}
    fits = isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())
    if not fits or any("\0" in k + v or "=" in k for k, v in value.items() if name == "envVars"):
        raise HttpError(400, f"{name} must map strings to strings")
    return value


def number(body: dict[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value in (None, ""):
        return default
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(value, bool) or math.isnan(found) or found < 0:
        raise HttpError(400, f"{name} must be a number that is not negative")
    return found


def network_of(body: dict[str, Any]) -> dict[str, Any]:
    """The network options of a request as one mapping; only what the proxy knows is kept."""
    network = body.get("network") or {}
    if not isinstance(network, dict):
        raise HttpError(400, "network must be a JSON object")
    if network.get("rules"):
        raise HttpError(501, "This server does not rewrite requests (network.rules); E2B cloud does")
    known = {name: network[name] for name in ("allowOut", "denyOut", "allowPublicTraffic") if name in network}
    for name in ("allowOut", "denyOut"):
        rules = known.get(name) or []
        if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
            raise HttpError(400, f"network.{name} must be a list of strings")
    internet = body.get("allow_internet_access", body.get("allowInternetAccess"))
    if internet is False:
        known["denyOut"] = ["0.0.0.0/0"]
        known.pop("allowOut", None)
    return known


def unsupported_options(body: dict[str, Any]) -> None:
    for name, what in {"volumeMounts": "volumes", "mcp": "MCP gateways", "iam": "workload identities"}.items():
        if body.get(name):
            raise HttpError(501, f"This server does not do {what} ({name}); E2B cloud does")
