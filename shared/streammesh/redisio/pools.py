"""Where the broker is: the mesh's Redis URL as a kombu URL, and connection pools for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import redis
from redis.connection import ConnectionPool, parse_url
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from streammesh.redisio.client import parse_sentinel_url

ALIAS = "mesh"
SENTINEL_TIMEOUT = 2  # seconds to wait for one sentinel before the next is asked
_PASSWORD = re.compile(r"(://[^/@:]*):[^@]*@")


def broker_url(redis_url: str) -> str:
    """The broker URL for a Redis URL: `mesh+redis://`, `mesh+rediss://`, `mesh+unix://`, `mesh+redis+sentinel://`.

    kombu takes `;` for a list of brokers, so it is escaped; sentinels are listed with commas.
    """
    return f"{ALIAS}+{redis_url.replace(';', '%3B')}"


def shown(url: str, mask: str | None = "**") -> str:
    """A broker URL without its password."""
    return _PASSWORD.sub(rf"\1:{mask or ''}@", url)


Wrap = Callable[[type[Any]], type[Any]]


def open_pool(
    url: str, options: dict[str, Any], wrap: Wrap | None = None
) -> tuple[ConnectionPool, Sentinel | None]:
    """A connection pool for a Redis URL, and the sentinel that it asks, if any.

    `options` are redis-py's connection arguments and lose against the URL's own; `wrap` may replace the
    connection class. Raises ValueError for a URL that is none of the mesh's schemes.
    """
    if "sentinel" not in url.partition("://")[0]:
        params = {**options, **parse_url(url)}
        kind = params.pop("connection_class", redis.Connection)
        if kind is redis.UnixDomainSocketConnection:
            for name in ("socket_keepalive", "socket_keepalive_options"):
                params.pop(name, None)
        elif kind is not redis.SSLConnection:
            params = {name: value for name, value in params.items() if not name.startswith("ssl_")}
        return ConnectionPool(connection_class=wrap(kind) if wrap else kind, **params), None
    where = parse_sentinel_url(url)
    kind = SentinelManagedSSLConnection if where.tls else SentinelManagedConnection
    params = dict(options) if where.tls else {k: v for k, v in options.items() if not k.startswith("ssl_")}
    sentinel = Sentinel(where.hosts, sentinel_kwargs={"socket_timeout": SENTINEL_TIMEOUT})
    client = sentinel.master_for(
        where.service,
        **{
            **params,
            "db": where.db,
            "username": where.username,
            "password": where.password,
            "connection_class": wrap(kind) if wrap else kind,
        },
    )
    return client.connection_pool, sentinel
