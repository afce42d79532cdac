"""The mesh's Redis URLs, taken apart and checked; pure.

    redis://[user:password@]host[:port][/db]            rediss:// is TLS
    redis+sentinel://[user:password@]host[:port],…/service[?db=0]
    redis+cluster://[user:password@]host[:port],…
    unix://[user:password@]/path/of/the/socket[?db=0]

Sentinels that want a password of their own have it in the query: `?sentinel_password=…`, `&sentinel_username=…`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote

Kind = Literal["fixed", "unix", "sentinel", "cluster"]
Host = tuple[str, int]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("fixed", False),
    "rediss": ("fixed", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "unix": ("unix", False),
}
SCHEMES = tuple(_SCHEMES)
_PORTS: dict[Kind, int] = {"fixed": 6379, "unix": 0, "sentinel": 26379, "cluster": 6379}
_PARAMETERS: dict[Kind, tuple[str, ...]] = {
    "fixed": ("db", "protocol"),
    "unix": ("db", "protocol"),
    "sentinel": ("db", "protocol", "sentinel_username", "sentinel_password"),
    "cluster": ("protocol",),
}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LAST_DB = 16_383
# No text of a URL goes into a message: whichever part is misread may be the password.
ESCAPES = "in a user name or password write / as %2F, # as %23, ? as %3F, @ as %40, : as %3A and % as %25"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a Redis URL says."""

    kind: Kind
    hosts: tuple[Host, ...]  # none for a socket
    tls: bool = False
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    protocol: int | None = None  # RESP 2 or 3; None for redis-py's own choice
    service: str = ""  # what Sentinel calls the group of servers
    path: str = ""  # of a socket
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def moves(self) -> bool:
        """Whether another server may be the one to write to tomorrow."""
        return self.kind in ("sentinel", "cluster")

    def shown(self, mask: str = "**") -> str:
        """The URL for people: `mask` in the place of passwords."""
        scheme = next(name for name, (kind, tls) in _SCHEMES.items() if (kind, tls) == (self.kind, self.tls))
        hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.hosts)
        who = quote(self.username or "", safe="") + (f":{mask}" if self.password else "")
        place = {"sentinel": f"/{self.service}", "fixed": f"/{self.db}", "unix": self.path}.get(self.kind, "")
        more = f"?db={self.db}" if self.db and self.kind in ("sentinel", "unix") else ""
        return f"{scheme}://{who}{'@' if who else ''}{hosts}{place}{more}"


def parse_redis_url(text: str) -> RedisUrl:
    """Take a Redis URL apart. Raises ValueError, which says what it should be and holds nothing of the text."""
    scheme, found, rest = text.strip().partition("://")
    if not found or scheme not in _SCHEMES or not rest:
        raise ValueError(f"should be a URL that starts with one of {', '.join(s + '://' for s in SCHEMES)}")
    if any(char.isspace() or not char.isprintable() for char in rest):
        raise ValueError("should hold no spaces and no control characters")
    kind, tls = _SCHEMES[scheme]
    place, _, query = rest.partition("?")
    if "#" in rest or "@" in query:
        raise ValueError(f"cannot be read: {ESCAPES}")
    parameters = _parameters(query, kind)
    before, at, place = place.rpartition("@")
    if kind != "unix" and ("/" in before or (not at and ":/" in place)):
        raise ValueError(f"cannot be read: {ESCAPES}")
    user, _, password = before.partition(":")
    authority, _, path = place.partition("/") if kind != "unix" else ("", "", place)
    return RedisUrl(
        kind=kind,
        hosts=() if kind == "unix" else _hosts(authority, kind),
        tls=tls,
        db=_db(parameters.get("db") or (path if kind == "fixed" else "")),
        username=_decoded(user),
        password=_decoded(password),
        protocol=int(parameters["protocol"]) if "protocol" in parameters else None,
        service=_service(path) if kind == "sentinel" else "",
        path=_socket(path) if kind == "unix" else "",
        sentinel_username=parameters.get("sentinel_username"),
        sentinel_password=parameters.get("sentinel_password"),
    )


def _parameters(query: str, kind: Kind) -> dict[str, str]:
    known = _PARAMETERS[kind]
    if _BARE_PERCENT.search(query):
        raise ValueError(f"cannot be read: {ESCAPES}")
    # As in the rest of a URL, `+` is itself.
    parameters = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    if any(name not in known for name in parameters):
        raise ValueError(f"takes no parameters after its `?` but {', '.join(known)}; {ESCAPES}")
    if parameters.get("protocol", "3") not in ("2", "3"):
        raise ValueError("has a `protocol` that is neither 2 nor 3")
    return parameters


def _hosts(authority: str, kind: Kind) -> tuple[Host, ...]:
    names = authority.split(",")
    if kind == "fixed" and len(names) > 1:
        raise ValueError("names several hosts: that is for redis+sentinel:// and redis+cluster://")
    hosts = []
    for name in names:
        if name.startswith("["):
            host, end, port = name[1:].partition("]")
            host, port = host if end else "", port.removeprefix(":")
        else:
            host, _, port = name.partition(":")
        if not _HOST.fullmatch(host):
            raise ValueError(
                f"should name a host after the `://` or the `@`, such as redis.example:6379; {ESCAPES}"
            )
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"has a port that is no number from 1 to 65535; {ESCAPES}")
        hosts.append((host, int(port or _PORTS[kind])))
    return tuple(hosts)


def _db(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and int(text) <= _LAST_DB):
        raise ValueError("should name the database as a number, such as /0")
    return int(text)


def _service(path: str) -> str:
    if not path or "/" in path.strip("/") or not path.strip("/"):
        raise ValueError(
            "should name Sentinel's service at its end: redis+sentinel://host:26379,host:26379/service"
        )
    return unquote(path.strip("/"))


def _socket(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("should hold the whole path of a socket: unix:///run/redis/redis.sock")
    return unquote(path)


def _decoded(text: str) -> str | None:
    if _BARE_PERCENT.search(text):
        raise ValueError(f"cannot be read: {ESCAPES}")
    return unquote(text) or None
