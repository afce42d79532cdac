"""What waits in the streams: how many events each service was not given, and since when. The one place that counts.

Redis knows a group's lag only where it can derive it; it says NULL of a group that began in the middle of a stream,
and after entries were deleted. Then it is counted, up to a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError

from streammesh import lua
from streammesh.keys import UNCLAIMED, Keys
from streammesh.lua.queues import CountEntriesScript

MOST_COUNTED = 10_000  # entries; beyond that it is "at least"
AT_ONCE = 1_000
BYTES_AT_ONCE = 4_000_000
_FIRST = "0-0"


@dataclass(frozen=True, slots=True)
class Counted:
    """Entries between two positions. Not `exact`: at least so many."""

    number: int
    first: str
    last: str
    exact: bool


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one service was not given, or did not acknowledge, in all its domains; `oldest_ms` when the oldest came."""

    lag: int = 0
    exact: bool = True
    oldest_ms: int | None = None

    def __add__(self, other: Backlog) -> Backlog:
        both = [ms for ms in (self.oldest_ms, other.oldest_ms) if ms is not None]
        return Backlog(self.lag + other.lag, self.exact and other.exact, min(both, default=None))


def count_call(stream: str, after: str, until: str, most: int) -> lua.Call[Counted]:
    """`count_entries.lua`: entries after one position and up to another (`+`; `(` before it leaves it out)."""

    def parse(answer: list[Any]) -> Counted:
        number, first, last, more = answer
        return Counted(int(number), first.decode(), last.decode(), not more)

    return CountEntriesScript(
        stream=stream, after=after, up_to=until, most=most, most_bytes=BYTES_AT_ONCE
    ).call(parse)


async def count(
    client: redis.asyncio.Redis, stream: str, after: str, until: str = "+", most: int = MOST_COUNTED
) -> Counted:
    """Count entries, `most` at least where there are so many; a few milliseconds of the server at a time."""
    found = Counted(0, "", "", False)
    while not found.exact and found.number < most:
        ahead = min(AT_ONCE, most - found.number)
        page = await lua.run(client, count_call(stream, found.last or after, until, ahead))
        found = Counted(
            found.number + page.number, found.first or page.first, page.last or found.last, page.exact
        )
    return found


async def read_backlogs(
    client: redis.asyncio.Redis, keys: Keys, domains: frozenset[str]
) -> dict[str, dict[str, Backlog]]:
    """For each group that reads a domain's stream, by domain: what it has not had yet. No payload is read."""
    ordered = sorted(domains)
    pipeline = client.pipeline(transaction=False)
    for domain in ordered:
        pipeline.xinfo_groups(keys.events(domain))
    answers = await pipeline.execute(raise_on_error=False)
    found: dict[str, dict[str, Backlog]] = {}
    for domain, groups in zip(ordered, answers, strict=True):
        if isinstance(groups, ResponseError):  # no such stream, or something else lies there
            continue
        if isinstance(groups, Exception):
            raise groups
        for group in groups:
            name = group["name"].decode("utf-8", "replace")
            if name != UNCLAIMED:
                found.setdefault(name, {})[domain] = await _backlog(client, keys.events(domain), group)
    return found


async def _backlog(client: redis.asyncio.Redis, stream: str, group: Mapping[str, Any]) -> Backlog:
    pending, lag, given = int(group["pending"]), group.get("lag"), group["last-delivered-id"].decode()
    first, exact, times = "", True, []
    if lag is None:
        counted = await count(client, stream, given)
        lag, exact, first = counted.number, counted.exact, counted.first
    elif lag:
        first = (await lua.run(client, count_call(stream, given, "+", 1))).first
    if first:
        times.append(_ms(first))
    if pending:
        oldest = (await client.xpending(stream, group["name"]))["min"]
        times += [_ms(oldest.decode())] if oldest else []
    return Backlog(int(lag) + pending, exact, min(times, default=None))


def _ms(position: str) -> int:
    return int(position.partition("-")[0])
