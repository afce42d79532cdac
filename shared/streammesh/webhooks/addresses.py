"""Which addresses a webhook may lead to: none inside the network that the mesh itself is in.

A name is judged by what it resolves to, and a connection by the address that it is made to: between the two nothing can
change. An address that carries another one (IPv4 in IPv6, 6to4, NAT64, Teredo) is what it carries, too. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import inet_aton
from urllib.parse import urlsplit

from streammesh.errors import InvalidWebhook

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
LONGEST_URL = 2_048
REFUSED: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's host, which answers its machines with their secrets; a public address else
        *("2001::/23", "2001:db8::/32", "3fff::/20"),
    )
)
_HOST = re.compile(r"(?=.{1,254}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_NUMBERS = re.compile(r"(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+)){0,3}")
_NAT64 = ip_network("64:ff9b::/96")
_GLOBAL = ip_network("2000::/3")  # of IPv6, all that is given out for public addresses


def is_refused(address: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether nothing may be sent to this address. `allowed` are networks that are open all the same."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if any(
        one in network for one in _readings(found) for network in allowed if network.version == one.version
    ):
        return False
    return any(
        one in network for one in _readings(found) for network in REFUSED if network.version == one.version
    ) or (found.version == 6 and not found.ipv4_mapped and found not in _GLOBAL and found not in _NAT64)


def _readings(address: Address) -> Iterable[Address]:
    """Return the address, and what it stands for where it carries another."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if address.ipv4_mapped is not None:
            return (address.ipv4_mapped,)
        if inner is not None:
            return (address, inner)
        if address.teredo is not None:
            return (address, *address.teredo)
    return (address,)


def _dotted(host: str) -> str:
    """Return an IPv4 address that is written as resolvers take it too (`0x7f.1`, `2130706433`) in its usual form."""
    if not _NUMBERS.fullmatch(host):
        return host
    try:
        return str(IPv4Address(inet_aton(host)))
    except OSError:
        return host


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks such as `127.0.0.0/8`. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)


def check_url(url: str, allowed: Sequence[Network] = ()) -> str:
    """Return a URL that deliveries may go to, as far as can be said without asking for its name. Raises InvalidWebhook."""
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > LONGEST_URL:
        raise InvalidWebhook(f"should be a URL of at most {LONGEST_URL:,} ASCII characters without spaces")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidWebhook("is no URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidWebhook("should begin with https:// or http:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise InvalidWebhook("should hold no user and no password; a delivery is signed instead")
    if parts.fragment or url.endswith("#"):
        raise InvalidWebhook("should have no fragment (#…), which is never sent")
    if port == 0:
        raise InvalidWebhook("names port 0, at which nothing listens")
    if "[" not in parts.netloc and not _HOST.fullmatch(host):
        raise InvalidWebhook(
            "names a host that can be none: labels of 1 to 63 letters, digits, - and _, with dots between"
        )
    if "[" not in parts.netloc:
        host = _dotted(host.removesuffix("."))
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        if "[" in parts.netloc:
            raise InvalidWebhook("is no URL") from None
        return url
    if is_refused(host, allowed):
        raise InvalidWebhook("leads into the mesh's own network, where nothing is delivered to")
    return url
