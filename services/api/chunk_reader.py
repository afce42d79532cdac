"""Reads what handlers stream to clients: one reader of a stream, and the bell that wakes all readers of a process."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import redis.asyncio
import structlog
from streammesh import names, plain_json
from streammesh.keys import Keys
from streammesh.redisio.answers import there
from streammesh.redisio.channel_watch import watch
from streammesh.redisio.client import is_unavailable

from services.api.log_context import without_request
from services.api.problems import Problem
from services.api.read_limit import ReadLimit

PAGE = 256  # chunks of one look
PATIENCE = timedelta(seconds=5)  # for Redis to answer on a connection that nobody rang on
QUIET = timedelta(seconds=30)  # after which it is asked whether it is still there
BEGINNING = (0, 0)
Kind = Literal["text", "bytes", "json"]
_OFFSET = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_ID = re.compile(rb"([0-9]{1,20})-([0-9]{1,20})")
_KINDS: dict[bytes, Kind] = {b"t": "text", b"b": "bytes", b"j": "json"}
log = structlog.get_logger(__name__)


class Chunk(NamedTuple):
    """A piece of a stream: bytes as base64."""

    at: tuple[int, int]
    kind: Kind
    data: Any

    @property
    def offset(self) -> str:
        """From where to resume after it."""
        return f"{self.at[0]}-{self.at[1]}"


class Look(NamedTuple):
    """What there is after a position."""

    chunks: list[Chunk]
    state: str | None  # how the task ended; None while it goes on
    is_whole: bool  # whether nothing more is there now
    at: tuple[int, int]  # all up to here was looked at
    restarted: bool  # the position is none of this stream's: it begins anew


def offset_of(name: str, text: str) -> tuple[int, int]:
    """A position in a stream. Raises Problem (400)."""
    found = _OFFSET.fullmatch(text)
    if not found:
        detail = "should be the `offset` of a chunk, such as 1-42; 0 for the beginning"
        raise Problem(
            "malformed-request", f"{name}: {detail}.", [{"parameter": name, "in": "query", "detail": detail}]
        )
    return int(found[1]), int(found[2] or 0)


class ChunkReader:
    """Reads the streams of one mesh. What is broken is stepped over, and said."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, reading: ReadLimit) -> None:
        self._client, self._keys, self._reading = client, keys, reading

    async def look(self, task_id: str, name: str, after: tuple[int, int]) -> Look:
        """What comes after a position. Raises MeshUnavailable."""
        key = self._keys.chunks(task_id, name)
        async with self._reading():
            pipeline = self._client.pipeline(transaction=False)
            # In this order: a task that has ended writes nothing more, so what is read after that is all.
            pipeline.hget(self._keys.task(task_id), "state")
            pipeline.xrevrange(key, count=1)
            pipeline.xrange(key, f"({after[0]}-{after[1]}", "+", PAGE)
            raw, last, entries = await pipeline.execute(raise_on_error=False)
        state = there(raw, None)
        ended = names.ENDED.intersection([state.decode("utf-8", "replace")]) if state else {"gone"}
        newest = _position(there(last, ())[0][0]) if there(last, ()) else None
        if after > BEGINNING and newest is not None and newest < after:
            again = await self.look(task_id, name, BEGINNING)
            return again._replace(restarted=True)
        found = there(entries, ())
        chunks = [chunk for entry in found if (chunk := _chunk(entry)) is not None]
        at = max([after, *(_position(entry[0]) or after for entry in found[-1:])])
        return Look(chunks, next(iter(ended), None), len(found) < PAGE, at, False)


def _position(raw: bytes) -> tuple[int, int] | None:
    found = _ID.fullmatch(raw)
    return (int(found[1]), int(found[2])) if found else None


def _chunk(entry: Sequence[Any]) -> Chunk | None:
    """A chunk as a script wrote it; None for what somebody else did."""
    raw_id, fields = entry[0], entry[1] or {}
    at, kind, data = _position(raw_id), _KINDS.get(fields.get(b"k", b"")), fields.get(b"d")
    try:
        if at is None or kind is None or data is None:
            raise ValueError("it is none")
        if kind == "text":
            return Chunk(at, kind, data.decode())
        if kind == "bytes":
            return Chunk(at, kind, base64.b64encode(data).decode())
        return Chunk(at, kind, plain_json.loads(data))
    except ValueError as error:
        log.error("chunk.broken", position=raw_id.decode("utf-8", "replace")[:40], reason=str(error)[:100])
        return None


class ChunkBell:
    """Wakes who waits for a task's streams. One connection for all of a process, while somebody waits."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._channel = client, keys.chunks_written()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listener: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def heard(self, task_id: str, woken: asyncio.Event) -> AsyncIterator[None]:
        """Have `woken` set each time that a stream of this task goes on."""
        mine = self._waiting.setdefault(task_id, set())
        mine.add(woken)
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen(), context=without_request())
        try:
            yield
        finally:
            mine.discard(woken)
            if not mine:
                self._waiting.pop(task_id, None)
            if not self._waiting and self._listener is not None:
                self._listener.cancel()
                self._listener = None

    def _ring_all(self) -> None:
        for events in self._waiting.values():
            for woken in events:
                woken.set()

    def _changed(self, what: str) -> None:
        if what == "look":  # for what was rung while nobody heard
            self._ring_all()
        for woken in self._waiting.get(what, ()):
            woken.set()

    async def _listen(self) -> None:
        while True:
            try:
                await watch(self._client, self._channel, self._changed, QUIET, PATIENCE)
            except Exception as error:
                if is_unavailable(error):
                    log.warning("chunks.bell_waits", reason=str(error) or type(error).__name__)
                else:
                    log.exception("chunks.bell_failed")
                await asyncio.sleep(1)

    async def stop(self) -> None:
        """End it."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
