"""Many calls in flight on one connection: sent together at the end of a turn of the event loop, answered
in order. A call does not wait for the one before it, and concurrent calls share packets and wake-ups.

Calls of one `lua.Common` that are asked in the same turn become one command, in which the script decides about
each on its own. Nothing waits for company: a lone call is sent at the end of its turn like any other.

redis-py makes the connection (address, TLS, sentinel, AUTH); this takes over its streams, since its
own pipelines hold a connection until every answer is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streammesh.lua import MENDS, Call, Common, command, is_wrong_type, mend_call
from streammesh.redisio import internals

T = TypeVar("T")
READ_BYTES = 1 << 18
MOST_TOGETHER = 100  # calls in one command: the server does nothing else for that long
_NOTHING = object()  # what the parser answers when it has no whole reply
Asked = tuple[Call[Any], asyncio.Future[Any]]


class Multiplexed:
    """Makes script calls on one connection of `client`; for one event loop.

    What is asked raises what the call's answer says, and redis-py's ConnectionError or TimeoutError when the
    connection is lost: then the call was perhaps carried out, so only calls that may be repeated belong here.
    """

    def __init__(self, client: redis.asyncio.Redis, timeout: float) -> None:
        internals.check()
        self._pool, self._timeout = client.connection_pool, timeout
        self._connection: Any = None
        self._connecting: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: list[Asked] = []  # not sent yet
        self._sent: deque[tuple[list[Asked], float]] = (
            deque()
        )  # commands that wait for their answers, and since when
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None

    async def run(self, call: Call[T]) -> T:
        """Make the call. What has the wrong type among its keys is set aside, and the call is made again."""
        for _ in range(MENDS):
            try:
                return await self.ask(call)
            except ResponseError as error:
                if not is_wrong_type(error):
                    raise
            # It moves nothing where a call beside this one, which met the same key, was first.
            await self.ask(mend_call(call))
        return await self.ask(call)

    def ask(self, call: Call[T]) -> asyncio.Future[T]:
        """Make the call; to be awaited by whoever wants the answer."""
        answer: asyncio.Future[T] = self._loop.create_future()
        if not self._asked:
            self._loop.call_soon(self._flush)
        self._asked.append((call, answer))
        return answer

    def _flush(self) -> None:
        if self._writer is None:
            if self._connecting is None and self._asked:
                self._connecting = self._loop.create_task(self._connect())
            return
        asked, self._asked = self._asked, []
        self._send(_together(asked))

    def _send(self, commands: Iterable[list[Asked]], *, text: bool = False) -> None:
        if self._writer is None:
            return
        now, out, refused = self._loop.time(), [], []
        for some in commands:
            try:
                packed = hiredis.pack_command(command([call for call, _ in some], text=text))
            except (TypeError, ValueError) as error:  # an argument that cannot be sent: other calls are good
                refused.append((some, error))
                continue
            out.append(packed)
            self._sent.append((some, now))
        if out:
            self._writer.write(b"".join(out))
            if self._alarm is None:
                self._alarm = self._loop.call_later(self._timeout, self._check)
        for some, reason in refused:  # only now: what is sent stands in `_sent` in the order of writing
            self._refuse(some, reason)

    async def _connect(self) -> None:
        try:
            connection = await self._pool.get_connection()
        except BaseException as error:
            self._fail(error if isinstance(error, Exception) else RedisConnectionError("closed"))
            if not isinstance(error, Exception):
                raise
            return
        finally:
            self._connecting = None
        reader, self._writer = internals.streams_of(connection)
        self._connection = connection
        self._reading = self._loop.create_task(self._read(reader), name="redis replies")
        self._flush()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        parser = hiredis.Reader(notEnoughData=_NOTHING, replyError=internals.parse_error)
        error: Exception = RedisConnectionError("the connection was closed by the server")
        try:
            while data := await reader.read(READ_BYTES):
                parser.feed(data)
                while (reply := parser.gets()) is not _NOTHING:
                    if not isinstance(reply, hiredis.PushNotification):
                        self._answer(self._sent.popleft()[0], reply)
        except RedisConnectionError as refused:
            error = refused
        except (OSError, IndexError, hiredis.ProtocolError) as broken:
            error = RedisConnectionError(f"the connection broke: {broken}")
        finally:
            await self._drop(error)

    def _answer(self, asked: list[Asked], reply: Any) -> None:
        if isinstance(reply, NoScriptError):
            self._send([asked], text=True)
        elif not isinstance(reply, Exception):
            for one, (call, answer) in zip(reply if asked[0][0].common else (reply,), asked, strict=True):
                if answer.done():
                    continue  # its caller was cancelled
                try:
                    answer.set_result(call.parse(one))
                except Exception as error:
                    answer.set_exception(error)
        else:
            self._refuse(asked, reply)
            if self._connection is not None and self._connection.follow(reply):
                raise RedisConnectionError(f"this server is not the one to ask now: {reply}")

    def _refuse(self, asked: list[Asked], error: Exception) -> None:
        if len(asked) > 1:
            self._send([one] for one in asked)  # it is one of them that is refused: each on its own then
        elif not asked[0][1].done():
            asked[0][1].set_exception(error)

    def _check(self) -> None:
        """Close the connection when its oldest call has waited too long: half-open, or the server hangs."""
        self._alarm = None
        if not self._sent:
            return
        sent_at, now = self._sent[0][1], self._loop.time()
        overdue_at = (
            sent_at + self._timeout
        )  # a moment and no duration, which rounding could keep short of it for ever
        if now >= overdue_at:
            error = RedisTimeoutError(f"no answer for {now - sent_at:.1f} s")
            self._fail(error)
            if self._reading:
                self._reading.cancel()
            return
        self._alarm = self._loop.call_at(overdue_at, self._check)

    async def _drop(self, error: Exception) -> None:
        self._writer, connection, self._connection = None, self._connection, None
        self._fail(error)
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    def _fail(self, error: Exception) -> None:
        sent, self._sent = self._sent, deque()
        asked, self._asked = self._asked, []
        for some in (*(some for some, _ in sent), asked):
            for _, answer in some:
                if not answer.done():
                    answer.set_exception(error)

    async def aclose(self) -> None:
        """Close the connection; calls in flight fail."""
        if self._alarm:
            self._alarm.cancel()
        ending = [task for task in (self._connecting, self._reading) if task]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


def _together(asked: list[Asked]) -> list[list[Asked]]:
    """The commands for what was asked, in that order, as far as several do not travel as one."""
    commands: list[list[Asked]] = []
    open_: dict[Common, list[Asked]] = {}
    for one in asked:
        common = one[0].common
        some = open_.get(common) if common else None
        if some is None or len(some) == MOST_TOGETHER:
            some = []
            commands.append(some)
            if common:
                open_[common] = some
        some.append(one)
    return commands
