"""Which hosts a sandbox may reach: the server's own list (the ceiling) and, inside it, what the sandbox asked for.

Names are matched as written, addresses only when a rule names them. A name's answers are judged too: an address that is
not public is refused unless an exact rule is marked `private`, and metadata services, link-local and the like always.
What an allowed host then does with the data it is sent is out of reach of any such list.
"""

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

Address = IPv4Address | IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

WEB_PORTS = frozenset({80, 443})
EVERYTHING = ("*", "0.0.0.0/0", "::/0")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
PORT = re.compile(r"[0-9]{1,5}")

NAT64 = ipaddress.ip_network("64:ff9b::/96")
THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
# Link-local covers the usual one; these are the clouds that chose an address elsewhere, one of them a public one.
METADATA = {
    ipaddress.ip_address(text)
    for text in ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
}
# `private` opens a mirror on this machine or in its network, never these.
NEVER = {"metadata", "unspecified", "link-local", "multicast", "reserved", "tunnel"}


class Refused(Exception):
    """Why a host is out of reach, and the setting that would change it."""


def canonical(host: str) -> str | Address:
    """A host as a lower-case name or as an address; any other spelling of an address is refused, not understood."""
    if host.startswith("[") and host.endswith("]") and "%" not in host:
        try:
            return IPv6Address(host[1:-1])
        except ValueError:
            raise Refused("it is not an IPv6 address") from None
    name = host.lower().removesuffix(".")
    try:
        return IPv4Address(name)
    except ValueError:
        labels = name.split(".")
    if NUMBER.fullmatch(labels[-1]):
        raise Refused("an address is accepted only in its plain form")
    if len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise Refused("it is not a host name")
    return name


def port_number(text: str) -> int:
    if not PORT.fullmatch(text) or not 0 < int(text) < 65536:
        raise Refused("its port is not a number from 1 to 65535")
    return int(text)


def split_authority(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`host:port` of a request, host still as written. User names and percent signs have no place in it."""
    if "@" in text or "%" in text:
        raise Refused("a host carries no user name and no percent signs")
    host, colon, port = text.rpartition(":")
    if colon and not port.endswith("]"):
        return host, port_number(port)
    if default_port is None:
        raise Refused("it names no port")
    return text, default_port


def unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 spelling of it (mapped, NAT64), else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def kind(address: Address) -> str:
    """public, private, loopback, or one of NEVER."""
    address = unwrapped(address)
    if address in METADATA:
        return "metadata"
    if address.is_unspecified or address in THIS_NETWORK:
        return "unspecified"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if isinstance(address, IPv6Address) and (address.sixtofour or address.teredo):
        return "tunnel"
    if address.is_reserved:
        return "reserved"
    return "public" if address.is_global and not getattr(address, "is_site_local", False) else "private"


def on_this_machine(address: Address) -> bool:
    """Loopback, or an address of one of our interfaces: those are reached from themselves."""
    address = unwrapped(address)
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return ipaddress.ip_address(probe.getsockname()[0]) == address


@dataclass(frozen=True)
class Rule:
    """One host: a name, `*.domain` (its subdomains), an address or network, or everything. `ports` None: any."""

    name: str = ""
    network: Network | None = None
    ports: frozenset[int] | None = WEB_PORTS
    private: bool = False

    @classmethod
    def parse(cls, text: str, ports: frozenset[int] | None = WEB_PORTS) -> "Rule":
        """`host`, `*.domain`, `address`, `network/bits`, `*`, each with `:port` if need be, then maybe ` private`."""
        spec, *marks = text.split() or [""]
        if marks not in ([], ["private"]):
            raise ValueError(f"'{text}' is not a host rule. Write host, host:port or 'host:port private'.")
        try:
            name, network, ports = parse_host(spec, ports)
        except (Refused, UnicodeError) as error:
            raise ValueError(f"'{text}' is not a host rule: {error}. Write host, *.domain or host:port.") from None
        if marks and name.startswith("*"):
            raise ValueError(f"'{text}' cannot be private: only an exact host or address can.")
        return cls(name, network, ports, bool(marks))

    def covers(self, host: str | Address, address: Address | None = None) -> bool:
        if self.name == "*":
            return True
        if self.network is not None:
            known = address if isinstance(host, str) else host
            return known is not None and unwrapped(known) in self.network
        if not isinstance(host, str):
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name

    def opens(self, port: int) -> bool:
        return self.ports is None or port in self.ports


def parse_host(spec: str, ports: frozenset[int] | None) -> tuple[str, Network | None, frozenset[int] | None]:
    network = as_network(spec)
    host, colon, port = spec.rpartition(":")
    if network is None and colon and not port.endswith("]"):
        spec, ports = host, frozenset({port_number(port)})
        network = as_network(spec)
    if spec in EVERYTHING:
        return "*", None, ports
    if network is not None:
        return "", network, ports
    stars = "*." if spec.startswith("*.") else ""
    name = canonical(spec.removeprefix("*.").encode("idna").decode())
    if not isinstance(name, str):
        raise Refused("an address has no subdomains")
    return stars + name, None, ports


def as_network(spec: str) -> Network | None:
    try:
        network = ipaddress.ip_network(spec.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    return ipaddress.ip_network(mapped) if mapped is not None and network.prefixlen == 128 else network


@dataclass(frozen=True)
class Rules:
    """The ceiling and one sandbox's wishes inside it. `setting` is the name a refusal tells the owner to change."""

    ceiling: tuple[Rule, ...] = ()
    allow_out: tuple[Rule, ...] = ()
    deny_out: tuple[Rule, ...] = ()
    own_ports: Collection[int] = ()
    setting: str = "sandbox_allow"

    @classmethod
    def build(
        cls,
        ceiling: Iterable[Rule | str],
        network: Mapping[str, Any] | None = None,
        own_ports: Collection[int] = (),
        setting: str = "sandbox_allow",
    ) -> "Rules":
        """`network` as E2B takes it: an entry of `allowOut` beats one of `denyOut`; with neither, the whole ceiling.

        ValueError for an entry that cannot be read. `own_ports` is kept by reference: the server may learn its later.
        """
        network = network or {}
        return cls(
            tuple(rule if isinstance(rule, Rule) else Rule.parse(rule) for rule in ceiling),
            tuple(Rule.parse(text, ports=None) for text in network.get("allowOut") or ()),
            tuple(Rule.parse(text, ports=None) for text in network.get("denyOut") or ()),
            own_ports,
            setting,
        )

    def judge(self, host: str | Address, port: int) -> Rule:
        """The rule of the ceiling that lets this host be looked up and tried, or Refused. Asked before the lookup."""
        named = [rule for rule in self.ceiling if self.names(rule, host)]
        if not named:
            raise Refused(f"it is not on the allow list. Add it to {self.setting}")
        opening = [rule for rule in named if rule.opens(port)]
        if not opening:
            raise Refused(f"port {port} is not allowed. Add {host}:{port} to {self.setting}")
        self.judge_wishes(host, port, None)
        return max(opening, key=lambda rule: rule.private)

    def names(self, rule: Rule, host: str | Address) -> bool:
        """`*` stands for every name, and for an address only if the sandbox itself named that address."""
        if rule.name == "*" and not isinstance(host, str):
            return any(wish.network is not None and wish.covers(host) for wish in self.allow_out)
        return rule.covers(host)

    def judge_wishes(self, host: str | Address, port: int, address: Address | None) -> None:
        if self.allow_out:
            unknown = address is None and isinstance(host, str)
            if not any(
                wish.opens(port) and (wish.covers(host, address) or (unknown and wish.network is not None))
                for wish in self.allow_out
            ):
                raise Refused("it is not in this sandbox's network.allowOut. Add it there")
        elif any(wish.opens(port) and wish.covers(host, address) for wish in self.deny_out):
            raise Refused("it is in this sandbox's network.denyOut. Add it to network.allowOut")

    def judge_address(self, rule: Rule, host: str | Address, port: int, address: Address) -> None:
        """One answer of the lookup, or the address itself when the request named one."""
        what = kind(address)
        if what in NEVER:
            raise Refused(f"its address {address} is {what}, which no setting allows")
        if what != "public" and not rule.private:
            raise Refused(f"its address {address} is {what}. Add '{host}:{port} private' to {self.setting}")
        if port in self.own_ports and on_this_machine(address):
            raise Refused("that is the sandbox server itself, which no setting allows")
        self.judge_wishes(host, port, address)
