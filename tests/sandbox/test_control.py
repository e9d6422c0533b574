"""The control plane, called by the official SDK and, where the SDK would not misbehave, by hand."""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from e2b import AuthenticationException, SandboxException, SandboxNotFoundException, SandboxQuery, SandboxState
from e2b_code_interpreter import AsyncSandbox, Sandbox

from .serving import Served, serving


def ask(served: Served, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    named = {"X-API-Key": served.key, **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(served.url + path, data, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def wait_until_dead(sandbox: Sandbox, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while sandbox.is_running():
        assert time.monotonic() < end, "the sandbox still runs"
        time.sleep(0.05)


def test_metadata_and_environment_reach_the_sandbox_and_its_info(served: Served) -> None:
    with Sandbox.create(metadata={"a": "1"}, envs={"COLOUR": "red"}, timeout=60, **served.options) as sandbox:
        info = sandbox.get_info()
        assert info.metadata == {"a": "1"} and info.state == SandboxState.RUNNING
        assert 50 < (info.end_at - info.started_at).total_seconds() <= 61
        assert sandbox.run_code("import os; os.environ['COLOUR']").text == "red"
        assert sandbox.commands.run("echo $COLOUR").stdout == "red\n"


def test_the_list_is_filtered_by_metadata_and_paged(served: Served) -> None:
    made = [Sandbox.create(metadata={"list": "yes", "n": str(n)}, **served.options) for n in range(5)]
    try:
        pages = Sandbox.list(query=SandboxQuery(metadata={"list": "yes"}), limit=2, **served.options)
        seen: list[str] = []
        sizes = []
        while pages.has_next:
            page = pages.next_items()
            sizes.append(len(page))
            seen += [info.sandbox_id for info in page]
        assert sizes == [2, 2, 1]
        assert sorted(seen) == sorted(sandbox.sandbox_id for sandbox in made)
        one = Sandbox.list(query=SandboxQuery(metadata={"list": "yes", "n": "3"}), **served.options).next_items()
        assert [info.sandbox_id for info in one] == [made[3].sandbox_id]
        odd = Sandbox.list(query=SandboxQuery(metadata={"list": "a&b=c d"}), **served.options).next_items()
        assert odd == []
    finally:
        for sandbox in made:
            sandbox.kill()


def test_connect_finds_the_same_sandbox(served: Served, sandbox: Sandbox) -> None:
    sandbox.run_code("x = 41")
    again = Sandbox.connect(sandbox.sandbox_id, **served.options)
    assert again.run_code("x + 1").text == "42"


def test_connect_never_shortens_the_lifetime(served: Served) -> None:
    with Sandbox.create(timeout=600, **served.options) as sandbox:
        before = sandbox.get_info().end_at
        Sandbox.connect(sandbox.sandbox_id, timeout=5, **served.options)
        assert sandbox.get_info().end_at == before


def test_a_sandbox_ends_at_its_timeout(served: Served) -> None:
    sandbox = Sandbox.create(timeout=1, **served.options)
    wait_until_dead(sandbox, 5)
    with pytest.raises(SandboxNotFoundException):
        sandbox.get_info()


def test_set_timeout_moves_the_end(served: Served, sandbox: Sandbox) -> None:
    sandbox.set_timeout(1)
    wait_until_dead(sandbox, 5)


def test_pause_keeps_files_and_metadata_and_says_that_memory_is_lost(served: Served) -> None:
    sandbox = Sandbox.create(metadata={"keep": "me"}, envs={"COLOUR": "red"}, **served.options)
    sandbox.files.write("kept.txt", "still here")
    sandbox.run_code("x = 1")
    assert sandbox.pause() and not sandbox.pause()
    assert not sandbox.is_running()
    assert sandbox.get_info().state == SandboxState.PAUSED
    assert ask(served, "GET", f"/sandboxes/{sandbox.sandbox_id}")[1]["memoryKept"] is False
    back = Sandbox.connect(sandbox.sandbox_id, **served.options)
    assert back.files.read("kept.txt") == "still here"
    assert back.get_info().metadata == {"keep": "me"}
    assert back.run_code("import os; os.environ['COLOUR']").text == "red"
    gone = back.run_code("x")
    assert gone.error and gone.error.name == "NameError"
    back.kill()


def test_a_paused_sandbox_survives_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "home", "--key", "one-key-for-both") as served:
        sandbox = Sandbox.create(**served.options)
        running = Sandbox.create(**served.options)
        sandbox.files.write("kept.txt", "across")
        sandbox.pause()
    with serving(tmp_path / "home", "--key", "one-key-for-both") as served:
        assert Sandbox.connect(sandbox.sandbox_id, **served.options).files.read("kept.txt") == "across"
        with pytest.raises(SandboxNotFoundException):
            Sandbox.connect(running.sandbox_id, **served.options)


def test_kill_is_true_once(served: Served) -> None:
    sandbox = Sandbox.create(**served.options)
    assert sandbox.kill() is True
    assert sandbox.kill() is False
    assert not sandbox.is_running()


def test_metrics_tell_memory_and_cpu(served: Served, sandbox: Sandbox) -> None:
    sandbox.run_code("block = bytearray(100_000_000)")
    sample = sandbox.get_metrics()[-1]
    assert sample.mem_used > 100_000_000 and sample.mem_total >= sample.mem_used
    assert sample.cpu_count >= 1 and sample.disk_total > 0


def test_an_idempotency_key_makes_one_sandbox(served: Served) -> None:
    options = {**served.options, "idempotency_key": "only-once"}
    first, second = Sandbox.create(**options), Sandbox.create(**options)
    assert first.sandbox_id == second.sandbox_id
    first.kill()


@pytest.mark.parametrize("path", ["/sandboxes", "/v2/sandboxes"])
def test_old_and_new_paths_create(served: Served, path: str) -> None:
    status, told = ask(served, "POST", path, {"templateID": "base", "timeout": 30})
    assert status == 201 and told["envdAccessToken"] and told["trafficAccessToken"] and told["envdVersion"]
    assert ask(served, "GET", "/sandboxes")[0] == 200
    assert ask(served, "DELETE", f"/sandboxes/{told['sandboxID']}")[0] == 204


def test_a_wrong_key_is_refused(served: Served) -> None:
    with pytest.raises(AuthenticationException):
        Sandbox.create(**{**served.options, "api_key": "wrong"})
    assert ask(served, "GET", "/v2/sandboxes", X_API_Key="")[0] == 401


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"timeout": -1}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"envVars": {"a=b": "c"}}, "envVars"),
        ({"network": {"denyOut": "all"}}, "denyOut"),
        ({"network": {"allowOut": ["not a host!"]}}, "not a host"),
        (["a list"], "object"),
    ],
)
def test_a_wrong_create_is_told_in_one_line(served: Served, body: object, named: str) -> None:
    status, told = ask(served, "POST", "/v2/sandboxes", body)
    assert status == 400 and named in told["message"] and "\n" not in told["message"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/sandboxes/x/snapshots"), ("POST", "/sandboxes/x/fork"), ("POST", "/v3/templates")]
)
def test_what_is_not_done_here_says_so(served: Served, method: str, path: str) -> None:
    status, told = ask(served, method, path, {})
    assert status == 501 and "E2B cloud does" in told["message"]


def test_unknown_paths_and_methods(served: Served) -> None:
    assert ask(served, "GET", "/nothing")[0] == 404
    assert ask(served, "PATCH", "/sandboxes")[0] == 405


def test_a_foreign_host_name_is_refused(served: Served) -> None:
    assert ask(served, "GET", "/health", Host="evil.example")[0] == 421
    assert ask(served, "GET", "/v2/sandboxes", Host="rebound.example:80")[0] == 421


def test_a_port_inside_is_reached_by_the_hosts_scheme(served: Served, sandbox: Sandbox) -> None:
    sandbox.files.write("site/index.html", "hello from inside")
    sandbox.commands.run("python -m http.server 8123 --directory site", background=True)
    name = sandbox.get_host(8123)
    assert name.endswith(f".localhost:{served.url.rsplit(':', 1)[1]}")
    end, answer = time.monotonic() + 10, b""
    while b"hello" not in answer and time.monotonic() < end:
        request = urllib.request.Request(served.url + "/index.html", headers={"Host": name})
        try:
            answer = urllib.request.urlopen(request, timeout=5).read()
        except urllib.error.HTTPError as error:
            assert error.code == 502
            time.sleep(0.05)
    assert answer == b"hello from inside"


def test_private_ports_demand_the_traffic_token(served: Served) -> None:
    with Sandbox.create(network={"allow_public_traffic": False}, **served.options) as sandbox:
        status, _ = ask(served, "GET", "/", Host=sandbox.get_host(8123))
        assert status == 401
        allowed, _ = ask(
            served, "GET", "/", Host=sandbox.get_host(8123), E2B_Traffic_Access_Token=sandbox.traffic_access_token or ""
        )
        assert allowed == 502  # let through; nothing listens there


def test_the_async_sdk_works(served: Served) -> None:
    import asyncio

    async def story() -> None:
        async with await AsyncSandbox.create(**served.options) as sandbox:
            ran = await sandbox.run_code("print('hi'); 6 * 7")
            assert ran.text == "42" and ran.logs.stdout == ["hi\n"]
            assert (await sandbox.commands.run("echo done")).stdout == "done\n"
            await sandbox.files.write("a.txt", "async")
            assert await sandbox.files.read("a.txt") == "async"

    asyncio.run(story())


def test_too_many_sandboxes_are_refused_not_queued(tmp_path: Path) -> None:
    with serving(tmp_path / "home", MODELSMITH_SANDBOX_MAX="2") as served:
        made = [Sandbox.create(**served.options) for _ in range(2)]
        with pytest.raises(SandboxException, match="maximum"):
            Sandbox.create(**{**served.options, "retries": 0})
        made[0].kill()
        Sandbox.create(**served.options)
