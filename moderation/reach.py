"""Which hosts may be reached for a URL that a user named: the address rules, without a transport.

A name is resolved once, every address it has must be public (or allowed by the operator), and
the caller connects to an address that was checked: a second answer of the name server cannot
redirect it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from urllib.parse import SplitResult, urlsplit

from moderation.errors import FetchError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
"""Host and port -> its IP addresses as text; raises OSError."""

WEB_PORTS = (80, 443)

_HOST = re.compile(r"[a-z0-9_.-]+")
_IPV6 = re.compile(r"[0-9a-f:.]+")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")


def system_resolver(host: str, port: int) -> tuple[str, ...]:
    """Addresses of a host by the system's name service, each once, in its order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def split(url: str) -> SplitResult:
    """The parts of a URL. Raises FetchError fetch_forbidden where readers may differ on them."""
    if any(ord(letter) <= 0x20 or letter in "\\\x7f" for letter in url):
        raise forbidden("the URL has blanks, control characters or backslashes")
    try:
        return urlsplit(url)
    except ValueError as error:
        raise forbidden("the URL cannot be read") from error


def host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    """Host (lower case, ASCII, no dot at its end) and port, None where the URL names none.

    Raises FetchError fetch_forbidden where they cannot be used.
    """
    try:
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
        if ":" not in host:
            host = host.encode("idna").decode("ascii").lower()
    except ValueError as error:  # UnicodeError too
        raise forbidden("the URL cannot be read") from error
    # IDNA may turn one letter into several, blanks among them.
    if not (_HOST.fullmatch(host) or _IPV6.fullmatch(host)) or port == 0:
        raise forbidden("the URL names no usable host and port")
    return host, port


def checked(
    host: str,
    port: int,
    allow: Sequence[str],
    *,
    deadline: float,
    resolve: Resolver = system_resolver,
    ports: Collection[int] = WEB_PORTS,
    public: bool = True,
) -> tuple[str, ...]:
    """The addresses of a host, each of which may be connected to.

    allow: host names, IP addresses and nets (CIDR) that may be reached although they are not
    public. deadline: by time.monotonic(). ports: those below 1024 that may be used of public
    hosts. public: False where only what `allow` names may be used. Raises FetchError:
    fetch_forbidden, fetch_failed (an unknown host), fetch_timeout.
    """
    allowed_host = host in {name.rstrip(".").lower() for name in allow}
    addresses = tuple(_resolve_within(resolve, host, port, deadline))
    if not addresses:
        raise FetchError(f"the host {host!r} has no address")
    nets = tuple(_nets(allow))
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError as error:  # a scope: fe80::1%eth0
            raise forbidden(f"the address {text} is not public") from error
        plain = getattr(address, "ipv4_mapped", None) or address
        if allowed_host or any(plain in net for net in nets):
            continue
        if not public:
            raise forbidden(f"the host {host!r} is not one that the operator allows")
        if port < 1024 and port not in ports:
            raise forbidden(f"port {port} belongs to another service")
        if not is_public(address):
            raise forbidden(f"the host {host!r} is not on the public internet")
    return addresses


def is_public(address: Address) -> bool:
    """Whether an address is of the public internet, also where IPv6 wraps an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and (address in _NAT64 or address in _IPV4_COMPATIBLE):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:  # withdrawn, and yet in use inside; Python calls it global
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def is_multicast(address: str) -> bool:
    """Whether an IP address, as text, names a group."""
    return ipaddress.ip_address(address).is_multicast


def forbidden(why: str) -> FetchError:
    """What every refusal of a URL is: fetch_forbidden, with its reason."""
    return FetchError(why, code="fetch_forbidden")


def _nets(allow: Sequence[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    nets = []
    for entry in allow:
        try:
            nets.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:  # a host name
            continue
    return nets


def _resolve_within(resolve: Resolver, host: str, port: int, deadline: float) -> Sequence[str]:
    """Resolve, in a thread: the system's resolver knows no time limit."""
    answers: list[Sequence[str]] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            answers.append(resolve(host, port))
        except Exception as error:  # noqa: BLE001 - handed to the caller below
            failures.append(error)

    thread = threading.Thread(target=work, name="resolve", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if failures:
        if isinstance(failures[0], (OSError, UnicodeError)):
            raise FetchError(f"the host {host!r} is not known") from failures[0]
        raise failures[0]
    if not answers:
        raise FetchError(f"resolving {host!r} took too long", code="fetch_timeout")
    return answers[0]
