"""Host names to addresses, as the machine's own configuration says: literals, then the hosts file, then DNS.

Both files are read again when they change. Answers are not cached: how often to ask is the caller's to decide.
Families, failures and missing names mean what they mean in Envoy, whose resolver is c-ares.
"""

from __future__ import annotations

import asyncio
import io
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Generic, TypeVar

import dns.asyncresolver
import dns.exception
import dns.inet
import dns.resolver
from dns.rdatatype import AAAA, A, RdataType

from kmesh.bridge.dns_sockets import PreparedBackend, PrepareSocket
from kmesh.errors import KmeshError
from kmesh.model.cluster import DnsFamily

__all__ = ["Found", "LookupFailed", "Resolver", "of_family"]

T = TypeVar("T")

_ORDER: Mapping[DnsFamily, tuple[RdataType, ...]] = {
    DnsFamily.V4_ONLY: (A,),
    DnsFamily.V6_ONLY: (AAAA,),
    DnsFamily.AUTO: (AAAA, A),
    DnsFamily.V4_PREFERRED: (A, AAAA),
    DnsFamily.ALL: (A, AAAA),
}
"""What to ask; the second only when the first found nothing, but for ALL.

Source: Cluster.DnsLookupFamily in envoy/config/cluster/v3/cluster.proto.
"""
_LOOPBACK = ("127.0.0.1", "::1")
_LONGEST_LIFETIME_S = 15.0


class LookupFailed(KmeshError):
    """No server gave an answer, so nothing is known of the name: keep what was known."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer."""

    addresses: tuple[str, ...]
    """Each once, in the order of the answer. Empty: the name does not exist, or has no address of the family."""
    ttl_s: int
    """The shortest TTL of the records that led here, aliases included; 0 when they were not from DNS, or said 0."""


class Resolver:
    """Asks with at most `concurrency` questions under way; the others wait their turn.

    The port is for tests: a resolv.conf cannot name one.
    """

    def __init__(
        self,
        prepare_socket: PrepareSocket,
        *,
        resolv_conf: Path = Path("/etc/resolv.conf"),
        hosts: Path = Path("/etc/hosts"),
        port: int = 53,
        concurrency: int = 128,
    ) -> None:
        self._backend = PreparedBackend(prepare_socket)
        self._stub = _Reread(resolv_conf, lambda text: _read_resolv_conf(text, port))
        self._hosts = _Reread(hosts, _read_hosts)
        self._turn = asyncio.Semaphore(concurrency)

    async def lookup(self, host: str, family: DnsFamily) -> Found:
        """The addresses of a host.

        A question that fails beside one that finds addresses is forgiven. One that fails beside one that finds none
        is not: half an answer does not say that the host has no addresses.

        Raises: LookupFailed.
        """
        if _is_plain_address(host):
            return Found((host,), 0)
        local = self._look_up_locally(host.lower().rstrip("."))
        if local is not None:
            return Found(of_family(local, family), 0)
        if family is DnsFamily.ALL:
            return _combine(await asyncio.gather(*(self._ask(host, kind) for kind in _ORDER[family])))
        answers: list[Found | LookupFailed] = []
        for kind in _ORDER[family]:
            answer = await self._ask(host, kind)
            answers.append(answer)
            if isinstance(answer, Found) and answer.addresses:
                break
        return _combine(answers)

    async def resolve_host(self, host: str) -> list[str]:
        """Every address of a host, IPv4 first, at least one; for a connection that is made once.

        Raises: OSError (socket.gaierror), as getaddrinfo does.
        """
        try:
            found = await self.lookup(host, DnsFamily.ALL)
        except LookupFailed as e:
            raise socket.gaierror(socket.EAI_AGAIN, str(e)) from e
        if not found.addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
        return list(found.addresses)

    def _look_up_locally(self, name: str) -> tuple[str, ...] | None:
        """What needs no DNS; None when DNS is to be asked. A name in the hosts file is answered by it alone, where
        c-ares would ask DNS for the family that the file does not have."""
        local = self._hosts.get().get(name)
        if local is None and (name == "localhost" or name.endswith(".localhost")):
            return _LOOPBACK  # RFC 6761 section 6.3: never sent to a server
        return local

    async def _ask(self, host: str, kind: RdataType) -> Found | LookupFailed:
        async with self._turn:
            try:
                stub, use_tcp = self._stub.get()
                answer = await stub.resolve(
                    host, kind, tcp=use_tcp, search=True, raise_on_no_answer=False, backend=self._backend
                )
            except dns.resolver.NXDOMAIN:
                return Found((), 0)
            except dns.exception.DNSException as e:
                return LookupFailed(f"{host}: {_one_line(e)}")
        records = answer.rrset or ()
        return Found(tuple(dict.fromkeys(r.address for r in records)), answer.chaining_result.minimum_ttl)


def _combine(answers: list[Found | LookupFailed]) -> Found:
    found = [a for a in answers if isinstance(a, Found) and a.addresses]
    if found:
        return Found(tuple(ip for a in found for ip in a.addresses), min(a.ttl_s for a in found))
    for answer in answers:
        if isinstance(answer, LookupFailed):
            raise answer
    return Found((), 0)


def of_family(addresses: tuple[str, ...], family: DnsFamily) -> tuple[str, ...]:
    """Those of `addresses` that a lookup of `family` would have found."""
    v4 = tuple(ip for ip in addresses if ":" not in ip)
    v6 = tuple(ip for ip in addresses if ":" in ip)
    match family:
        case DnsFamily.V4_ONLY:
            return v4
        case DnsFamily.V6_ONLY:
            return v6
        case DnsFamily.AUTO:
            return v6 or v4
        case DnsFamily.V4_PREFERRED:
            return v4 or v6
        case DnsFamily.ALL:
            return v4 + v6


class _Reread(Generic[T]):
    """What a file says, read again when the file changes. A file that cannot be read is an empty one."""

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        self._path = path
        self._parse = parse
        self._stamp: tuple[int, ...] | None = ()
        self._value: T

    def get(self) -> T:
        """Raises: what `parse` raises, again at each call until the file changes for the better."""
        stamp = self._read_stamp()
        if stamp != self._stamp:
            self._value = self._parse(self._read())
            self._stamp = stamp
        return self._value

    def _read(self) -> str:
        try:
            return self._path.read_text(errors="replace")
        except OSError:
            return ""

    def _read_stamp(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _read_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """hosts(5): {name in lower case: addresses in the order of the file}."""
    found: dict[str, dict[str, None]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if not _is_plain_address(address):
            continue
        for name in names:
            found.setdefault(name.lower().rstrip("."), {})[address] = None
    return {name: tuple(addresses) for name, addresses in found.items()}


def _read_resolv_conf(text: str, port: int) -> tuple[dns.asyncresolver.Resolver, bool]:
    """resolv.conf(5): a resolver, and whether it is to use TCP only.

    dnspython reads nameserver, search, domain and the options ndots, timeout, rotate and edns0; attempts and use-vc
    are read here. Name servers that are not addresses are left out; without any, the local machine is asked.
    """
    lines = [line for line in text.splitlines() if not _is_bad_nameserver(line)]
    stub = dns.asyncresolver.Resolver(configure=False)
    try:
        stub.read_resolv_conf(io.StringIO("\n".join(lines)))
    except dns.resolver.NoResolverConfiguration:
        stub.nameservers = ["127.0.0.1"]
    options = [word for line in lines if line.startswith("options") for word in line.split()[1:]]
    attempts = max([int(o.removeprefix("attempts:")) for o in options if re.fullmatch(r"attempts:\d{1,2}", o)] or [2])
    stub.timeout = max(stub.timeout, 1.0)
    stub.lifetime = min(stub.timeout * max(attempts, 1) * len(stub.nameservers), _LONGEST_LIFETIME_S)
    stub.port = port
    return stub, "use-vc" in options


def _is_bad_nameserver(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == "nameserver" and not dns.inet.is_address(words[1])


def _is_plain_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ip_address(text))
    except ValueError:
        return False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
