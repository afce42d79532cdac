"""Who serves the mesh now: a fixed server, the one that Sentinel names, or the owner of the mesh's slot in a cluster.

All keys of a mesh are in one slot, so at any moment one server has them all, and nothing else in the kit has to
know about Sentinel or clusters. Whoever opens a connection asks here; whoever is told that a server is not the one
any more (see `refusals.py`), or finds it gone, says `forget`, and the next connection looks again.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from streammesh.keys import Keys
from streammesh.redis_url import Host, RedisUrl

ASK_SECONDS = 2.0  # that one Sentinel or node may take; then the next is asked
MOST_NODES = 64  # of a cluster that are remembered


class Address(ABC):
    """Where the server is. May be used by several threads."""

    @abstractmethod
    def find(self) -> Host:
        """Its host and port; may ask, and wait for the answer. Raises redis-py's ConnectionError when nobody knows."""

    @abstractmethod
    def forget(self) -> None:
        """What `find` answered was wrong, or led nowhere."""

    @property
    def moves(self) -> bool:
        """Whether asking again may answer another."""
        return False


class FixedAddress(Address):
    """One host; what its name stands for is looked up with each connection."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def find(self) -> Host:
        """As it was given."""
        return self._host

    def forget(self) -> None:
        """There is nobody else to ask."""


class AskedAddress(Address):
    """What servers that know are asked for, each in turn, until one answers."""

    def __init__(self, hosts: Sequence[Host], options: Mapping[str, Any]) -> None:
        self._hosts, self._options = list(hosts), dict(options)
        self._lock = threading.Lock()
        self._found: Host | None = None
        self._turn = 0  # whose answer led nowhere is asked last next time

    def find(self) -> Host:
        """The last answer, or a new one."""
        with self._lock:
            if self._found is None:
                self._found = self._ask_all()
            return self._found

    def forget(self) -> None:
        """Ask again."""
        with self._lock:
            self._found = None

    @property
    def moves(self) -> bool:
        """It does."""
        return True

    def _ask_all(self) -> Host:
        hosts = [*self._hosts[self._turn :], *self._hosts[: self._turn]]
        reasons = []
        for host in hosts:
            self._turn = (self._turn + 1) % len(self._hosts)
            try:
                with redis.Redis(host[0], host[1], **self._options) as client:
                    found = self._ask(client, host)
            except (RedisError, OSError) as error:
                reasons.append(f"{host[0]}:{host[1]}: {error}")
                continue
            if found is not None:
                return found
            reasons.append(f"{host[0]}:{host[1]}: {self._unknown}")
        raise RedisConnectionError(f"nobody says where Redis is ({'; '.join(reasons)})")

    _unknown = "does not know"

    @abstractmethod
    def _ask(self, client: redis.Redis, host: Host) -> Host | None:
        """What one of them says; None where it does not know."""


class SentinelAddress(AskedAddress):
    """The master of a service, as Sentinel has it."""

    def __init__(self, hosts: Sequence[Host], service: str, options: Mapping[str, Any]) -> None:
        super().__init__(hosts, options)
        self._service = service
        self._unknown = f"knows no service {service!r}"

    def _ask(self, client: redis.Redis, host: Host) -> Host | None:
        answer = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        if not answer:
            return None
        found: Sequence[Any] = answer
        return _text(found[0]), int(found[1])


class ClusterAddress(AskedAddress):
    """The owner of one slot of a Redis Cluster. Nodes that are told of are asked as well as those of the URL."""

    _unknown = "knows no owner of the mesh's slot"

    def __init__(self, hosts: Sequence[Host], key: str, options: Mapping[str, Any]) -> None:
        super().__init__(hosts, options)
        self._slot = int(key_slot(key.encode()))

    def _ask(self, client: redis.Redis, host: Host) -> Host | None:
        found = None
        client.set_response_callback("CLUSTER SLOTS", lambda answer, **_: answer)
        answer: Any = client.execute_command("CLUSTER SLOTS")
        for first, last, *nodes in answer:
            # A node that does not know its own name leaves it out: it is the one that was asked.
            places = [(_text(node[0]) or host[0], int(node[1])) for node in nodes]
            self._remember(places)
            if int(first) <= self._slot <= int(last):
                found = places[0]
        return found

    def _remember(self, places: Sequence[Host]) -> None:
        for place in places:
            if place not in self._hosts and len(self._hosts) < MOST_NODES:
                self._hosts.append(place)


def address_of(url: RedisUrl, namespace: str, tls: Mapping[str, Any]) -> Address:
    """The address that a URL says, of the mesh with this namespace; `tls`: redis-py's TLS arguments.

    Sockets have none: raises ValueError.
    """
    asking: dict[str, Any] = {
        "socket_timeout": ASK_SECONDS,
        "socket_connect_timeout": ASK_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        **({"ssl": True, **tls} if url.tls else {}),
    }
    if url.kind == "fixed":
        return FixedAddress(url.hosts[0])
    if url.kind == "sentinel":
        names = {"username": url.sentinel_username, "password": url.sentinel_password}
        return SentinelAddress(url.hosts, url.service, {**asking, **names})
    if url.kind == "cluster":
        names = {"username": url.username, "password": url.password}
        return ClusterAddress(url.hosts, Keys(namespace).prefix, {**asking, **names})
    raise ValueError("a socket has no address")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
