"""The connections of a channel: one that waits, one for everything else, one for the lease keeper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis
from redis.connection import ConnectionPool

from streammesh import lua
from streammesh.redisio.pools import open_pool
from streammesh.transport.internals import KombuChannel

T = TypeVar("T")


class StreamConnections(KombuChannel):
    """kombu's Redis channel, connected by the mesh's own URLs and with one client instead of one per command."""

    namespace = "mesh"
    _commands: redis.Redis | None = None

    def use_address(self, url: str, tls: Any) -> None:
        """Connect to this Redis URL, with redis-py's TLS arguments if `tls` has any."""
        self._address, self._tls = url, tls if isinstance(tls, dict) else {}

    def _options(self) -> dict[str, Any]:
        return {
            "max_connections": self.max_connections,
            "socket_timeout": self.socket_timeout,
            "socket_connect_timeout": self.socket_connect_timeout,
            "socket_keepalive": self.socket_keepalive,
            "socket_keepalive_options": self.socket_keepalive_options,
            "health_check_interval": self.health_check_interval,
            "client_name": self.client_name,
            **self._tls,
        }

    def pool_of(self, kind: Callable[[type[Any]], type[Any]] | None) -> ConnectionPool:
        """Connections to the mesh's address."""
        return open_pool(self._address, self.namespace, self._options(), kind)

    def client_of_keeper(self) -> redis.Redis:
        """A client for the lease keeper's thread."""
        # One connection, used as it is: every check of a pool is a step for which a thread needs the interpreter.
        options = {**self._options(), "max_connections": 1, "health_check_interval": 0}
        pool = open_pool(self._address, self.namespace, options)
        return redis.Redis(connection_pool=pool, single_connection_client=True)

    @property
    def commands(self) -> redis.Redis:
        """The client for everything that does not wait: one per channel, not one per command."""
        pool = self.pool
        if self._commands is None or self._commands.connection_pool is not pool:
            self._commands = redis.Redis(connection_pool=pool)
        return self._commands

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """As kombu's, with the channel's one client."""
        yield client or self.commands

    def run(self, call: lua.Call[T]) -> T:
        """Make a script call."""
        return lua.run_sync(self.commands, call)

    def client_id(self, connection: Any) -> int:
        """Redis's number of a connection on which nothing is under way: told in RESP3's handshake, else asked for."""
        metadata = connection.handshake_metadata or {}
        number = metadata.get(b"id", metadata.get("id"))
        if number is None:
            connection.send_command("CLIENT", "ID")
            number = connection.read_response()
        return int(number)
