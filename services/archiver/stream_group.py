"""The archiver's consumer group over streams of events and of ended tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError
from streammesh.events.publisher import ms
from streammesh.keys import ARCHIVER

Entry = tuple[str, Mapping[bytes, bytes]]  # position, fields; none where the entry was deleted
Entries = dict[str, list[Entry]]  # by stream


class StreamGroup:
    """One consumer of the group. `blocking` is a client of its own, which waits and never repeats a command."""

    def __init__(
        self, client: redis.asyncio.Redis, blocking: redis.asyncio.Redis, consumer: str, patience: timedelta
    ) -> None:
        self._client, self._blocking, self._consumer, self._patience = client, blocking, consumer, patience

    async def join(self, streams: Sequence[str]) -> None:
        """Make the group on each stream where it is missing, from the stream's first entry."""
        pipeline = self._client.pipeline(transaction=False)
        for stream in streams:
            pipeline.xgroup_create(stream, ARCHIVER, id="0", mkstream=True)
        for answer in await pipeline.execute(raise_on_error=False):
            if isinstance(answer, Exception) and "BUSYGROUP" not in str(answer):
                raise answer

    async def read(self, streams: Sequence[str], count: int, block: timedelta | None) -> Entries:
        """New entries, at most `count` of each stream; waits up to `block` for one. Raises TimeoutError."""
        async with asyncio.timeout(((block or timedelta()) + self._patience).total_seconds()):
            answer = await self._blocking.xreadgroup(
                ARCHIVER,
                self._consumer,
                dict.fromkeys(streams, ">"),
                count=count,
                block=None if block is None else ms(block),
            )
        return _entries(answer)

    async def mine(self, streams: Sequence[str], count: int) -> Entries:
        """Entries that this consumer was given and has not acknowledged, the oldest first."""
        answer = await self._client.xreadgroup(
            ARCHIVER, self._consumer, dict.fromkeys(streams, "0"), count=count
        )
        return _entries(answer)

    async def reclaim(self, streams: Sequence[str], idle: timedelta, count: int) -> Entries:
        """Take over entries that another archiver was given and has not acknowledged for `idle`."""
        pipeline = self._client.pipeline(transaction=False)
        for stream in streams:
            pipeline.xautoclaim(stream, ARCHIVER, self._consumer, ms(idle), count=count)
        answers = await pipeline.execute(raise_on_error=False)
        return {
            stream: found
            for stream, answer in zip(streams, answers, strict=True)
            if not isinstance(answer, ResponseError) and (found := _read(answer[1]))
        }


def newest_ms(entries: Entries) -> int:
    """When the latest of some entries came."""
    return max((int(found[-1][0].partition("-")[0]) for found in entries.values() if found), default=0)


def _entries(answer: Any) -> Entries:
    if not answer:
        return {}
    if isinstance(answer, dict):  # RESP3 wraps each stream's entries once more
        return {
            _text(key): _read(found[0] if found and isinstance(found[0], list) else found)
            for key, found in answer.items()
            if found
        }
    return {_text(key): _read(found) for key, found in answer if found}


def _read(found: Sequence[Any]) -> list[Entry]:
    return [(_text(position), fields or {}) for position, fields in found]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
