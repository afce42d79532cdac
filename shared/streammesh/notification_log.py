"""Reads the stream of notifications: page by page, or all that was told of one event.

Each page has some megabytes at most. What is no notification is stepped over, and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from streammesh.errors import Malformed
from streammesh.keys import Keys
from streammesh.notifications import POSITION, Notification, position_key
from streammesh.redisio.page_size import PageSize
from streammesh.redisio.turns import Turns

PAGE = 500  # notifications read in one round trip, fewer where they are large
REMEMBERED_AT_ONCE = 400
REMEMBERED_BYTES = 8192  # of positions in an event's row; see `_notify.lua`
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NotificationPage:
    """Some notifications in order, and whether none is missing: between the position asked for and them, or,
    where the history of one event was asked for, from its beginning."""

    notes: list[Notification]
    whole: bool
    last: str = "0-0"  # the newest position of the stream
    reached: str | None = None  # the last position that was looked at, readable or not
    size: int = 0  # bytes of what was read
    oldest: tuple[int, int] = (0, 0)  # the position of the first one that is kept


class NotificationLog:
    """Reads the stream of notifications."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    async def last(self) -> str:
        """The newest position, `0-0` when there is none."""
        newest = await self._client.xrevrange(self._keys.notifications(), count=1)
        return newest[0][0].decode() if newest else "0-0"

    async def read(self, after: str, count: int = PAGE) -> NotificationPage:
        """The next `count` notifications after a position, and whether something was trimmed of them. One round trip."""
        key = self._keys.notifications()
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xrange(key, min=f"({after}", count=count)
        pipeline.xrange(key, count=1)  # read after the page, so what was trimmed meanwhile is noticed
        pipeline.xinfo_stream(key)
        entries, oldest, info = await pipeline.execute(raise_on_error=False)
        for answer in (entries, oldest):
            if isinstance(answer, Exception):
                raise answer
        if isinstance(info, ResponseError):  # no such key: nothing was ever said, or all of it is lost
            return NotificationPage([], position_key(after) == (0, 0))
        stream = {name.decode() if isinstance(name, bytes) else name: value for name, value in info.items()}
        last = _text(stream["last-generated-id"])
        complete = (
            bool(oldest and position_key(after) >= position_key(_text(oldest[0][0])))
            or int(stream.get("entries-added", -1)) == int(stream["length"])
            or position_key(after) == position_key(last)
        )
        first = position_key(_text(oldest[0][0])) if oldest else (0, 0)
        reached = entries[-1][0].decode() if entries else None
        whole = complete and position_key(after) <= position_key(last)
        return NotificationPage(await readable(entries), whole, last, reached, bytes_of(entries), first)

    async def of_event(self, event_id: str, source: str) -> list[Notification]:
        """All that is still known of one event, oldest first: two round trips, however long the stream."""
        return (await self.history(event_id, source)).notes

    async def history(self, event_id: str, source: str, after: str = "0-0") -> NotificationPage:
        """As `of_event`, from a position on, and says whether none of it was trimmed.

        The event's row remembers the first few hundred positions; what an event with more was told after
        them is looked for in the stream.
        """
        remembered = await self._client.hget(self._keys.event(event_id), f"notes:{source}")
        if not remembered:
            return NotificationPage([], True)
        begin = position_key(after)
        all_positions = [p for p in remembered.decode("utf-8", "replace").split() if POSITION.fullmatch(p)]
        positions = [position for position in all_positions if position_key(position) > begin]
        size, at, found = PageSize(REMEMBERED_AT_ONCE), 0, 0
        notes: list[Notification] = []
        while at < len(positions):
            pipeline = self._client.pipeline(transaction=False)
            for position in positions[at : at + size.count]:
                pipeline.xrange(self._keys.notifications(), min=position, max=position)
            at += size.count
            entries = [answer[0] for answer in await pipeline.execute() if answer]
            found += len(entries)
            notes += await readable(entries)
            size.seen(bytes_of(entries))
        whole, after = found == len(positions), max([after, *all_positions[-1:]], key=position_key)
        size = PageSize(PAGE)
        while len(remembered) >= REMEMBERED_BYTES:
            page = await self.read(after, size.count)
            size.seen(page.size)
            whole = whole and page.whole
            notes += [note for note in page.notes if note.event == event_id and note.source == source]
            if page.reached is None:
                break
            after = page.reached
        return NotificationPage(notes, whole, after)


def bytes_of(entries: Iterable[tuple[bytes, Mapping[bytes, bytes] | None]]) -> int:
    """How large what was read of the stream is, but for its small fields."""
    return sum(len(fields.get(b"b", b"")) for _, fields in entries if fields)


async def readable(entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Notification]:
    """The notifications in entries of the stream; what is none is stepped over, and said."""
    notes, turns = [], Turns()
    for position, fields in entries:
        await turns.give()
        try:
            notes.append(Notification.from_entry(position, fields))
        except Malformed as error:
            log.error("notification.broken", position=position.decode(), reason=str(error))
    return notes


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
