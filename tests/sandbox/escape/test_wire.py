"""Bytes that are no proper requests: smuggled, broken, oversized, endless or slow ones open nothing and hurt nobody."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from .attack import Jailed
from .raw import PATIENCE, START, memory, request, start, status, talk, tokens


@pytest.fixture(scope="module", autouse=True)
def dripping(jailed: Jailed) -> Iterator[Callable[[], float]]:
    """A client that sends a byte now and then, beside all other checks. Call it for the seconds it lasted."""
    lasted: list[float] = []
    nobody_asks = threading.Event()

    def drip() -> None:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", int(jailed.served.url.rsplit(":", 1)[1]))) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            peer.settimeout(0.2)
            while time.monotonic() < started + 30 and not nobody_asks.is_set():
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
    nobody_asks.set()
    dripper.join()


def test_an_endless_head_is_refused_before_it_fills_memory(jailed: Jailed) -> None:
    assert status(talk(jailed.served, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000, seconds=1)) == 431


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
    answer = talk(jailed.served, request("POST", START, FRAMES[kind], **headers))
    assert b"error" in answer or status(answer) >= 400 or not answer
    assert jailed.box.run_code("6 * 7").text == "42"


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
        assert select.select(peers, [], [], 3)[0], "all 600 were taken"
        assert memory(jailed.served) - before < 64_000_000
    finally:
        for peer in peers:
            peer.close()
    end = time.monotonic() + 10
    while status(talk(jailed.served, request("GET", "/health"))) != 204:
        assert time.monotonic() < end


def test_a_head_that_drips_in_is_cut_off(dripping: Callable[[], float]) -> None:
    assert dripping() < 20
