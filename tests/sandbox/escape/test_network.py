"""No packet leaves but through the proxy, and the proxy goes only where the list says."""

import os

import pytest

from .attack import ROOT, Jailed, held_only_inside, inside, outside
from .witness import Witness

TCP = """
import socket
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as peer:
    peer.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    assert peer.recv(4096)
"""
UDP = """
import socket
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.settimeout(3)
peer.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
assert peer.recv(16) == b"hello"
"""
ROUTE = """
import socket
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).connect((sys.argv[1], 53))
"""
UNIX = """
import socket
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1].replace("@", chr(0)))
peer.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
assert peer.recv(4096)
"""
FAMILY = "os.close(call('socket', *map(int, sys.argv[1:])))"
PROXY = """
import socket
with socket.create_connection(("127.0.0.1", 3128), 5) as proxy:
    proxy.sendall(sys.argv[1].encode().decode("unicode_escape").encode("latin-1"))
    answer = b""
    while data := proxy.recv(4096):
        answer += data
        if b"200 Connection established" in answer:
            proxy.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
print(answer.split(b"\\r\\n")[0])
assert b"reached" in answer
"""


def test_tcp_to_a_port_of_the_host_is_cut(jailed: Jailed, witness: Witness) -> None:
    held_only_inside(jailed, TCP, "127.0.0.1", witness.denied)
    held_only_inside(jailed, TCP, "127.0.0.1", witness.allowed)


def test_the_servers_own_port_is_not_reached(jailed: Jailed) -> None:
    held_only_inside(jailed, TCP, "127.0.0.1", jailed.served.url.rsplit(":", 1)[1])


def test_udp_to_the_host_is_cut(jailed: Jailed, witness: Witness) -> None:
    held_only_inside(jailed, UDP, "127.0.0.1", witness.udp)


@pytest.mark.parametrize("address", ["169.254.169.254", "8.8.8.8", "10.0.0.1", "224.0.0.1", "2001:4860:4860::8888"])
def test_there_is_no_route_to_anywhere(jailed: Jailed, address: str) -> None:
    said = inside(jailed.box, ROUTE, address)
    assert "unreachable" in said, said
    freely = outside(ROUTE, address, user=jailed.user if os.geteuid() == 0 else os.geteuid())
    if freely != "escaped":
        pytest.skip(f"held inside, and this machine has no route there either ({freely})")


def test_names_are_not_looked_up(jailed: Jailed) -> None:
    import socket

    code = "import socket; assert socket.getaddrinfo(sys.argv[1], 80)"
    assert inside(jailed.box, code, "example.com").startswith("held")
    held_only_inside(jailed, code, socket.gethostname(), may_lack=True)


def test_a_unix_socket_of_the_host_is_not_there(jailed: Jailed, witness: Witness) -> None:
    held_only_inside(jailed, UNIX, witness.unix)


def test_an_abstract_socket_of_the_host_is_not_there(jailed: Jailed, witness: Witness) -> None:
    held_only_inside(jailed, UNIX, f"@{witness.abstract}")


FAMILIES = {
    "vsock": (40, 1, 0),
    "vsock with a forged upper half": (2**32 + 40, 1, 0),
    "packet": (17, 3, 0x0300),
    "packet with a forged upper half": (2**32 + 17, 3, 0x0300),
    "raw ip": (2, 3, 1),
    "raw ip6": (10, 3, 58),
    "netfilter": (16, 3, 12),
    "audit": (16, 3, 9),
    "crypto": (38, 5, 0),
    "bluetooth": (31, 3, 1),
    "can": (29, 3, 1),
    "xdp": (44, 3, 0),
    "kernel tls and tipc": (30, 5, 0),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_other_kind_of_socket_can_be_made(jailed: Jailed, family: str) -> None:
    held_only_inside(jailed, FAMILY, *FAMILIES[family], control=ROOT, may_lack=True)


def test_a_vsock_of_the_host_cannot_be_used(jailed: Jailed) -> None:
    code = "import socket; peer = socket.socket(40, 1); peer.settimeout(1); peer.bind((0xFFFFFFFF, 0xFFFFFFFF))"
    held_only_inside(jailed, code, may_lack=True)


def test_the_network_cannot_be_set_up_anew(jailed: Jailed) -> None:
    """An interface is made by routing netlink: with rights over the network one could be built a way out on."""
    code = """
import socket, struct
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
name = b"escape0\\0"
kind = b"dummy\\0\\0\\0"
info = struct.pack("HH", 4 + len(kind) - 2, 1) + kind
body = struct.pack("BBHiII", 0, 0, 0, 0, 0, 0) + struct.pack("HH", 4 + len(name), 3) + name
body += struct.pack("HH", 4 + len(info), 18) + info
link.send(struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
error = struct.unpack("i", link.recv(4096)[16:20])[0]
if error:
    raise OSError(-error, os.strerror(-error))
import subprocess
"""
    said = inside(jailed.box, code)
    assert "not permitted" in said, said
    if os.geteuid() == 0:  # in a network namespace of its own, so that the machine's stays as it is
        assert outside(f"call('unshare', 0x40000000)\n{code}", user=ROOT) in (
            "escaped",
            "held: OSError: [Errno 95] Operation not supported",
        )


@pytest.mark.parametrize("way", ["forwarder", "socket"])
def test_the_proxy_reaches_what_is_allowed_and_refuses_the_rest(jailed: Jailed, witness: Witness, way: str) -> None:
    code = PROXY
    if way == "socket":
        code = code.replace(
            'socket.create_connection(("127.0.0.1", 3128), 5)', "socket.socket(socket.AF_UNIX)"
        ).replace("as proxy:", "as proxy:\n    proxy.connect('/run/sandbox/proxy.sock')")

    def get(port):
        return f"GET http://127.0.0.1:{port}/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"

    assert inside(jailed.box, code, get(witness.allowed)) == "escaped"
    before = len(witness.hits)
    assert inside(jailed.box, code, get(witness.denied)).startswith("held")
    connect = f"CONNECT 127.0.0.1:{witness.denied} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    assert inside(jailed.box, code, connect).startswith("held")
    assert witness.hits[before:].count("denied") == 0


SPELLINGS = [
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "0.0.0.0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "user@127.0.0.1",
    "allowed@127.0.0.1",
    "127.0.0.1%00.example.com",
    "\\xff127.0.0.1",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_an_address_gets_past_the_proxy(jailed: Jailed, witness: Witness, spelling: str) -> None:
    own = int(jailed.served.url.rsplit(":", 1)[1])
    before = witness.hits.count("denied")
    for port in (witness.denied, own):
        for request in (
            f"GET http://{spelling}:{port}/ HTTP/1.1\\r\\nHost: 127.0.0.1:{witness.allowed}\\r\\n\\r\\n",
            f"CONNECT {spelling}:{port} HTTP/1.1\\r\\nHost: 127.0.0.1:{witness.allowed}\\r\\n\\r\\n",
        ):
            said = inside(jailed.box, PROXY, request)
            assert said.startswith("held: AssertionError"), said
    assert witness.hits.count("denied") == before
    assert outside(TCP, "127.0.0.1", witness.denied, user=jailed.user) == "escaped"


def test_a_redirect_to_a_denied_host_is_refused(jailed: Jailed, witness: Witness) -> None:
    code = """
import urllib.request
for name in ("no_proxy", "NO_PROXY"):
    os.environ.pop(name, None)
assert urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/redirect", timeout=5).read() == b"reached"
"""
    before = witness.hits.count("denied")
    said = held_only_inside(jailed, code, witness.allowed)
    assert "403" in said and witness.hits.count("denied") == before + 1  # the control's own


def test_two_requests_on_one_proxy_connection_are_judged_as_two(jailed: Jailed, witness: Witness) -> None:
    first = f"GET http://127.0.0.1:{witness.allowed}/ HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"
    second = f"GET http://127.0.0.1:{witness.denied}/ HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"
    lengths = "Content-Length: 4\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n"
    smuggled = f"POST http://127.0.0.1:{witness.allowed}/ HTTP/1.1\\r\\nHost: a\\r\\n{lengths}{second}"
    before = witness.hits.count("denied")
    for requests in (first + second, smuggled):
        inside(jailed.box, PROXY, requests)
    assert witness.hits.count("denied") == before
