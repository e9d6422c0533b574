"""Only the server's own key and a sandbox's own tokens open anything, wherever in a request they stand."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.sandbox import leftovers

from .attack import ORDINARY, Jailed, outside
from .raw import read_file, request, start, status, talk, talk_and_read, tokens


def test_the_right_tokens_open_the_door(jailed: Jailed) -> None:
    """The control of all checks below."""
    assert jailed.secret.encode() in talk(jailed.served, read_file(**tokens(jailed.other)))
    assert status(talk(jailed.served, request("GET", "/v2/sandboxes", X_API_Key=jailed.served.key))) == 200
    assert b"ran" in talk_and_read(jailed.served, start("echo ran", **tokens(jailed.other)))


@pytest.mark.parametrize("key", ["", "wrong", "lower", "own token"])
def test_the_control_plane_opens_to_no_key_but_its_own(jailed: Jailed, key: str) -> None:
    given = {"lower": jailed.served.key.swapcase(), "own token": tokens(jailed.box)["X_Access_Token"]}.get(key, key)
    other = jailed.other.sandbox_id
    for method, path in (("GET", "/v2/sandboxes"), ("GET", f"/sandboxes/{other}"), ("DELETE", f"/sandboxes/{other}x")):
        answer = talk(jailed.served, request(method, path, X_API_Key=given))
        assert status(answer) == 401 and jailed.other.sandbox_id.encode() not in answer


WRONG = ["none", "empty", "own", "key", "lower", "longer", "other kind", "null byte", "comma"]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("door", ["files", "command", "cell", "contexts"])
def test_a_sandbox_opens_to_no_token_but_its_own(jailed: Jailed, wrong: str, door: str) -> None:
    right, own = tokens(jailed.other), tokens(jailed.box)
    name = "E2B_Traffic_Access_Token" if door in ("cell", "contexts") else "X_Access_Token"
    given = {
        "none": {},
        "empty": {name: ""},
        "own": {name: own[name]},
        "key": {name: jailed.served.key, "X_API_Key": jailed.served.key},
        "lower": {name: right[name].swapcase()},
        "longer": {name: right[name] + "x"},
        "other kind": {
            "E2B_Traffic_Access_Token": right["X_Access_Token"],
            "X_Access_Token": right["E2B_Traffic_Access_Token"],
        },
        "null byte": {name: right[name][:-1] + "\xff"},
        "comma": {name: f"{own[name]}, {right[name]}"},
    }[wrong]
    headers = {"E2b_Sandbox_Id": jailed.other.sandbox_id, **given}
    cell = b'{"code": "open(\'secret.txt\').read()", "language": "python"}'
    data = {
        "files": lambda: read_file(**headers),
        "command": lambda: start("cat secret.txt", **headers),
        "cell": lambda: request("POST", "/execute", cell, Content_Type="application/json", **headers),
        "contexts": lambda: request("GET", "/contexts", **headers),
    }[door]()
    answer = talk_and_read(jailed.served, data)
    assert status(answer) == 401 and jailed.secret.encode() not in answer


def test_the_id_of_another_sandbox_with_ones_own_tokens_opens_nothing(jailed: Jailed) -> None:
    forged = {**tokens(jailed.box), "E2b_Sandbox_Id": jailed.other.sandbox_id}
    assert status(talk(jailed.served, read_file(**forged))) == 401
    by_host = {**tokens(jailed.box), "Host": f"49983-{jailed.other.sandbox_id}.localhost"}
    assert status(talk(jailed.served, read_file(**by_host))) == 401


@pytest.mark.parametrize("first", ["own", "other"])
@pytest.mark.parametrize("name", ["E2b-Sandbox-Id", "X-Access-Token", "Host", "e2b-sandbox-id"])
def test_a_header_sent_twice_opens_nothing(jailed: Jailed, name: str, first: str) -> None:
    own, other = tokens(jailed.box), tokens(jailed.other)
    if name == "Host":
        hosts = ["localhost", f"49983-{jailed.other.sandbox_id}.localhost"]
        own, other = {"Host": hosts[0], **own}, {"Host": hosts[1]}
    pair = [own, other] if first == "own" else [other, own]
    key = {"e2b-sandbox-id": "E2b-Sandbox-Id"}.get(name, name).replace("-", "_")
    spelled = [name, name.upper()]
    twice = "".join(f"{spelling}: {headers[key]}\r\n" for spelling, headers in zip(spelled, pair, strict=True))
    rest = {k: v for k, v in own.items() if k != key}
    fixed = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in {"Host": "localhost", **rest}.items() if k != key)
    data = f"GET /files?path=secret.txt HTTP/1.1\r\n{fixed}{twice}Connection: close\r\n\r\n".encode()
    answer = talk(jailed.served, data)
    assert jailed.secret.encode() not in answer and status(answer) in (400, 401, 404)


@pytest.mark.parametrize(
    "target",
    [
        "/init",
        "/%69nit",
        "//init",
        "/files/../init",
        "/health/../init",
        "/process.Process/../init",
        "http://localhost/init",
        "http://guest/init",
        "/init?signature=x",
        "/execute/../init",
        "/health%0a/../../init",
    ],
)
@pytest.mark.parametrize("port", ["49983", "49999", ""])
def test_what_only_the_host_may_call_is_not_reached(jailed: Jailed, target: str, port: str) -> None:
    body = b'{"envVars": {"INJECTED": "1"}}'
    headers = {**tokens(jailed.other), **({"E2b_Sandbox_Port": port} if port else {})}
    assert status(talk(jailed.served, request("POST", target, body, **headers))) in (400, 404, 405, 401)
    assert "INJECTED" not in jailed.other.commands.run("env").stdout


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "169.254.169.254",
        "evil.example#localhost",
        "",
        "0.0.0.0",
    ],
)
def test_a_page_that_rebinds_its_name_reaches_nothing(jailed: Jailed, host: str) -> None:
    for path in ("/v2/sandboxes", "/health"):
        answer = talk(jailed.served, request("GET", path, Host=host, X_API_Key=jailed.served.key))
        assert status(answer) in (400, 421)
    named = f"8123-{jailed.other.sandbox_id}.evil.example"
    assert status(talk(jailed.served, request("GET", "/", Host=named))) == 421


@pytest.mark.parametrize(
    "change", ["path", "user", "operation", "expiry", "another sandbox", "expired", "empty", "second path"]
)
def test_a_signature_opens_one_file_one_way(jailed: Jailed, change: str) -> None:
    jailed.other.files.write("public.txt", "public")
    url = jailed.other.download_url("public.txt", use_signature_expiration=60 if change != "expired" else -60)
    path = "/" + url.split("/", 3)[3]
    assert change == "expired" or status(talk(jailed.served, request("GET", path))) == 200
    method, headers, body = "GET", {}, b""
    if change == "path":
        path = path.replace("public.txt", "secret.txt")
    elif change == "user":
        path += "&username=root"
    elif change == "operation":
        method, body = "POST", b"overwritten"
        headers = {"Content_Type": "application/octet-stream"}
    elif change == "expiry":
        path = path.replace("signature_expiration=1", "signature_expiration=9")
    elif change == "another sandbox":
        headers = {"E2b_Sandbox_Id": jailed.box.sandbox_id}
    elif change == "empty":
        path = path.split("signature=")[0] + "signature="
    elif change == "second path":
        path += "&path=secret.txt"
    answer = talk(jailed.served, request(method, path, body, **headers))
    assert status(answer) == 401 and jailed.secret.encode() not in answer
    assert jailed.other.files.read("public.txt") == "public"


@pytest.mark.parametrize("kind", ["guest", "proxy"])
def test_another_user_of_the_machine_cannot_use_a_sandboxs_sockets(jailed: Jailed, kind: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    folder = Path("/tmp", leftovers.mark(jailed.served))
    path = folder / (jailed.other.sandbox_id + (".proxy" if kind == "proxy" else ""))
    code = "import socket; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    stranger = ORDINARY + 1
    assert "Permission denied" in outside(code, path, user=stranger)
    assert outside(code, path, user=0) == "escaped"


def test_another_user_of_the_machine_cannot_read_the_key(jailed: Jailed) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    path = jailed.served.home / "sandbox" / "server.json"
    assert "Permission denied" in outside("open(sys.argv[1])", path, user=ORDINARY + 1)
    assert outside("open(sys.argv[1])", path, user=jailed.user) == "escaped"
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert jailed.served.key not in shown and str(jailed.other._envd_access_token) not in shown
