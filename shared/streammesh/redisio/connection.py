"""redis-py's connections, which find their server through an `Address` and leave it when it says so.

Every client, pool and pipeline of redis-py, kombu and Celery's result backend reads through these, so what follows
from a refusal (`refusals.py`) is decided here once: an answer that means "again" or "elsewhere" becomes a lost
connection, which all of them mend by connecting anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.exceptions import DataError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streammesh.redis_url import RedisUrl
from streammesh.redisio.address import Address, address_of
from streammesh.redisio.internals import Opening, OpeningAsync
from streammesh.redisio.refusals import Refusal, Refused, refusal_of


class Written:
    """Over redis-py's connections: commands are packed by hiredis, as redis-py itself does on blocking
    connections only, and one that is being sent can be cancelled.

    redis-py sends with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes just as
    the write ends (python/cpython#86296): the cancelled task goes on for ever, and whoever waits for it as
    well. `asyncio.timeout` does not, and makes no task for each command.
    """

    socket_timeout: float | None
    socket_connect_timeout: float | None

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

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Shake hands within `socket_connect_timeout`. Raises redis-py's TimeoutError.

        redis-py limits the TCP connection alone; where reads may block, an address that accepts and says
        nothing would be waited for without an end.
        """
        try:
            async with asyncio.timeout(self.socket_connect_timeout):
                await super().on_connect_check_health(check_health)  # type: ignore[misc]
        except TimeoutError:
            raise RedisTimeoutError("no answer to the handshake in time") from None

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


class _Judging:
    """What follows from errors. `insists`: for those who can do nothing but wait when Redis is full."""

    host: str
    port: int

    def __init__(
        self, *args: Any, address: Address | None = None, insists: bool = False, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.address, self._insists = address, insists

    def follow(self, error: BaseException) -> RedisError | None:
        """What is to be raised instead, after which this connection is of no use; None where it is good still."""
        refusal = refusal_of(error)
        moves = self.address is not None and self.address.moves
        if refusal is Refusal.ELSEWHERE or (refusal is Refusal.AGAIN and moves):
            self.forget()
        if refusal in (Refusal.AGAIN, Refusal.ELSEWHERE) or (refusal is Refusal.FULL and self._insists):
            assert isinstance(error, RedisError)
            return error if isinstance(error, Refused) else Refused(error, refusal)
        return None

    def forget(self) -> None:
        """Look the address up again before the next connection."""
        if self.address is not None:
            self.address.forget()


class _Blocking(_Judging, Opening):
    def opened(self, usual: Callable[[], Any]) -> Any:
        """Connect to where the address is by now, which is looked up again should nobody be there."""
        if self.address is not None:
            self.host, self.port = self.address.find()
        try:
            return usual()
        except (RedisError, OSError):
            self.forget()
            raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        """As redis-py's; raises Refused for what is mended by asking again."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except RedisError as error:
            instead = self.follow(error)
            if instead is None:
                if refusal_of(error) is Refusal.LOST:
                    self.forget()
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise instead from error


class _Async(_Judging, OpeningAsync, Written):
    async def opened(self, usual: Callable[[], Awaitable[None]]) -> None:
        """Connect to where the address is by now, which is looked up again should nobody be there."""
        if self.address is not None:
            # Asking may block for seconds, and is rare.
            find = self.address.find
            self.host, self.port = await asyncio.to_thread(find) if self.address.moves else find()
        try:
            await usual()
        except (RedisError, OSError):
            self.forget()
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As redis-py's; raises Refused for what is mended by asking again."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except RedisError as error:
            instead = self.follow(error)
            if instead is None:
                if refusal_of(error) is Refusal.LOST:
                    self.forget()
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise instead from error


class Connection(_Blocking, redis.Connection):  # type: ignore[misc]
    """A blocking TCP connection."""


class SSLConnection(_Blocking, redis.SSLConnection):  # type: ignore[misc]
    """A blocking TLS connection."""


class SocketConnection(_Blocking, redis.UnixDomainSocketConnection):  # type: ignore[misc]
    """A blocking connection to a socket."""


class AsyncConnection(_Async, redis.asyncio.Connection):  # type: ignore[misc]
    """A TCP connection."""


class AsyncSSLConnection(_Async, redis.asyncio.SSLConnection):  # type: ignore[misc]
    """A TLS connection."""


class AsyncSocketConnection(_Async, redis.asyncio.UnixDomainSocketConnection):  # type: ignore[misc]
    """A connection to a socket."""


def connection_kind(
    url: RedisUrl, namespace: str, options: Mapping[str, Any], *, asynchronous: bool = False
) -> tuple[type[Any], dict[str, Any]]:
    """The class of connections for a URL, and what each of them is made with; for redis-py's pools.

    `options`: redis-py's connection arguments; those of TLS are left out where there is none.
    """
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    params = {name: value for name, value in options.items() if name not in tls}
    params.update(db=url.db, username=url.username, password=url.password)
    if url.protocol is not None:
        params["protocol"] = url.protocol
    if url.kind == "unix":
        for name in ("socket_keepalive", "socket_keepalive_options"):
            params.pop(name, None)
        return AsyncSocketConnection if asynchronous else SocketConnection, {**params, "path": url.path}
    params["host"], params["port"] = url.hosts[0]  # until the address says otherwise
    params["address"] = address_of(url, namespace, tls)
    if url.tls:
        return AsyncSSLConnection if asynchronous else SSLConnection, {**params, **tls}
    return AsyncConnection if asynchronous else Connection, params
