"""Many calls in flight on one connection: sent together at the end of a turn of the event loop, answered
in order. A call does not wait for the one before it, and concurrent calls share packets and wake-ups.

redis-py makes the connection (address, TLS, sentinel, AUTH); this takes over its streams, since its
own pipelines hold a connection until every answer is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeVar

import hiredis
import redis.asyncio
from redis._parsers import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streammesh.lua import Call

T = TypeVar("T")
READ_BYTES = 1 << 18
_NOTHING = object()  # what the parser answers when it has no whole reply


class Multiplexed:
    """Makes script calls on one connection of `client`; for one event loop.

    `run` raises what the call's answer says, and redis-py's ConnectionError or TimeoutError when the
    connection is lost: then the call was perhaps carried out, so only calls that may be repeated belong here.
    """

    def __init__(self, client: redis.asyncio.Redis, timeout: float) -> None:
        self._pool, self._timeout = client.connection_pool, timeout
        self._connection: Any = None
        self._connecting = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None

    async def run(self, call: Call[T]) -> T:
        """Make the call."""
        try:
            answer = await self._ask(call.eval())
        except NoScriptError:
            answer = await self._ask(call.eval(text=True))
        return call.parse(answer)

    async def _ask(self, command: tuple[Any, ...]) -> Any:
        if self._writer is None:
            await self._connect()
        answer = self._loop.create_future()
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(command))
        self._waiting.append((answer, self._loop.time()))
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._timeout, self._check)
        return await answer

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._writer is not None:
            self._writer.write(b"".join(out))

    async def _connect(self) -> None:
        async with self._connecting:
            if self._writer is not None:
                return
            connection = await self._pool.get_connection()
            self._connection = connection
            self._writer = connection._writer
            self._reading = asyncio.create_task(self._read(connection._reader), name="redis replies")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        parser = hiredis.Reader(notEnoughData=_NOTHING, replyError=BaseParser.parse_error)
        error: Exception = RedisConnectionError("the connection was closed by the server")
        try:
            while data := await reader.read(READ_BYTES):
                parser.feed(data)
                while (reply := parser.gets()) is not _NOTHING:
                    if isinstance(reply, hiredis.PushNotification):
                        continue
                    answer, _ = self._waiting.popleft()
                    if answer.done():
                        continue  # its caller was cancelled
                    if isinstance(reply, Exception):
                        answer.set_exception(reply)
                    else:
                        answer.set_result(reply)
        except (OSError, IndexError, hiredis.ProtocolError) as broken:
            error = RedisConnectionError(f"the connection broke: {broken}")
        finally:
            await self._drop(error)

    def _check(self) -> None:
        """Close the connection when its oldest call has waited too long: half-open, or the server hangs."""
        self._alarm = None
        if not self._waiting:
            return
        late = self._loop.time() - self._waiting[0][1]
        if late >= self._timeout:
            error = RedisTimeoutError(f"no answer for {late:.1f} s")
            self._fail(error)
            if self._reading:
                self._reading.cancel()
            return
        self._alarm = self._loop.call_later(self._timeout - late, self._check)

    async def _drop(self, error: Exception) -> None:
        self._writer, connection, self._connection = None, self._connection, None
        self._fail(error)
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._out = []
        for answer, _ in waiting:
            if not answer.done():
                answer.set_exception(error)

    async def aclose(self) -> None:
        """Close the connection; calls in flight fail."""
        if self._alarm:
            self._alarm.cancel()
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
