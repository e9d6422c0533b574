"""Spaces: a real Gradio app in a process of its own, told about by a Hub on loopback, called by the real client."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tools.fake_hub import Exchange, FakeHub
from tests.tools.hub_samples import GOOD, Repo
from tools.context import Cancelled, Context, ToolError
from tools.declare import declaration
from tools.hubs import gradio_app
from tools.spaces import call_space, describe_space, find_space

pytestmark = pytest.mark.usefixtures("context")


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, "GRADIO_SERVER_PORT": port, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(Path(__file__).with_name("gradio_space.py"))]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture
def space(hub: FakeHub, app: str) -> FakeHub:
    running = {"stage": "RUNNING", "hardware": {"current": "cpu-basic", "requested": "cpu-basic"}}
    told = {"sdk": "gradio", "host": app.rstrip("/"), "title": "Greets people", "runtime": running}
    hub.repos += [
        Repo("space", "acme/greeter", {}, extra=told),
        Repo("space", "ann/mine", {}, private=True, extra=told),
        Repo("space", "other/shared", {}, private=True, extra=told),
        Repo("space", "acme/asleep", {}, extra={**told, "runtime": {**running, "stage": "PAUSED"}}),
        Repo("space", "acme/page", {}, extra={**told, "sdk": "static"}),
    ]
    return hub


def test_a_space_is_found_described_and_called(space: FakeHub) -> None:
    found = find_space("greets")["rows"][0]
    assert found[:2] == ["acme/greeter", "Greets people"]
    described = describe_space(found[0])
    greet = {one["name"]: one for one in described["endpoints"]["/greet"]}
    assert greet["name"]["required"] and not greet["times"]["required"]
    assert "call_space('acme/greeter', '/greet', {'name': 'text'})" in described["markdown"]
    answer = call_space("acme/greeter", "greet", {"name": "Ann", "times": 2})
    assert (answer["type"], answer["text"], answer["result"]) == (
        "text",
        "Hello Ann! Hello Ann!",
        "Hello Ann! Hello Ann!",
    )


def test_an_address_names_a_space_as_well(space: FakeHub) -> None:
    assert call_space(f"{space.url}/spaces/acme/greeter", "/greet", {"name": "Ann"})["text"] == "Hello Ann!"


def test_files_go_in_and_come_back_into_the_working_folder(space: FakeHub, context: Context) -> None:
    (context.folder / "note.txt").write_text("quiet words")
    answer = call_space("acme/greeter", "/shout", {"document": "note.txt"})
    assert answer["type"] == "file"
    path = Path(answer["path"])
    assert path.is_relative_to(context.folder) and path.read_text() == "QUIET WORDS"
    assert path.name == "loud_report.txt"
    again = call_space("acme/greeter", "/shout", {"document": "note.txt"})
    assert again["path"] != answer["path"]


@pytest.mark.parametrize(
    "disguise", [str, lambda path: {"path": path}, lambda path: {"path": path, "meta": {"_type": "gradio.FileData"}}]
)
@pytest.mark.parametrize("place", ["outside", "link", "up"])
def test_no_file_outside_the_working_folder_is_given_away(
    space: FakeHub, context: Context, tmp_path: Path, disguise: Callable, place: str
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("private")
    (context.folder / "innocent.txt").symlink_to(secret)
    path = {"outside": str(secret), "link": "innocent.txt", "up": "../secret.txt"}[place]
    with pytest.raises(ToolError, match="outside the working folder"):
        call_space("acme/greeter", "/shout", {"document": disguise(path)})


def test_an_answer_cannot_send_us_to_another_host(space: FakeHub, context: Context, app: str) -> None:
    (context.folder / "note.txt").write_text("words")
    with gradio_app.app(app, None) as client:
        given = gradio_app.arguments_in({"document": "note.txt"}, gradio_app.endpoints(client)["/shout"])
        answer = gradio_app.call(client, "/shout", given, 30)
        trap = answer | {"url": f"{space.url}/stolen"}
        client.config["root"] = space.url
        _, paths = gradio_app.fetched(client, [trap], context.folder / "out")
    assert paths[0].read_text() == "WORDS"
    assert space.seen == []


def test_an_app_that_wants_to_be_called_elsewhere_is_not(space: FakeHub) -> None:
    def config(ask: Exchange) -> None:
        ask.json({"version": "6.0.0", "api_prefix": "http://127.0.0.1:9/", "dependencies": [], "protocol": "sse_v3"})

    space.on("GET", "/config", config)
    space.repos.append(Repo("space", "acme/trap", {}, extra={"sdk": "gradio", "host": space.url}))
    with pytest.raises(ToolError, match="called somewhere else"):
        describe_space("acme/trap")


@pytest.mark.parametrize(
    "host",
    ["http://169.254.169.254", "https://10.0.0.1/", "http://example.org", "https://user@example.org", "ftp://x.y"],
)
def test_a_strange_host_is_not_called(space: FakeHub, host: str) -> None:
    space.repos.append(Repo("space", "acme/odd", {}, extra={"sdk": "gradio", "host": host}))
    with pytest.raises(ToolError, match="no address of a Space"):
        describe_space("acme/odd")


def test_the_token_goes_to_ones_own_private_space_and_to_no_other(
    space: FakeHub, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD)  # nor is one found on the machine
    context.hf_token = GOOD
    seen = {name: call_space(name, "/headers") for name in ("ann/mine", "acme/greeter", "other/shared")}
    assert seen["ann/mine"]["result"]["x-hf-authorization"] == "Bearer [token]"
    for name in ("acme/greeter", "other/shared"):
        assert not {"x-hf-authorization", "authorization"} & set(seen[name]["result"])
    assert GOOD not in json.dumps(seen)


def test_wrong_arguments_are_told_before_anything_runs(space: FakeHub) -> None:
    with pytest.raises(ToolError, match=r"Unknown: nam. The endpoint takes name: str, times: float \(optional\)"):
        call_space("acme/greeter", "/greet", {"nam": "Ann"})
    with pytest.raises(ToolError, match="Missing: name"):
        call_space("acme/greeter", "/greet")
    with pytest.raises(ToolError, match="This Space has: /greet, /shout"):
        call_space("acme/greeter", "/hello", {})
    with pytest.raises(ToolError, match="Say which endpoint"):
        call_space("acme/greeter")


def test_a_space_that_raises_is_told_in_its_words_without_the_token(space: FakeHub, context: Context) -> None:
    context.hf_token = GOOD
    with pytest.raises(ToolError, match=r"The Space failed: .*no such voice") as caught:
        call_space("acme/greeter", "/fail", {"reason": f"no such voice {GOOD}"})
    assert GOOD not in str(caught.value)


def test_a_slow_space_is_given_up_at_the_limit(space: FakeHub) -> None:
    begin = time.monotonic()
    with pytest.raises(ToolError, match="No result within 1 s"):
        call_space("acme/greeter", "/wait", {"seconds": 20}, timeout=1)
    assert time.monotonic() - begin < 5


def test_a_cancel_ends_the_wait_at_once(space: FakeHub, context: Context) -> None:
    cancelled: list[float] = []

    def stop() -> None:
        cancelled.append(time.monotonic())
        context.cancel.set()

    context.progress = lambda done, text: threading.Timer(0.3, stop).start() if not cancelled else None
    with pytest.raises(Cancelled):
        call_space("acme/greeter", "/wait", {"seconds": 20}, timeout=60)
    assert time.monotonic() - cancelled[0] < 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("acme/asleep", "does not run now .PAUSED"),
        ("acme/page", "static Space"),
        ("acme/nobody", "not found"),
    ],
)
def test_a_space_that_cannot_be_called_says_why(space: FakeHub, name: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        call_space(name, "/greet", {"name": "Ann"})


def test_an_app_that_is_not_up_says_so(space: FakeHub) -> None:
    space.repos.append(Repo("space", "acme/down", {}, extra={"sdk": "gradio", "host": "http://127.0.0.1:9"}))
    with pytest.raises(ToolError, match="may be starting"):
        describe_space("acme/down")


def test_offline_no_space_is_called(space: FakeHub, context: Context) -> None:
    context.offline = True
    for call in (lambda: find_space("x"), lambda: describe_space("acme/greeter"), lambda: call_space("acme/greeter")):
        with pytest.raises(ToolError, match="Offline"):
            call()
    assert space.seen == []


def test_a_call_tells_beforehand_where_it_goes(hub: FakeHub) -> None:
    told = declaration(call_space)
    assert told and told.risk == "network" and told.stake
    stake = told.stake("acme/greeter", "/greet", {"name": "Ann"})
    assert stake.where == f"{hub.url}/spaces/acme/greeter" and "acme/greeter" in stake.what


def test_nothing_is_printed_and_the_process_ends_after_a_call_was_given_up(
    space: FakeHub, app: str, tmp_path: Path
) -> None:
    code = f"""
from pathlib import Path
from tools.context import Context, ToolError, inside
from tools.spaces import call_space
with inside(Context(folder=Path({str(tmp_path)!r}))):
    assert call_space("acme/greeter", "/greet", {{"name": "Ann"}})["text"] == "Hello Ann!"
    try:
        call_space("acme/greeter", "/wait", {{"seconds": 60}}, timeout=1)
    except ToolError as error:
        assert "No result" in str(error)
"""
    env = {"HF_ENDPOINT": space.url, "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
