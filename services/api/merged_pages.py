"""Pages over Redis and the history: one order, one cursor, nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from streammesh.dead_letters import DeadLetter, DeadLetterFilter
from streammesh.dead_letters.letters import LAST_MS, LetterPlace, parse
from streammesh.history import queries
from streammesh.history.queries import EventSearch, TaskSearch
from streammesh.history.reader import HistoryReader, task_rows
from streammesh.notifications import position_key
from streammesh.tasks.records import TaskRow

from services.api.cloudevents import CloudEvent
from services.api.event_pages import Cursor, EventPlace, Listed, read_event
from services.api.task_pages import TaskPage

SCANNED = 1_000  # rows of the history in one question
LETTERS_SCANNED = 500  # each may hold a traceback
ROUNDS = 4  # after that the page ends, with a cursor to go on from
MARGIN = timedelta(minutes=1)  # by which our clock and Redis's may differ
TaskPlace = tuple[int, int]
P = TypeVar("P", bound=tuple[Any, ...])
R = TypeVar("R")


def merged(
    first: Sequence[tuple[P, R]],
    first_after: P | None,
    second: Sequence[tuple[P, R]],
    second_after: P | None,
    limit: int,
) -> tuple[list[tuple[P, R]], P | None]:
    """One page of two, newest first, and where the next begins.

    Each is complete down to its `after`, to its end where that is None. What lies at one place is the same thing, and
    taken from the first.
    """
    ends = [after for after in (first_after, second_after) if after is not None]
    bound = max(ends) if ends else None
    known = {place: row for place, row in [*second, *first] if bound is None or place >= bound}
    page = [(place, known[place]) for place in sorted(known, reverse=True)]
    if len(page) > limit:
        return page[:limit], page[limit - 1][0]
    return page, bound


def is_hot(place: tuple[int, int], hot: timedelta) -> bool:
    """Whether all that is as young as this lies in Redis still."""
    return place[0] > (time.time() - (hot - MARGIN).total_seconds()) * 1000


def is_away(history: HistoryReader | None) -> bool:
    """Whether a list holds no more than Redis knows, though there is a history."""
    return history is not None and history.is_away


async def past_events(
    history: HistoryReader,
    search: EventSearch,
    wanted: Callable[[CloudEvent, bytes], bool],
    limit: int,
    cursor: Cursor | None,
) -> tuple[list[Listed], EventPlace | None]:
    """Events of the history that are wanted, and where to go on; None at the end."""
    found: list[Listed] = []
    after = None if cursor is None else cursor.place
    for _ in range(ROUNDS):
        before = queries.NEWEST if after is None else (*after[0], after[1])
        rows = await history.ask(partial(queries.list_events, search=search, before=before, most=SCANNED))
        for row, text in rows:
            place = after = position_key(row.entry), row.domain
            raw = text.encode()
            event = read_event(raw)
            if event is not None and wanted(event, raw):
                found.append(Listed(place, event))
                if len(found) == limit:
                    return found, place
        if len(rows) < SCANNED:
            return found, None
    return found, after


async def past_tasks(
    history: HistoryReader,
    search: TaskSearch,
    wanted: Callable[[TaskRow], bool],
    limit: int,
    place: str | None,
) -> tuple[list[tuple[TaskPlace, TaskRow]], TaskPlace | None]:
    """Ended tasks of the history that are wanted, and where to go on; None at the end."""
    found: list[tuple[TaskPlace, TaskRow]] = []
    after = position_key(place) if place else None
    for _ in range(ROUNDS):
        before = queries.NEWEST if after is None else (*after, "")
        records = await history.ask(partial(queries.list_tasks, search=search, before=before, most=SCANNED))
        for record, row in zip(records, task_rows(records), strict=True):
            after = record.at, record.seq
            if wanted(row):
                found.append((after, row))
                if len(found) == limit:
                    return found, after
        if len(records) < SCANNED:
            return found, None
    return found, after


async def past_letters(
    history: HistoryReader,
    wanted: DeadLetterFilter,
    may_see: Callable[[DeadLetter], bool],
    limit: int,
    after: LetterPlace | None,
) -> tuple[list[DeadLetter], LetterPlace | None]:
    """Dead letters of the history that are wanted, and where to go on; None at the end."""
    found: list[DeadLetter] = []
    since = max(0, wanted.since_ms or 0)
    until = LAST_MS if wanted.until_ms is None else wanted.until_ms
    for _ in range(ROUNDS):
        records = await history.ask(
            partial(
                queries.list_letters,
                service=wanted.service,
                since=since,
                until=until,
                before=after,
                most=LETTERS_SCANNED,
            )
        )
        for record in records:
            letter = parse(record.service, record.id, record.at, record.letter.encode())
            after = letter.place
            if wanted.fits(letter) and may_see(letter):
                found.append(letter)
                if len(found) == limit:
                    return found, after
        if len(records) < LETTERS_SCANNED:
            return found, None
    return found, after


def merged_tasks(
    page: TaskPage, past: Sequence[tuple[TaskPlace, TaskRow]], past_after: TaskPlace | None, limit: int
) -> TaskPage:
    """A page of ended tasks of Redis, and one of the history; a task that was replayed is told as it ended last."""
    first = [(position_key(place), row) for place, row in zip(page.places, page.tasks, strict=True)]
    rows, after = merged(first, position_key(page.next) if page.next else None, past, past_after, limit)
    once = {row.id: row for _, row in reversed(rows)}
    tasks = sorted(once.values(), key=lambda row: row.times_ms.get("ended", 0), reverse=True)
    return TaskPage(tasks, f"{after[0]}-{after[1]}" if after else None)
