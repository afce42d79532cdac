"""Keeps streams small: removes old events that everybody has had, and consumers that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError

from streammesh import lua
from streammesh.events.publisher import ms
from streammesh.keys import Keys
from streammesh.lua.events import TrimEventsScript
from streammesh.lua.queues import ForgetConsumersScript

AT_ONCE = 1_000  # entries removed in one call; a call stays well below a millisecond per thousand


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What became of one domain's stream. `kept_by` names a group that keeps events older than the retention."""

    domain: str
    removed: int
    left: int
    kept_by: str | None


def trim_call(
    stream: str, domain: str, retention: timedelta, holder: str = ""
) -> lua.Call[tuple[Trimmed, bool]]:
    """`trim_events.lua`, one portion; answers also whether there may be more to remove.

    `holder` is a group that keeps what it has not acknowledged, also where it never read the stream before.
    """

    def parse(answer: list[Any]) -> tuple[Trimmed, bool]:
        removed, more, left, keeper = answer
        return Trimmed(domain, removed, left, keeper.decode() or None), bool(more)

    return TrimEventsScript(events=stream, retention=ms(retention), limit=AT_ONCE, holder=holder).call(parse)


async def trim(
    client: redis.asyncio.Redis, keys: Keys, retention: timedelta, holder: str = ""
) -> list[Trimmed]:
    """Remove events older than `retention` that every group was given and has acknowledged, domain by domain.

    An event that a group has not been given, or that is pending in one, stays however old it is; `holder` is a
    group that has to have had each. May be stopped at any moment and run by several at once.
    """
    domains = sorted(name.decode("utf-8", "replace") for name in await client.smembers(keys.domains()))
    return [await trim_stream(client, keys.events(one), one, retention, holder) for one in domains]


async def trim_stream(
    client: redis.asyncio.Redis, stream: str, domain: str, retention: timedelta, holder: str = ""
) -> Trimmed:
    """As `trim`, of one stream."""
    removed, more = 0, True
    while more:
        portion, more = await lua.run(client, trim_call(stream, domain, retention, holder))
        removed += portion.removed
    return Trimmed(domain, removed, portion.left, portion.kept_by)


def groups_in(answer: Any) -> Any:
    """The groups of a stream; none where it was deleted since it was looked for. Raises any other error."""
    if isinstance(answer, ResponseError) and "no such key" in str(answer).lower():
        return ()
    if isinstance(answer, Exception):
        raise answer
    return answer


async def forget_consumers(client: redis.asyncio.Redis, streams: Sequence[str], idle: timedelta) -> int:
    """Remove consumers that hold nothing and were not seen for `idle` from every group of these streams.

    Every process reads under a name of its own, so groups would otherwise remember each one for ever.
    Answers how many were removed.
    """
    kinds = client.pipeline(transaction=False)
    for stream in streams:
        kinds.exists(stream)
    there = [stream for stream, exists in zip(streams, await kinds.execute(), strict=True) if exists]
    kinds = client.pipeline(transaction=False)
    for stream in there:
        kinds.type(stream)
    there = [stream for stream, kind in zip(there, await kinds.execute(), strict=True) if kind == b"stream"]
    groups = client.pipeline(transaction=False)
    for stream in there:
        groups.xinfo_groups(stream)
    calls = [
        ForgetConsumersScript(stream=stream, group=group["name"], idle=ms(idle)).call(int)
        for stream, found in zip(there, await groups.execute(raise_on_error=False), strict=True)
        for group in groups_in(found)
    ]
    answers = await lua.run_many(client, calls)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return sum(answers)
