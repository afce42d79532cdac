"""Opens and closes named Redis clients: URL, TLS, sentinel, timeouts. Nothing connects at import time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from streammesh.settings import MeshSettings

# Every command we retry is a script that may run twice, or a read; see `lua/`.
RETRIES = 2
CONNECTIONS = 16  # of one asyncio client; each costs the server memory and a round trip to open
UNAVAILABLE: tuple[type[Exception], ...] = (
    RedisConnectionError,
    RedisTimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.TryAgainError,
    redis.exceptions.MasterDownError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """`redis+sentinel://[user:password@]host:port,host:port/service?db=0`, taken apart."""

    hosts: list[tuple[str, int]]
    service: str
    db: int
    username: str | None
    password: str | None
    tls: bool


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Take a sentinel URL apart. Raises ValueError when it names no host or no service."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service = parts.path.strip("/")
    if not hosts or not service:
        raise ValueError("should look like redis+sentinel://host:26379,host:26379/service")
    pairs = [host.partition(":") for host in hosts.split(",")]
    return SentinelUrl(
        hosts=[(host, int(port or 26379)) for host, _, port in pairs],
        service=service,
        db=int(parse_qs(parts.query).get("db", ["0"])[0]),
        username=unquote(user) or None,
        password=unquote(password) or None,
        tls=parts.scheme.startswith("rediss"),
    )


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


def _options(settings: MeshSettings, name: str, tls: bool) -> dict[str, Any]:
    timeout = settings.redis_timeout.total_seconds()
    return {
        "client_name": f"streammesh-{name}",
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "decode_responses": False,
        **(tls_options(settings) if tls else {}),
    }


class Written:
    """Over redis-py's connections: commands are packed by hiredis, as redis-py itself does on blocking
    connections only, and one that is being sent can be cancelled.

    redis-py sends with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes just as
    the write ends (python/cpython#86296): the cancelled task goes on for ever, and whoever waits for it as
    well. `asyncio.timeout` does not, and makes no task for each command.
    """

    socket_timeout: float | None

    def pack_command(self, *args: Any) -> list[bytes]:
        """One command as bytes. Raises redis-py's DataError for an argument that is neither text nor number."""
        name, *rest = args
        words = name.split() if isinstance(name, bytes) else name.encode().split()  # `CLIENT SETNAME` is two
        try:
            return [hiredis.pack_command((*words, *rest))]
        except TypeError as error:
            raise DataError(str(error)) from None

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> list[bytes]:
        """Several commands as bytes."""
        return [packed for command in commands for packed in self.pack_command(*command)]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """As redis-py's; raises its TimeoutError after `socket_timeout`."""
        limit, self.socket_timeout = self.socket_timeout, None  # then it does not use `wait_for`
        try:
            async with asyncio.timeout(limit):
                await super().send_packed_command(command, check_health)  # type: ignore[misc]
        except TimeoutError:
            raise RedisTimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = limit


class FailoverRedis(redis.asyncio.Redis):  # type: ignore[misc]
    """A client that finds its server through Sentinel; closing it closes the connections to Sentinel as well."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close everything."""
        await super().aclose(close_connection_pool)
        for sentinel in self.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


@cache
def _written(connection: type) -> type:
    return type(f"Written{connection.__name__}", (Written, connection), {})


def open_async(settings: MeshSettings, name: str, *, blocking: bool = False) -> redis.asyncio.Redis:
    """An asyncio client called `name` in CLIENT LIST; connects at its first command.

    `blocking` clients are for XREAD and the like with BLOCK: they have no socket timeout and no retry.
    """
    url = settings.redis_url
    options = _options(settings, name, url.startswith("rediss"))
    options["retry"] = AsyncRetry(ExponentialBackoff(cap=0.2, base=0.02), 0 if blocking else RETRIES)
    if blocking:
        options["socket_timeout"] = None
    if "sentinel" in url.split("://")[0]:
        where = parse_sentinel_url(url)
        sentinel = AsyncSentinel(where.hosts, sentinel_kwargs={"socket_timeout": 2})
        credentials = {"username": where.username, "password": where.password}
        extra = {"ssl": True} if where.tls else {}
        client: redis.asyncio.Redis = sentinel.master_for(
            where.service, redis_class=FailoverRedis, db=where.db, **credentials, **extra, **options
        )
        client.connection_pool.connection_class = _written(client.connection_pool.connection_class)
        return client
    if url.startswith("unix"):
        options.pop("socket_keepalive")
    # Callers wait for a connection of a few; the plain pool opens up to a hundred and then refuses.
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url, max_connections=CONNECTIONS, timeout=settings.redis_timeout.total_seconds(), **options
    )
    pool.connection_class = _written(pool.connection_class)
    return redis.asyncio.Redis.from_pool(pool)


def open_sync(settings: MeshSettings, name: str) -> redis.Redis:
    """A blocking client called `name` in CLIENT LIST; connects at its first command."""
    url = settings.redis_url
    options = _options(settings, name, url.startswith("rediss"))
    options["retry"] = Retry(ExponentialBackoff(cap=0.2, base=0.02), RETRIES)
    if "sentinel" in url.split("://")[0]:
        where = parse_sentinel_url(url)
        sentinel = Sentinel(where.hosts, sentinel_kwargs={"socket_timeout": 2})
        credentials = {"username": where.username, "password": where.password}
        extra = {"ssl": True} if where.tls else {}
        return sentinel.master_for(where.service, db=where.db, **credentials, **extra, **options)
    if url.startswith("unix"):
        options.pop("socket_keepalive")
    return redis.Redis.from_url(url, **options)


def is_unavailable(error: BaseException) -> bool:
    """Whether an error means that Redis is away or refuses writes, so that the same call may be tried later."""
    if isinstance(error, UNAVAILABLE):
        return True
    return isinstance(error, RedisError) and str(error).startswith(("MISCONF", "NOREPLICAS", "LOADING"))
