"""Tasks page by page: those that have not ended, in either order, or those that ended, newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import redis.asyncio
from streammesh.keys import Keys
from streammesh.notifications import position_key
from streammesh.redisio.answers import only, there
from streammesh.tasks.records import Rows, TaskRow

MOST = 200  # tasks on one page
LOOKED_AT = 200  # in one round trip
LEAST_OF_ONE = 4  # ids that one service of many is asked for
ROUNDS = 10  # after that the page ends, with a cursor to go on from, however few fitted
Wanted = Callable[[TaskRow], bool]


@dataclass(frozen=True, slots=True, order=True)
class OpenPlace:
    """The last open task that was looked at: when it was handed over, in ms, and its id."""

    at_ms: int
    id: str

    def __str__(self) -> str:
        return f"{self.at_ms}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> OpenPlace:
        """Raises ValueError for what is no place."""
        at, colon, task_id = text.partition(":")
        if not (colon and at.isascii() and at.isdigit() and len(at) <= 14):
            raise ValueError("should be the `next` of an earlier page")
        return cls(int(at), task_id)


LAST = OpenPlace(10**14, "")


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks, and where the next page begins; None at the end."""

    tasks: list[TaskRow]
    next: str | None
    places: list[str] = field(default_factory=list)  # of each, where it stands among the ended


class TaskPages:
    """Finds tasks of one mesh. A page may be short, or empty, and still have a `next`."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, rows: Rows) -> None:
        self._client, self._keys, self._rows = client, keys, rows

    async def open(
        self,
        services: Sequence[str],
        wanted: Wanted,
        limit: int,
        place: str | None,
        *,
        oldest_first: bool = False,
    ) -> TaskPage:
        """Those of these services that have not ended, by when they were handed over."""
        after = OpenPlace.parse(place) if place else None
        found: list[TaskRow] = []
        for _ in range(ROUNDS if services else 0):
            entries, more = await self._open_ids(services, after, oldest_first)
            rows = {row.id: row for row in await self._rows.tasks([one.id for one in entries])}
            for one in entries:
                after, row = one, rows.get(one.id)
                if row is not None and not row.ended and wanted(row):
                    found.append(row)
                    if len(found) == limit:
                        return TaskPage(found, str(after))
            if not more:
                return TaskPage(found, None)
        return TaskPage(found, str(after) if after else None)

    async def _open_ids(
        self, services: Sequence[str], after: OpenPlace | None, oldest_first: bool
    ) -> tuple[list[OpenPlace], bool]:
        """The next ids over all services, and whether more follow; of one moment in the order of their ids.

        Of many services each is asked for few, so that a page costs what it shows; it ends where one of them may
        have more.
        """
        most = max(LEAST_OF_ONE, 2 * LOOKED_AT // max(1, len(services)))
        certain: OpenPlace | None = None  # what is beyond it may not be all there is
        begin = ("-inf" if oldest_first else "+inf") if after is None else str(after.at_ms)
        ends = (begin, "+inf" if oldest_first else "-inf")
        merged: list[OpenPlace] = []
        offset, asked = 0, list(services)
        while asked:
            pipeline = self._client.pipeline(transaction=False)
            for service in asked:
                pipeline.zrange(
                    self._keys.open_tasks(service),
                    *ends,
                    desc=not oldest_first,
                    byscore=True,
                    withscores=True,
                    offset=offset,
                    num=most,
                )
            answers, again = await pipeline.execute(raise_on_error=False), []
            for service, answer in zip(asked, answers, strict=True):
                page = there(answer, ())
                fresh = [
                    one
                    for member, score in page
                    if 0 <= score < 10**14
                    and _is_next(
                        one := OpenPlace(int(score), member.decode("utf-8", "replace")), after, oldest_first
                    )
                ]
                merged += fresh
                if not fresh and len(page) == most:  # all of one moment, and given out already
                    again.append(service)
                if fresh and len(page) == most:
                    nearest = min if oldest_first else max
                    certain = nearest(certain, fresh[-1]) if certain else fresh[-1]
            asked, offset = again, offset + most
        merged.sort(reverse=not oldest_first)
        if certain is not None:
            merged = [one for one in merged if (one <= certain if oldest_first else one >= certain)]
        return merged[:LOOKED_AT], certain is not None or len(merged) > LOOKED_AT

    async def ended(self, wanted: Wanted, limit: int, place: str | None) -> TaskPage:
        """Those that ended, of all services, by when they did; as far as their records are kept."""
        if place:
            position_key(place)
        found: list[TaskRow] = []
        places: list[str] = []
        for _ in range(ROUNDS):
            pipeline = self._client.pipeline(transaction=False)
            pipeline.xrevrange(self._keys.tasks_recent(), f"({place}" if place else "+", "-", count=LOOKED_AT)
            entries = there(await only(pipeline), [])
            ids = [(fields or {}).get(b"k", b"").decode("utf-8", "replace") for _, fields in entries]
            rows = {row.id: row for row in await self._rows.tasks([one for one in ids if one])}
            for (position, _), task_id in zip(entries, ids, strict=True):
                place = position.decode()
                row = rows.pop(task_id, None)  # one that was replayed ended more than once
                if row is not None and row.ended and wanted(row):
                    found.append(row)
                    places.append(place)
                    if len(found) == limit:
                        return TaskPage(found, place, places)
            if len(entries) < LOOKED_AT:
                return TaskPage(found, None, places)
        return TaskPage(found, place, places)


def _is_next(one: OpenPlace, after: OpenPlace | None, oldest_first: bool) -> bool:
    if oldest_first:
        return after is None or one > after
    return one < (after or LAST)
