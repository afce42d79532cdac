"""Recent events over all domains, newest first, page by page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import redis.asyncio
from streammesh import names, plain_json
from streammesh.events.envelope import LARGEST, MAX_VALUES
from streammesh.keys import Keys
from streammesh.notifications import position_key
from streammesh.redisio.page_size import PageSize
from streammesh.redisio.turns import Turns
from streammesh.subscriptions.registry import read_domains

from services.api.cloudevents import CloudEvent
from services.api.schemas import readable

MOST = 200  # events on one page
SCANNED_AT_ONCE = 400  # entries of all domains together in one round trip
AT_FIRST = 64  # entries in the first look at all domains together
MOST_BYTES = 4_000_000  # of events on one page, more or less
ROUNDS = 20  # after that the page ends, with a cursor to go on from, however little was found
_CURSOR = re.compile(r"([0-9]{1,20}-[0-9]{1,20})~([a-z][a-z0-9_-]{0,127})")
NEWEST = "+"
EventPlace = tuple[tuple[int, int], str]


class Listed(NamedTuple):
    """One event, and where it lies."""

    place: EventPlace
    event: CloudEvent


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event that was given out: positions are unique within a domain only."""

    position: str
    domain: str

    def __str__(self) -> str:
        return f"{self.position}~{self.domain}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises ValueError for what is no cursor."""
        found = _CURSOR.fullmatch(text)
        if not found:
            raise ValueError("should be the `next` of an earlier page")
        position_key(found[1])
        return cls(found[1], found[2])

    @property
    def place(self) -> EventPlace:
        """As events are ordered."""
        return position_key(self.position), self.domain

    @classmethod
    def of(cls, place: EventPlace) -> Cursor:
        """The cursor after an event."""
        (at, seq), domain = place
        return cls(f"{at}-{seq}", domain)

    def upper_bound(self, domain: str) -> str:
        """From where to go on in a domain: events are ordered by position, then by domain, both downwards."""
        return self.position if domain < self.domain else f"({self.position}"


async def list_recent(
    client: redis.asyncio.Redis,
    keys: Keys,
    pattern: str,
    wanted: Callable[[CloudEvent, bytes], bool],
    *,
    since_ms: int,
    limit: int,
    cursor: Cursor | None,
) -> tuple[list[Listed], Cursor | None]:
    """Events whose type fits the pattern and that are wanted, and where the next page begins (None at the end).

    `wanted` is asked with the event and its JSON as it is stored.
    """
    domains = await _domains(client, keys, pattern)
    found: list[Listed] = []
    if not domains:
        return [], None
    most = max(4, min(limit, SCANNED_AT_ONCE // len(domains)))
    look, size, turns = PageSize(most, max(4, AT_FIRST // len(domains))), 0, Turns()
    for _ in range(ROUNDS):
        entries, frontier = await _scan(client, keys, domains, cursor, since_ms, look.count)
        look.seen(sum(len(raw) for _, _, raw in entries))
        for place, position, raw in entries:
            await turns.give()
            event = read_event(raw)
            if event and names.matches(pattern, event.type) and wanted(event, raw):
                found.append(Listed(place, event))
                size += len(raw)
                if len(found) == limit or size >= MOST_BYTES:
                    return found, Cursor(position, place[1])
        if frontier is None:
            return found, None
        cursor = frontier
    return found, cursor


async def _domains(client: redis.asyncio.Redis, keys: Keys, pattern: str) -> list[str]:
    domain = names.domain_of_pattern(pattern)
    if domain is not None:
        return [domain]
    return sorted(await read_domains(client, keys))


async def _scan(
    client: redis.asyncio.Redis,
    keys: Keys,
    domains: list[str],
    cursor: Cursor | None,
    since_ms: int,
    count: int,
) -> tuple[list[tuple[EventPlace, str, bytes]], Cursor | None]:
    """The next entries in order, and how far that order is certain; None when there is nothing further."""
    pipeline = client.pipeline(transaction=False)
    for domain in domains:
        upper = cursor.upper_bound(domain) if cursor else NEWEST
        pipeline.xrevrange(keys.events(domain), upper, str(since_ms), count)
    entries: list[tuple[EventPlace, str, bytes]] = []
    frontier: tuple[EventPlace, str] | None = None
    for domain, found in zip(domains, await pipeline.execute(), strict=True):
        for at, fields in found:
            position = at.decode()
            entries.append(((position_key(position), domain), position, (fields or {}).get(b"e", b"")))
        if len(found) == count:  # there may be more: nothing older than this one is certain yet
            place, position, _ = entries[-1]
            if frontier is None or place > frontier[0]:
                frontier = place, position
    entries.sort(key=lambda entry: entry[0], reverse=True)
    if frontier is None:
        return entries, None
    certain = [entry for entry in entries if entry[0] >= frontier[0]]
    return certain, Cursor(frontier[1], frontier[0][1])


def read_event(raw: bytes) -> CloudEvent | None:
    """An event as it is stored; None for what is none."""
    try:
        if len(raw) > LARGEST or plain_json.is_crowded(raw, MAX_VALUES):
            return None
        return readable(CloudEvent, plain_json.loads(raw))
    except ValueError:
        return None
