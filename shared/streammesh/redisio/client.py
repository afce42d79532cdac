"""Opens and closes named Redis clients. Nothing connects at import time."""

from __future__ import annotations

import ssl
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from streammesh.redis_url import parse_redis_url
from streammesh.redisio.connection import connection_kind
from streammesh.redisio.refusals import is_unavailable
from streammesh.settings import MeshSettings

__all__ = ["is_unavailable", "open_async", "open_sync", "tls_options"]

# Every command we retry is a script that may run twice, or a read; see `lua/`.
RETRIES = 2
CONNECTIONS = 16  # of one asyncio client; each costs the server memory and a round trip to open


def tls_options(settings: MeshSettings) -> dict[str, Any]:
    """redis-py's TLS arguments of these settings; certificates are always verified."""
    options: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    if settings.redis_tls_ca:
        options["ssl_ca_certs"] = str(settings.redis_tls_ca)
    if settings.redis_tls_cert:
        options["ssl_certfile"] = str(settings.redis_tls_cert)
    if settings.redis_tls_key:
        options["ssl_keyfile"] = str(settings.redis_tls_key)
    return options


def _options(settings: MeshSettings, name: str) -> dict[str, Any]:
    timeout = settings.redis_timeout.total_seconds()
    return {
        "client_name": f"streammesh-{name}",
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "decode_responses": False,
        **tls_options(settings),
    }


def open_async(settings: MeshSettings, name: str, *, blocking: bool = False) -> redis.asyncio.Redis:
    """An asyncio client called `name` in CLIENT LIST; connects at its first command.

    `blocking` clients are for XREAD and the like with BLOCK: they have no socket timeout and no retry.
    """
    options = _options(settings, name)
    options["retry"] = AsyncRetry(ExponentialBackoff(cap=0.2, base=0.02), 0 if blocking else RETRIES)
    if blocking:
        options["socket_timeout"] = None
    url = parse_redis_url(settings.redis_url)
    kind, params = connection_kind(url, settings.namespace, options, asynchronous=True)
    # Callers wait for a connection of a few; the plain pool opens up to a hundred and then refuses.
    pool = redis.asyncio.BlockingConnectionPool(
        connection_class=kind,
        max_connections=CONNECTIONS,
        timeout=settings.redis_timeout.total_seconds(),
        **params,
    )
    return redis.asyncio.Redis.from_pool(pool)


def open_sync(settings: MeshSettings, name: str) -> redis.Redis:
    """A blocking client called `name` in CLIENT LIST; connects at its first command."""
    options = _options(settings, name)
    options["retry"] = Retry(ExponentialBackoff(cap=0.2, base=0.02), RETRIES)
    url = parse_redis_url(settings.redis_url)
    kind, params = connection_kind(url, settings.namespace, options)
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, **params))
