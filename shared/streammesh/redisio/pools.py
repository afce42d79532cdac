"""Where the broker is: the mesh's Redis URL as a kombu URL, and connection pools for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.connection import ConnectionPool

from streammesh.redis_url import parse_redis_url
from streammesh.redisio.connection import connection_kind

ALIAS = "mesh"


def broker_url(redis_url: str) -> str:
    """The broker URL for a Redis URL: `mesh+redis://`, `mesh+rediss://`, `mesh+redis+cluster://` and so on.

    kombu takes `;` for a list of brokers, so it is escaped; Sentinels and nodes are listed with commas.
    """
    return f"{ALIAS}+{redis_url.strip().replace(';', '%3B')}"


def shown(url: str, mask: str | None = "**") -> str:
    """A Redis URL without its passwords."""
    return parse_redis_url(url).shown(mask or "")


Wrap = Callable[[type[Any]], type[Any]]


def open_pool(url: str, namespace: str, options: dict[str, Any], wrap: Wrap | None = None) -> ConnectionPool:
    """A connection pool for a Redis URL, for those who can do nothing but wait when Redis is full.

    `options` are redis-py's connection arguments; `wrap` may replace the connection class. Raises ValueError
    for a URL that is none of the mesh's.
    """
    kind, params = connection_kind(parse_redis_url(url), namespace, {**options, "insists": True})
    return ConnectionPool(connection_class=wrap(kind) if wrap else kind, **params)
