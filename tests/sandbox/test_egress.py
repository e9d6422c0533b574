"""The sandbox's way out, tried from the outside: real sockets, real targets on loopback, the real package index."""

import asyncio
import logging
import os
import resource
import socket
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.sandbox.embedded import allowed
from agent.sandbox.embedded.egress import Denial, Egress, Limits, Rules
from agent.sandbox.embedded.guest.ports import forward, proxy_environment, relay_port
from agent.sandbox.embedded.rules import kind

REPOSITORY = Path(__file__).parents[2]


NOT_PUBLIC = """
    127.0.0.1 127.8.9.1 0.0.0.0 0.1.2.3 10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 169.254.169.254 168.63.129.16
    100.100.100.200 192.0.0.192 224.0.0.1 240.0.0.1 255.255.255.255 198.18.0.1 192.0.2.1 ::1 :: fe80::1 fe80::1%1
    fc00::1 fd00:ec2::254 fec0::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1
    64:ff9b::a00:1 64:ff9b:1::1 ::7f00:1 2002:7f00:1:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1
"""
ODD = """
    127.0.0.1 127.0.0.1. 2130706433 0x7f000001 0x7f.0.0.1 0X7F.1 017700000001 0177.0.0.1 127.1 127.0.1 8.8.8.8
    [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] [fe80::1%25lo] [64:ff9b::7f00:1]
    user@example.org example.org@127.0.0.1 user:pw@example.org %31%32%37.0.0.1 example%2eorg example.org.. .example.org
    ex_ample..org -example.org example.org\\@127.0.0.1 1.2.3.0x10 localhost LOCALHOST xn--127001-.1 * [::1
"""


class Target:
    """A real server on loopback that keeps what it was sent and answers with what it was given."""

    def __init__(self, reply: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"):
        self.reply, self.heads, self.accepted = reply, [], 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            writer.write(self.reply.replace(b"{port}", str(self.port).encode()))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


@asynccontextmanager
async def target(serve: Callable | None = None, **options: bytes) -> AsyncIterator[Target]:
    made = Target(**options)
    server = await asyncio.start_server(serve or made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def proxy(path: Path, rules: Rules, **options: object) -> AsyncIterator[Egress]:
    egress = Egress(rules, name="sbx", **options)
    await egress.listen(path / "proxy.sock")
    try:
        yield egress
    finally:
        await egress.close()


async def ask(egress: Egress, request: str | bytes) -> bytes:
    """Send one request, return everything that comes back until the proxy closes."""
    reader, writer = await asyncio.open_unix_connection(str(egress.path))
    writer.write(request if isinstance(request, bytes) else request.replace("\n", "\r\n").encode("latin-1"))
    try:
        return await asyncio.wait_for(reader.read(-1), 10)
    finally:
        writer.close()


def get(host: str, path: str = "/") -> str:
    return f"GET http://{host}{path} HTTP/1.1\nHost: {host}\n\n"


def connect(host: str) -> str:
    return f"CONNECT {host} HTTP/1.1\nHost: {host}\n\n"


def answers(*addresses: str) -> Callable:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


def test_an_allowed_host_is_fetched_and_the_bytes_are_counted(tmp_path: Path) -> None:
    async def story() -> None:
        async with target() as web:
            rules = Rules.build([f"localhost:{web.port} private"])
            async with proxy(tmp_path, rules, resolve=answers("127.0.0.1")) as egress:
                answer = await ask(egress, get(f"LocalHost.:{web.port}", "/a?b=c"))
                assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\nhello")
                assert b"connection: close" in answer.lower()
                assert web.heads[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
                assert egress.tally.sent >= len(web.heads[0]) and egress.tally.received > 5
                assert not egress.denials

    asyncio.run(story())


def test_the_socket_belongs_to_the_jail_alone_and_goes_with_the_proxy(tmp_path: Path) -> None:
    async def story() -> None:
        egress = Egress(Rules())
        uid = 64123 if os.geteuid() == 0 else os.geteuid()
        path = tmp_path / "s"
        await egress.listen(path, uid)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.stat().st_uid == uid
        await egress.close()
        assert not path.exists()
        await egress.listen(path)  # a paused sandbox comes back with the same proxy
        assert b" 403 " in await ask(egress, get("example.org"))
        await egress.close()

    asyncio.run(story())


def test_a_host_not_on_the_list_is_refused_named_kept_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("a refused name must not be looked up")

    async def story() -> None:
        async with proxy(tmp_path, Rules.build(["example.org"]), resolve=resolve) as egress:
            for request in (connect("evil.example:443"), get("evil.example"), connect("evil.example:443")):
                answer = await ask(egress, request)
                assert answer.startswith(b"HTTP/1.1 403 ")
                body = answer.partition(b"\r\n\r\n")[2].decode()
                assert "evil.example" in body and "sandbox_allow" in body and body.count("\n") == 1
            assert [d.port for d in egress.denials] == [443, 80, 443]

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 2 and all("sbx" in line and "evil.example" in line for line in lines)


def test_a_loop_of_refusals_floods_neither_log_nor_memory(tmp_path: Path) -> None:
    told: list[Denial] = []
    egress = Egress(Rules(), told.append)
    for n in range(5000):
        egress.deny(Denial("sbx", f"h{n}.example", 443, "no"))
    assert len(told) == 500 and len(egress.denials) == 200 and len(egress.logged) == 500


@pytest.mark.parametrize("port", [22, 8080, 25])
def test_other_ports_of_an_allowed_host_are_refused(tmp_path: Path, port: int) -> None:
    async def story() -> None:
        async with proxy(tmp_path, Rules.build(["example.org"]), resolve=answers("127.0.0.1")) as egress:
            for request in (connect(f"example.org:{port}"), get(f"example.org:{port}")):
                answer = await ask(egress, request)
                assert b" 403 " in answer and f"example.org:{port} to sandbox_allow".encode() in answer

    asyncio.run(story())


@pytest.mark.parametrize(
    "address",
    NOT_PUBLIC.split(),
)
def test_a_name_with_any_answer_that_is_not_public_is_refused(tmp_path: Path, address: str) -> None:
    async def story() -> None:
        for found in ([address], ["8.8.8.8", address]):
            async with proxy(tmp_path, Rules.build(["*", "*.example.org"]), resolve=answers(*found)) as egress:
                assert b" 403 " in await ask(egress, connect("www.example.org:443"))
                assert egress.denials

    asyncio.run(story())


def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_what_it_is() -> None:
    assert kind(ip_address("64:ff9b::808:808")) == kind(ip_address("::ffff:8.8.8.8")) == "public"
    assert kind(ip_address("64:ff9b::7f00:1")) == kind(ip_address("::ffff:127.0.0.1")) == "loopback"
    assert kind(ip_address("64:ff9b::a9fe:a9fe")) == "link-local"


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "fd00:ec2::254", "::", "224.0.0.1", "fe80::1"])
def test_metadata_link_local_and_the_like_stay_shut_even_for_a_private_rule(tmp_path: Path, address: str) -> None:
    async def story() -> None:
        literal = f"[{address}]" if ":" in address else address
        rules = Rules.build(["inside.example private", f"{address} private"])
        async with proxy(tmp_path, rules, resolve=answers(address)) as egress:
            for host in ("inside.example", literal):
                assert b"no setting allows" in await ask(egress, connect(f"{host}:443"))

    asyncio.run(story())


@pytest.mark.parametrize(
    "host",
    ODD.split(),
)
def test_addresses_and_odd_spellings_are_refused_unless_named(tmp_path: Path, host: str) -> None:
    asked: list[str] = []

    async def resolve(name: str, port: int) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"]

    async def story() -> None:
        async with target() as web:
            # `*` stands for every public name, so what is refused here is refused for what it is
            rules = Rules.build([f"*:{web.port}", "example.org"])
            async with proxy(tmp_path, rules, resolve=resolve) as egress:
                for request in (connect(f"{host}:{web.port}"), get(f"{host}:{web.port}")):
                    answer = await ask(egress, request)
                    assert b" 403 " in answer and b"hello" not in answer
                assert set(asked) <= {"localhost"}  # no resolver gets a chance to understand the others
                assert not web.accepted and len(egress.denials) == 2
                assert all("pw" not in denial.host for denial in egress.denials)

    asyncio.run(story())


def test_letters_outside_ascii_never_reach_a_lookup(tmp_path: Path) -> None:
    async def story() -> None:
        async with proxy(tmp_path, Rules.build(["*"]), resolve=answers("8.8.8.8")) as egress:
            for host in ("１２７.0.0.1", "ⓔxample.org"):
                answer = await ask(egress, connect(f"{host}:443").encode())
                assert answer.startswith(b"HTTP/1.1 400 ")

    asyncio.run(story())


def test_a_name_in_a_rule_may_be_written_with_umlauts() -> None:
    rule = Rules.build(["bücher.example", "*.Example.ORG."]).ceiling
    assert [r.name for r in rule] == ["xn--bcher-kva.example", "*.example.org"]


@pytest.mark.parametrize(
    "text", ["", "http://a.example", "a b", "a.example:0", "a.example:x", "*.x private", "* private"]
)
def test_a_rule_that_cannot_be_read_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host rule|cannot be private"):
        Rules.build([text])


def test_an_address_that_a_rule_names_is_reached_in_any_proper_spelling(tmp_path: Path) -> None:
    async def story() -> None:
        async with target() as web:
            async with proxy(tmp_path, Rules.build([f"127.0.0.0/8:{web.port} private"])) as egress:
                assert b"hello" in await ask(egress, get(f"127.0.0.1:{web.port}"))
                assert b"hello" in await ask(egress, get(f"[::ffff:127.0.0.1]:{web.port}"))
                assert b" 403 " in await ask(egress, get(f"2130706433:{web.port}"))
            async with proxy(tmp_path, Rules.build([f"127.0.0.1:{web.port}"])) as egress:
                answer = await ask(egress, get(f"127.0.0.1:{web.port}"))
                assert b" 403 " in answer and f"'127.0.0.1:{web.port} private' to sandbox_allow".encode() in answer

    asyncio.run(story())


def test_a_wildcard_means_subdomains_and_nothing_that_only_looks_like_one() -> None:
    rule = Rules.build(["*.example.org"]).ceiling[0]
    assert rule.covers("a.example.org") and rule.covers("a.b.example.org")
    assert not any(rule.covers(name) for name in ("example.org", "evilexample.org", "a.example.org.evil.com"))


def test_a_name_is_looked_up_once_and_the_judged_address_is_the_one_connected_to(tmp_path: Path) -> None:
    asked: list[str] = []

    async def story() -> None:
        async with target() as checked, target(reply=b"HTTP/1.1 200 OK\r\n\r\nREBOUND") as inside:

            async def resolve(host: str, port: int) -> list[str]:
                asked.append(host)
                return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

            # The second answer would lead here: same port, other address.
            other = await asyncio.start_server(inside.serve, "127.0.0.2", checked.port)
            rules = Rules.build([f"rebind.example:{checked.port} private"])
            async with proxy(tmp_path, rules, resolve=resolve) as egress:
                answer = await ask(egress, get(f"rebind.example:{checked.port}"))
            other.close()
            assert answer.endswith(b"hello") and checked.accepted == 1 and inside.accepted == 0

    asyncio.run(story())
    assert asked == ["rebind.example"]


async def rebinding(path: Path) -> None:
    """Played in a network of its own, where a public address is one of ours and nothing reaches the real one."""
    lookups: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        lookups.append("8.8.8.8" if not lookups else "127.0.0.1")
        return lookups[-1:]

    public, inside = Target(reply=b"HTTP/1.1 200 OK\r\n\r\nPUBLIC"), Target(reply=b"HTTP/1.1 200 OK\r\n\r\nINSIDE")
    public.port = inside.port = 80
    await asyncio.start_server(public.serve, "8.8.8.8", 80)
    await asyncio.start_server(inside.serve, "127.0.0.1", 80)
    async with proxy(path, Rules.build(["*.example"]), resolve=resolve) as egress:
        assert b"PUBLIC" in await ask(egress, get("rebind.example"))
        assert lookups == ["8.8.8.8"] and public.accepted == 1
        assert b"127.0.0.1 is loopback" in await ask(egress, get("rebind.example"))
        assert len(lookups) == 2 and inside.accepted == 0
    print("played to the end")


def test_a_public_name_that_turns_inwards_reaches_its_first_answer_only(tmp_path: Path) -> None:
    network = ["unshare", "--map-root-user", "--net", "sh", "-c"]
    prepare = "ip link set lo up && ip address add 8.8.8.8/32 dev lo"
    if subprocess.run([*network, prepare], capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us have a network of our own (unshare, ip)")
    play = "import asyncio, sys, pathlib, test_egress; asyncio.run(test_egress.rebinding(pathlib.Path(sys.argv[1])))"
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{Path(__file__).parent}"}
    command = [*network, prepare + ' && exec "$@"', "sh", sys.executable, "-c", play, str(tmp_path)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and "played to the end" in ran.stdout, ran.stderr


def test_a_redirect_is_the_clients_own_request_and_judged_again(tmp_path: Path) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/secret\r\nContent-Length: 0\r\n\r\n"

    async def story() -> None:
        async with target(reply=moved) as web:
            rules = Rules.build([f"mirror.example:{web.port} private"])
            async with proxy(tmp_path, rules, resolve=answers("127.0.0.1")) as egress:
                forwarder = await forward(egress.path, 0)
                local = f"http://127.0.0.1:{forwarder.sockets[0].getsockname()[1]}"
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": local}))
                with pytest.raises(urllib.error.HTTPError) as refused:
                    await asyncio.to_thread(opener.open, f"http://mirror.example:{web.port}/", None, 10)
                forwarder.close()
                assert refused.value.code == 403 and "127.0.0.1" in refused.value.read().decode()
                assert web.accepted == 1 and [d.host for d in egress.denials] == ["127.0.0.1"]

    asyncio.run(story())


@pytest.mark.parametrize("spelling", ["127.0.0.1", "127.0.0.2", "localhost", "[::ffff:127.0.0.1]"])
def test_the_servers_own_port_stays_shut_whatever_a_rule_says(tmp_path: Path, spelling: str) -> None:
    async def story() -> None:
        async with target() as server:
            own: set[int] = set()
            rules = Rules.build(
                ["127.0.0.0/8", f"127.0.0.0/8:{server.port} private", f"localhost:{server.port} private"]
            )
            rules = Rules.build(rules.ceiling, own_ports=own)
            async with proxy(tmp_path, rules) as egress:
                own.add(server.port)  # known only once the server listens
                for request in (connect(f"{spelling}:{server.port}"), get(f"{spelling}:{server.port}")):
                    assert b"the sandbox server itself" in await ask(egress, request)
                assert server.accepted == 0
                own.clear()
                if spelling != "127.0.0.2":  # nothing listens there: the refusal above came before any connection
                    assert b"hello" in await ask(egress, get(f"{spelling}:{server.port}"))

    asyncio.run(story())


def test_headers_about_the_connection_or_a_proxy_stay_here_and_host_is_the_targets(tmp_path: Path) -> None:
    async def story() -> None:
        cookies = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nKeep-Alive: x\r\nContent-Length: 0\r\n\r\n"
        async with target(reply=cookies) as web:
            host = f"mirror.example:{web.port}"
            async with proxy(tmp_path, Rules.build([f"{host} private"]), resolve=answers("127.0.0.1")) as egress:
                answer = await ask(
                    egress,
                    f"GET http://{host}/ HTTP/1.1\nHost: evil.example\nProxy-Authorization: Basic eA==\nX-Hop: 1\n"
                    "Proxy-Connection: keep-alive\nConnection: keep-alive, X-Hop\nUpgrade: x\nTE: x\nX-Kept: yes\n\n",
                )
        head = web.heads[0].decode().lower()
        assert f"\r\nhost: {host}\r\n" in head and "x-kept: yes" in head and "connection: close" in head
        assert not any(word in head for word in ("evil", "proxy-", "x-hop", "upgrade", "te: x", "keep-alive"))
        assert b"a=1" in answer and b"b=2" in answer and b"keep-alive" not in answer.lower()

    asyncio.run(story())


def test_a_second_request_on_the_connection_is_never_passed_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with target() as web:
            host = f"mirror.example:{web.port}"
            async with proxy(tmp_path, Rules.build([f"{host} private"]), resolve=answers("127.0.0.1")) as egress:
                answer = await ask(egress, get(host) + get(host, "/second"))
        assert answer.count(b"HTTP/1.1") == 1 and web.accepted == 1 and b"second" not in web.heads[0]

    asyncio.run(story())


def test_a_chunked_body_arrives_whole_and_a_length_beside_it_is_dropped(tmp_path: Path) -> None:
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        writer.close()

    async def story() -> None:
        async with target(serve) as web:
            host = f"mirror.example:{web.port}"
            async with proxy(tmp_path, Rules.build([f"{host} private"]), resolve=answers("127.0.0.1")) as egress:
                head = f"POST http://{host}/ HTTP/1.1\nHost: x\nExpect: 100-continue\nContent-Length: 3\n"
                answer = await ask(egress, f"{head}Transfer-Encoding: chunked\n\n4\nabcd\n3\nefg\n0\n\n")
        assert answer.startswith(b"HTTP/1.1 ") and b" 200 OK" in answer and b"until the end" in answer
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        assert b"content-length" not in head.lower() and b"expect" not in head.lower() and b"abcd" in body

    asyncio.run(story())


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\nHost: example.org\n\n", 400),
        ("GET https://example.org/ HTTP/1.1\nHost: example.org\n\n", 400),
        ("GET ftp://example.org/ HTTP/1.1\nHost: example.org\n\n", 400),
        ("GET http://example.org/#x HTTP/1.1\nHost: example.org\n\n", 400),
        ("TRACE http://example.org/ HTTP/1.1\nHost: example.org\n\n", 405),
        ("GET http://example.org/ HTTP/1.1\nHost: a\nHost: b\n\n", 400),
        ("nonsense\n\n", 400),
        ("CONNECT example.org HTTP/1.1\nHost: x\n\n", 403),
        ("CONNECT example.org:99999 HTTP/1.1\nHost: x\n\n", 403),
        ("GET http:///x HTTP/1.1\nHost: x\n\n", 403),
    ],
)
def test_a_request_that_is_no_proxy_request_gets_a_clean_answer(tmp_path: Path, request_text: str, status: int) -> None:
    async def story() -> None:
        async with proxy(tmp_path, Rules.build(["example.org"]), resolve=answers("127.0.0.1")) as egress:
            assert (await ask(egress, request_text)).startswith(f"HTTP/1.1 {status} ".encode())

    asyncio.run(story())


def test_an_oversized_head_is_refused_with_an_answer(tmp_path: Path) -> None:
    async def story() -> None:
        async with proxy(tmp_path, Rules.build(["example.org"])) as egress:
            answer = await ask(egress, "GET http://example.org/ HTTP/1.1\nX: " + "a" * 300_000)
            assert answer.startswith(b"HTTP/1.1 431 ")

    asyncio.run(story())


def test_a_head_that_drips_in_ends_at_the_deadline_not_at_its_last_byte(tmp_path: Path) -> None:
    async def story() -> None:
        async with proxy(tmp_path, Rules.build(["example.org"]), limits=Limits(head=0.5)) as egress:
            reader, writer = await asyncio.open_unix_connection(str(egress.path))
            answer = asyncio.create_task(reader.read(-1))
            started = asyncio.get_running_loop().time()
            while not answer.done() and asyncio.get_running_loop().time() - started < 3:
                writer.write(b"G")
                await asyncio.wait([answer], timeout=0.05)
            assert answer.done() and answer.result().startswith(b"HTTP/1.1 408 ")
            writer.close()

    asyncio.run(story())


async def tunnelled(egress: Egress, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(str(egress.path))
    writer.write(connect(host).replace("\n", "\r\n").encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return reader, writer


def test_a_client_that_closed_its_half_still_gets_the_answer(tmp_path: Path) -> None:
    async def echo_at_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.read(-1))
        writer.close()

    async def story() -> None:
        async with target(echo_at_end) as web:
            host = f"mirror.example:{web.port}"
            async with proxy(tmp_path, Rules.build([f"{host} private"]), resolve=answers("127.0.0.1")) as egress:
                reader, writer = await tunnelled(egress, host)
                writer.write(b"all of it")
                writer.write_eof()
                assert await asyncio.wait_for(reader.read(-1), 5) == b"heard all of it"
                writer.close()

    asyncio.run(story())


def test_a_silent_tunnel_ends_and_frees_its_place(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        gone.set()
        writer.close()

    async def story() -> None:
        async with target(silent) as web:
            host = f"mirror.example:{web.port}"
            limits = Limits(idle=0.4, connections=2)
            rules = Rules.build([f"{host} private"])
            async with proxy(tmp_path, rules, resolve=answers("127.0.0.1"), limits=limits) as egress:
                open_ones = [await tunnelled(egress, host) for _ in range(2)]
                assert (await ask(egress, connect(host))).startswith(b"HTTP/1.1 503 ")
                for reader, _ in open_ones:
                    assert await asyncio.wait_for(reader.read(-1), 5) == b""
                await asyncio.wait_for(gone.wait(), 5)
                _, writer = await tunnelled(egress, host)
                for _, each in [*open_ones, (None, writer)]:
                    each.close()

    asyncio.run(story())


def test_new_rules_end_the_tunnels_that_the_old_ones_allowed(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async def story() -> None:
        async with target(silent) as web:
            host = f"mirror.example:{web.port}"
            async with proxy(tmp_path, Rules.build([f"{host} private"]), resolve=answers("127.0.0.1")) as egress:
                reader, writer = await tunnelled(egress, host)
                egress.set_rules(Rules.build([f"{host} private"], {"denyOut": ["0.0.0.0/0"]}))
                try:
                    assert await asyncio.wait_for(reader.read(-1), 5) == b""
                except ConnectionResetError:
                    pass  # an abrupt end is an end too
                writer.close()
                answer = await ask(egress, connect(host))
                assert answer.startswith(b"HTTP/1.1 403 ") and b"denyOut" in answer

    asyncio.run(story())


def test_a_hundred_megabytes_pass_in_bounded_memory_and_wait_for_a_slow_reader(tmp_path: Path) -> None:
    size, block = 100 * 1024 * 1024, bytes(64 * 1024)
    written = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while written < size:
            writer.write(block)
            written += len(block)
            await writer.drain()
        writer.close()

    async def story() -> None:
        async with target(pour) as web:
            host = f"mirror.example:{web.port}"
            async with proxy(tmp_path, Rules.build([f"{host} private"]), resolve=answers("127.0.0.1")) as egress:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                reader, writer = await tunnelled(egress, host)
                held = -1
                while held != written:  # nobody reads: the source comes to rest, far from its end
                    held = written
                    await asyncio.sleep(0.1)
                assert held < size // 4
                got = 0
                while data := await asyncio.wait_for(reader.read(1 << 20), 30):
                    got += len(data)
                assert got == size and egress.tally.received == size
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                assert grown < 20 * 1024, f"memory grew by {grown} kB"
                writer.close()

    asyncio.run(story())


def test_what_a_sandbox_asks_for_narrows_the_servers_list_and_never_widens_it(tmp_path: Path) -> None:
    async def allowed_hosts(ceiling: list[str], network: dict[str, list[str]], *hosts: str) -> set[str]:
        rules = Rules.build([f"{text} private" if text != "*" else text for text in ceiling], network)
        async with proxy(tmp_path, rules, resolve=answers("192.0.2.1"), limits=Limits(connect=0.1)) as egress:
            for host in hosts:
                await ask(egress, connect(f"{host}:443"))
            # what got as far as being judged by its address was let through by its name
            refused = {d.host for d in egress.denials if "its address" not in d.reason}
            return set(hosts) - refused

    async def story() -> None:
        ceiling = ["a.example", "b.example"]
        everything = {"a.example", "b.example", "c.example"}
        deny_all = {"denyOut": ["0.0.0.0/0"]}
        assert await allowed_hosts(ceiling, {}, *everything) == {"a.example", "b.example"}
        assert await allowed_hosts(ceiling, deny_all, *everything) == set()
        assert await allowed_hosts(ceiling, {"denyOut": ["b.example"]}, *everything) == {"a.example"}
        assert await allowed_hosts(ceiling, {"allowOut": ["a.example"], **deny_all}, *everything) == {"a.example"}
        assert await allowed_hosts(ceiling, {"allowOut": ["c.example"], **deny_all}, *everything) == set()
        assert await allowed_hosts(ceiling, {"allowOut": ["0.0.0.0/0"]}, *everything) == {"a.example", "b.example"}
        assert await allowed_hosts(ceiling, {"denyOut": ["192.0.2.0/24"]}, *everything) == set()
        assert await allowed_hosts(ceiling, {"allowOut": ["192.0.3.0/24"]}, *everything) == set()
        assert await allowed_hosts(["*"], {"allowOut": ["c.example"], **deny_all}, *everything) == {"c.example"}
        assert await allowed_hosts(["*"], {"allowOut": ["192.0.2.9"]}, "192.0.2.9", "192.0.2.8") == {"192.0.2.9"}
        assert await allowed_hosts(ceiling, {"allowOut": ["192.0.2.9"]}, "192.0.2.9") == set()

    asyncio.run(story())


def test_a_target_that_is_down_is_a_502_and_no_refusal(tmp_path: Path) -> None:
    async def story() -> None:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            host = f"127.0.0.1:{unheard.getsockname()[1]}"
            async with proxy(tmp_path, Rules.build([f"{host} private", "nowhere.invalid"])) as egress:
                for request in (connect(host), get(host), connect("nowhere.invalid:443")):
                    assert (await ask(egress, request)).startswith(b"HTTP/1.1 502 ")
                assert not egress.denials

    asyncio.run(story())


def test_the_forwarder_says_so_when_the_proxy_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        forwarder = await forward(tmp_path / "none.sock", 0)
        reader, writer = await asyncio.open_connection(*forwarder.sockets[0].getsockname())
        writer.write(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(-1), 5)).startswith(b"HTTP/1.1 502 ")
        writer.close()
        forwarder.close()

    asyncio.run(story())


def test_a_port_of_the_jail_is_relayed_and_a_closed_one_is_a_502(tmp_path: Path) -> None:
    async def story() -> None:
        async with target() as web:
            with socket.socket() as unheard:
                unheard.bind(("127.0.0.1", 0))
                closed = unheard.getsockname()[1]
                for port, expected in ((web.port, b"hello"), (closed, f'"port": {closed}'.encode())):
                    ours, theirs = socket.socketpair()
                    relay = asyncio.create_task(relay_port(port, *await asyncio.open_connection(sock=theirs)))
                    reader, writer = await asyncio.open_connection(sock=ours)
                    writer.write(b"GET / HTTP/1.1\r\n\r\n")
                    answer = await asyncio.wait_for(reader.read(-1), 5)
                    writer.close()
                    await relay
                    assert expected in answer and answer.startswith(
                        b"HTTP/1.1 200" if port == web.port else b"HTTP/1.1 502"
                    )

    asyncio.run(story())


def test_the_proxy_variables_come_in_both_cases_and_leave_the_jails_own_ports_alone() -> None:
    found = proxy_environment(3999)
    assert found["HTTPS_PROXY"] == found["https_proxy"] == found["http_proxy"] == "http://127.0.0.1:3999"
    assert found["no_proxy"] == "localhost,127.0.0.1,::1"


def settings_in(environment: dict[str, str], expression: str) -> str:
    """Evaluate an expression about `allowed` in a process with exactly this environment: the tools read it at start."""
    code = f"import logging; logging.basicConfig(); from agent.sandbox.embedded.allowed import *; print({expression})"
    environment = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, **environment}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    return ran.stdout.strip() + ran.stderr.strip()


HOSTS = "[(r.name, sorted(r.ports), r.private) for r in default_hosts(False)]"


def test_local_only_allows_nothing() -> None:
    assert allowed.default_hosts(local_only=True) == []


def test_the_default_list_is_what_the_libraries_name() -> None:
    from huggingface_hub import constants
    from pip._internal.models.index import PyPI

    found = settings_in({}, HOSTS)
    for host in (PyPI.netloc, PyPI.file_storage_domain, constants.HUGGINGFACE_CO_URL_HOME.split("/")[2]):
        assert f"('{host}', [80, 443], True)" in found


def test_a_configured_mirror_takes_the_place_of_the_built_in_index(tmp_path: Path) -> None:
    from pip._internal.models.index import PyPI

    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = http://user:secret@mirror.example:3141/simple\n[install]\nfind-links = /x\n"
    )
    environment = {"PIP_CONFIG_FILE": str(config), "HF_ENDPOINT": "https://hub.example:8443"}
    found = settings_in(environment, f"{HOSTS}, pip_environment()")
    assert "('mirror.example', [3141], True)" in found and "('hub.example', [8443], True)" in found
    assert PyPI.netloc not in found and PyPI.file_storage_domain not in found
    assert "'PIP_INDEX_URL': 'http://mirror.example:3141/simple'" in found and "secret" not in found
    assert "credentials" in found and "PIP_FIND_LINKS" not in found


def test_certificates_are_passed_on_only_from_where_the_jail_sees_them(tmp_path: Path) -> None:
    seen = settings_in({"PIP_CERT": "/etc/ssl/certs/x.pem", "SSL_CERT_FILE": str(tmp_path / "x")}, "pip_environment()")
    assert "'PIP_CERT': '/etc/ssl/certs/x.pem'" in seen and "SSL_CERT_FILE" not in seen
    assert "PIP_CERT" not in settings_in({"PIP_CERT": "/etc/ssl/../shadow"}, "pip_environment()")


def test_a_broken_pip_configuration_is_reported_and_leaves_the_rest_standing(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("no section\n")
    found = settings_in({"PIP_CONFIG_FILE": str(config)}, HOSTS)
    assert "settings left out, pip" in found and "True)" in found


def test_without_pip_or_hub_library_the_list_is_empty(tmp_path: Path) -> None:
    program = REPOSITORY / "agent/sandbox/embedded/tool_settings.py"
    ran = subprocess.run([sys.executable, "-S", "-I", str(program)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == '{"pip": {}, "hub": {}, "problems": []}'


def index_answers() -> str:
    """Empty if pip's default index can be had from this machine directly, else why not."""
    index = allowed.tool_settings()["pip"].get("index", "")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    try:
        opener.open(f"{index}/six/", timeout=15).close()
    except (OSError, ValueError) as error:
        return f"pip's default index is out of reach: {error}"
    return ""


def test_pip_downloads_through_forwarder_and_proxy_and_from_nowhere_else(tmp_path: Path) -> None:
    if reason := index_answers():
        pytest.skip(reason)

    async def story() -> None:
        rules = Rules.build(allowed.default_hosts(local_only=False))
        async with proxy(tmp_path, rules) as egress:
            forwarder = await forward(egress.path, 0)
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                **allowed.pip_environment(),
                **proxy_environment(forwarder.sockets[0].getsockname()[1]),
                "PIP_CONFIG_FILE": os.devnull,
            }
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-cache-dir",
                "--no-deps",
                "-d",
                str(tmp_path),
                "six",
            ]

            async def pip(*more: str) -> tuple[int, str]:
                ran = await asyncio.create_subprocess_exec(
                    *command, *more, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                output, _ = await ran.communicate()
                return ran.returncode, output.decode()

            code, output = await pip()
            assert code == 0, output
            wheel = next(tmp_path.glob("six-*.whl"))
            assert egress.tally.received > wheel.stat().st_size and not egress.denials
            wheel.unlink()

            egress.set_rules(Rules.build(rules.ceiling, {"denyOut": ["0.0.0.0/0"]}))
            code, output = await pip("--retries", "1")
            assert code != 0 and not list(tmp_path.glob("six-*.whl")), output
            assert egress.denials and "denyOut" in output
            forwarder.close()

    asyncio.run(story())
