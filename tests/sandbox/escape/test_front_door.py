"""The server's port: only its own key and a sandbox's own tokens open anything, whatever the bytes on the wire look like."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sandbox import leftovers
from tests.sandbox.serving import Served

from .attack import ORDINARY, Jailed, outside

START = b"/process.Process/Start"
PATIENCE = 0.25  # for answers of which there should be none


@pytest.fixture(scope="module", autouse=True)
def dripping(jailed: Jailed) -> Iterator[Callable[[], float]]:
    """A client that sends a byte now and then, beside all other checks. Call it for the seconds until it was cut off."""
    lasted: list[float] = []

    def drip() -> None:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", int(jailed.served.url.rsplit(":", 1)[1]))) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            peer.settimeout(0.2)
            while time.monotonic() < started + 30:
                try:
                    peer.sendall(b"a")
                    if not peer.recv(1):
                        break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
        lasted.append(time.monotonic() - started)

    dripper = threading.Thread(target=drip)
    dripper.start()

    def until_cut_off() -> float:
        dripper.join()
        return lasted[0]

    yield until_cut_off
    dripper.join()


def talk(served: Served, data: bytes, seconds: float = 5) -> bytes:
    """Send raw bytes, return all that comes back."""
    with socket.create_connection(("127.0.0.1", int(served.url.rsplit(":", 1)[1])), seconds) as peer:
        answer = b""
        try:
            peer.sendall(data)
            while piece := peer.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
    return answer


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    named = {"Host": "localhost", "Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()}}
    if body:
        named.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def tokens(box) -> dict[str, str]:
    return {
        "E2b_Sandbox_Id": box.sandbox_id,
        "X_Access_Token": box._envd_access_token,
        "E2B_Traffic_Access_Token": box.traffic_access_token,
    }


def read_file(**headers: str) -> bytes:
    return request("GET", "/files?path=secret.txt", **headers)


def start(command: str, **headers: str) -> bytes:
    """A command by envd's streaming call."""
    told = json.dumps({"process": {"cmd": "/bin/sh", "args": ["-c", command]}, "stdin": False}).encode()
    frame = b"\0" + len(told).to_bytes(4, "big") + told
    kind = {"Content_Type": "application/connect+json", "Connect_Protocol_Version": "1"}
    return request("POST", START.decode(), frame, **kind, **headers)


def test_the_right_tokens_open_the_door(jailed: Jailed) -> None:
    """The control of all checks below."""
    assert jailed.secret.encode() in talk(jailed.served, read_file(**tokens(jailed.other)))
    assert status(talk(jailed.served, request("GET", "/v2/sandboxes", X_API_Key=jailed.served.key))) == 200
    assert b"ran" in talk_b64(jailed, start("echo ran", **tokens(jailed.other)))


def talk_b64(jailed: Jailed, data: bytes) -> bytes:
    import base64
    import re

    answer = talk(jailed.served, data)
    return answer + b"".join(base64.b64decode(found) for found in re.findall(rb'"stdout": ?"([^"]+)"', answer))


@pytest.mark.parametrize("key", ["", "wrong", "lower", "own token"])
def test_the_control_plane_opens_to_no_key_but_its_own(jailed: Jailed, key: str) -> None:
    given = {"lower": jailed.served.key.swapcase(), "own token": tokens(jailed.box)["X_Access_Token"]}.get(key, key)
    other = jailed.other.sandbox_id
    for method, path in (("GET", "/v2/sandboxes"), ("GET", f"/sandboxes/{other}"), ("DELETE", f"/sandboxes/{other}x")):
        answer = talk(jailed.served, request(method, path, X_API_Key=given))
        assert status(answer) == 401 and jailed.other.sandbox_id.encode() not in answer


def test_an_endless_head_is_refused_before_it_fills_memory(jailed: Jailed) -> None:
    assert status(talk(jailed.served, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000, seconds=1)) == 431


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
    answer = talk_b64(jailed, data)
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


@pytest.mark.parametrize("unlocked", ["health", "signature", "public port"])
@pytest.mark.parametrize("connection", ["close", "keep-alive", "upgrade", "keep-alive, Upgrade"])
def test_a_second_request_does_not_ride_on_the_first(jailed: Jailed, unlocked: str, connection: str) -> None:
    """What may pass without a token, or with a signature for one file, may not carry a request that may not."""
    target = {
        "health": "/health",
        "signature": "/" + jailed.other.download_url("secret.txt").split("/", 3)[3],
        "public port": "/",
    }[unlocked]
    if unlocked == "public port":
        named = {"Host": f"8123-{jailed.other.sandbox_id}.localhost"}
    else:
        named = {"Host": "localhost", "E2b_Sandbox_Id": jailed.other.sandbox_id}
    upgrade = {"Upgrade": "websocket"} if "pgrade" in connection else {}
    mark = f"rode-{unlocked.replace(' ', '-')}-{connection[-7:].replace(' ', '')}"
    first = request("GET", target, **named, **{"Connection": connection}, **upgrade)
    plain = request("GET", target, **named, Connection=connection)
    for head in (first, plain):
        for second in (start(f"touch {mark}"), request("POST", "/init", b'{"envVars": {"RODE": "1"}}')):
            talk(jailed.served, head + second, seconds=PATIENCE)
    assert not jailed.other.files.exists(mark)
    assert "RODE" not in jailed.other.commands.run("env").stdout


SMUGGLED = {
    "length and chunks": "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": "Content-Length: 4\r\nContent-Length: 400\r\n",
    "odd chunking": "Transfer-Encoding: xchunked\r\n",
    "chunks twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "a space before the colon": "Content-Length : 4\r\n",
    "a folded line": "X-A: b\r\n Content-Length: 4\r\n",
    "a bare newline": "X-A: b\nContent-Length: 4\n",
    "a negative length": "Content-Length: -1\r\n",
}


@pytest.mark.parametrize("kind", SMUGGLED)
@pytest.mark.parametrize("door", ["control", "health", "files"])
def test_a_request_in_a_request_is_never_obeyed(jailed: Jailed, kind: str, door: str) -> None:
    path, headers = {
        "control": ("/v2/sandboxes", {"X_API_Key": "wrong"}),
        "health": ("/health", {"E2b_Sandbox_Id": jailed.other.sandbox_id}),
        "files": ("/files?path=upload", tokens(jailed.box)),
    }[door]
    fixed = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in {"Host": "localhost", **headers}.items())
    inner = start("touch smuggled", **{**tokens(jailed.box), "E2b_Sandbox_Id": jailed.other.sandbox_id})
    data = f"POST {path} HTTP/1.1\r\n{fixed}{SMUGGLED[kind]}\r\n0\r\n\r\n".encode() + inner
    talk(jailed.served, data, seconds=PATIENCE)
    assert not jailed.other.files.exists("smuggled")
    assert not jailed.box.files.exists("smuggled")


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


BROKEN = {
    "many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "no http": os.urandom(4096),
    "a tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "no host": b"GET /v2/sandboxes HTTP/1.1\r\n\r\n",
    "a null byte": b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an odd method": b"\xff\xfe / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an odd version": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_bytes_are_answered_or_dropped_and_hurt_nobody(jailed: Jailed, kind: str) -> None:
    assert status(talk(jailed.served, BROKEN[kind], seconds=1)) in (0, 400, 401, 404, 421, 431, 505)
    assert jailed.box.commands.run("echo fine").stdout == "fine\n"


FRAMES = {
    "a length of 4 GB": b"\0\xff\xff\xff\xff{}",
    "no json": b"\0\0\0\0\4nope",
    "not an object": b"\0\0\0\0\2[]",
    "compressed": b"\1\0\0\0\2{}",
    "cut short": b"\0\0\0\1\0{",
    "deep json": b"\0\0\1\x86\xa0" + b"[" * 100_000,
    "wrong types": b'\0\0\0\0\x26{"process": {"cmd": 1, "args": "rm -rf"}}'[:43],
}


@pytest.mark.parametrize("kind", FRAMES)
def test_broken_frames_are_refused_and_the_sandbox_lives(jailed: Jailed, kind: str) -> None:
    headers = {"Content_Type": "application/connect+json", **tokens(jailed.box)}
    answer = talk(jailed.served, request("POST", START.decode(), FRAMES[kind], **headers))
    assert b"error" in answer or status(answer) >= 400 or not answer
    assert jailed.box.run_code("6 * 7").text == "42"


def memory(served: Served) -> int:
    pid = server_pid(served)
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def server_pid(served: Served) -> int:
    return json.loads((served.home / "sandbox" / "server.json").read_text())["pid"]


def test_a_body_without_end_fills_no_memory(jailed: Jailed) -> None:
    before = memory(jailed.served)
    head = request("POST", "/v2/sandboxes", X_API_Key=jailed.served.key, Content_Length="10000000000")
    assert status(talk(jailed.served, head + bytes(8_000_000))) in (0, 413)
    wrong = request("POST", "/v2/sandboxes", X_API_Key="wrong", Content_Length="10000000000")
    assert status(talk(jailed.served, wrong + bytes(8_000_000))) in (0, 401)
    assert memory(jailed.served) - before < 16_000_000


def test_connections_that_say_nothing_are_few_and_go(jailed: Jailed) -> None:
    """600 silent or dripping ones: the server takes 512, keeps its memory, and serves again as soon as some leave."""
    before, peers = memory(jailed.served), []
    try:
        for number in range(600):
            peer = socket.create_connection(("127.0.0.1", int(jailed.served.url.rsplit(":", 1)[1])), 5)
            if number % 2:
                peer.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            peers.append(peer)
        turned_away = [peer for peer in peers[-40:] if gone(peer)]
        assert turned_away, "all 600 were taken"
        assert memory(jailed.served) - before < 64_000_000
    finally:
        for peer in peers:
            peer.close()
    end = time.monotonic() + 10
    while status(talk(jailed.served, request("GET", "/health"))) != 204:
        assert time.monotonic() < end


def gone(peer: socket.socket) -> bool:
    peer.settimeout(1)
    try:
        return peer.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_head_that_drips_in_is_cut_off(dripping: Callable[[], float]) -> None:
    assert dripping() < 20


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
