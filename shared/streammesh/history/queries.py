"""What is asked of the history. Blocking; who asks runs it in a thread (`reader.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Table

from streammesh import names
from streammesh.history.rows import LetterRecord, TaskRecord, day_of
from streammesh.history.schema import events, letters, tasks
from streammesh.tasks.records import EventRow

MOST_TASKS = 1_000  # of one event
IDS_AT_ONCE = 500
Place = tuple[int, int, str]  # at, seq, domain: where an event lies; of a task the domain is empty
NEWEST: Place = (2**62, 0, "")


class EventFound(NamedTuple):
    """An event of the history: where it stands, without its tasks, and its JSON."""

    row: EventRow
    envelope: str


@dataclass(frozen=True, slots=True)
class EventSearch:
    """Which events are looked for; what is not named is not asked. Times are ms, `until` not included."""

    pattern: str = "*"
    source: str | None = None
    subject: str | None = None
    correlation: str | None = None
    state: str | None = None
    since: int = 0
    until: int | None = None

    def condition(self) -> list[ColumnElement[bool]]:
        """What the database looks at; a glob needs a closer look."""
        c = events.c
        found = [c.at >= self.since, *_named(c.type, self.pattern)]
        if self.until is not None:
            found.append(c.at < self.until)
        for column, value in ((c.source, self.source), (c.subject, self.subject), (c.state, self.state)):
            if value is not None:
                found.append(column == value)
        if self.correlation is not None:  # an event without one begins a story of its own
            found.append(
                sa.or_(
                    c.correlation == self.correlation,
                    sa.and_(c.id == self.correlation, c.correlation.is_(None)),
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class TaskSearch:
    """Which ended tasks are looked for, as `EventSearch`."""

    states: Sequence[str] = field(default=tuple(sorted(names.ENDED)))
    service: str | None = None
    name: str = "*"
    event_type: str = "*"
    worker: str | None = None

    def condition(self) -> list[ColumnElement[bool]]:
        """What the database looks at."""
        c = tasks.c
        found = [*_named(c.name, self.name), *_named(c.event_type, self.event_type)]
        if set(self.states) != set(names.ENDED):
            found.append(c.state.in_(self.states))
        for column, value in ((c.service, self.service), (c.worker, self.worker)):
            if value is not None:
                found.append(column == value)
        return found


def _named(column: Any, pattern: str) -> list[ColumnElement[bool]]:
    """An exact name, or what begins as a glob does."""
    if not names.is_glob(pattern):
        return [column == pattern]
    prefix = pattern.replace("?", "*").partition("*")[0]
    return [column >= prefix, column < prefix + "\U0010ffff"] if prefix else []


def find_events(connection: Connection, identities: Sequence[tuple[str, str | None]]) -> list[EventFound]:
    """Events by (id, source); every source where none is named."""
    c, found = events.c, []
    for event_id, source in identities:
        this = c.id == event_id if source is None else sa.and_(c.id == event_id, c.source == source)
        found += [_event(row) for row in connection.execute(sa.select(events).where(this).limit(101))]
    return found


def list_events(connection: Connection, search: EventSearch, before: Place, most: int) -> list[EventFound]:
    """Events before a place, the newest first; those of a glob that only begin as it does are among them."""
    c = events.c
    query = (
        sa.select(events)
        .where(*search.condition(), _before((c.at, c.seq, c.domain), before))
        .order_by(c.at.desc(), c.seq.desc(), c.domain.desc())
        .limit(most)
    )
    return [_event(row) for row in connection.execute(query)]


def events_after(
    connection: Connection, search: EventSearch, after: Place, most: int
) -> list[tuple[Place, str]]:
    """Places and JSON of events after a place, the oldest first; of a glob as `list_events`."""
    c = events.c
    days = [c.day >= day_of(after[0])]
    if search.until is not None:
        days.append(c.day <= day_of(search.until))
    query = (
        sa.select(c.at, c.seq, c.domain, c.envelope)
        .where(*search.condition(), *days, _after((c.at, c.seq, c.domain), after))
        .order_by(c.at, c.seq, c.domain)
        .limit(most)
    )
    return [((at, seq, domain), envelope) for at, seq, domain, envelope in connection.execute(query)]


def events_with_ids(connection: Connection, ids: Sequence[str]) -> list[EventRow]:
    """Where the events with these ids stand, of every source; without their tasks."""
    found = []
    for at in range(0, len(ids), IDS_AT_ONCE):
        query = sa.select(events).where(events.c.id.in_(ids[at : at + IDS_AT_ONCE]))
        found += [_event(row).row for row in connection.execute(query)]
    return found


def tasks_of_events(connection: Connection, ids: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
    """The ended tasks of the events with these ids, id and state, by (event id, source)."""
    c, found = tasks.c, dict[tuple[str, str], dict[str, str]]()
    for at in range(0, len(ids), IDS_AT_ONCE):
        query = sa.select(c.event_id, c.event_source, c.id, c.state)
        query = query.where(c.event_id.in_(ids[at : at + IDS_AT_ONCE]))
        for event_id, source, task, state in connection.execute(query):
            found.setdefault((event_id, source), {})[task] = state
    return found


def tasks_of(connection: Connection, row: EventRow) -> list[str]:
    """The ids of an event's tasks."""
    c = tasks.c
    query = sa.select(c.id).where(c.event_id == row.id, c.event_source == row.source).order_by(c.at, c.seq)
    return list(connection.execute(query.limit(MOST_TASKS)).scalars())


def find_tasks(connection: Connection, ids: Sequence[str]) -> list[TaskRecord]:
    """Tasks by id, in no order."""
    found = []
    for at in range(0, len(ids), IDS_AT_ONCE):
        query = sa.select(tasks).where(tasks.c.id.in_(ids[at : at + IDS_AT_ONCE]))
        found += [_task(row) for row in connection.execute(query)]
    return found


def list_tasks(connection: Connection, search: TaskSearch, before: Place, most: int) -> list[TaskRecord]:
    """Ended tasks before a place, the newest first; as `list_events`."""
    c = tasks.c
    query = (
        sa.select(tasks)
        .where(*search.condition(), _before((c.at, c.seq), before[:2]))
        .order_by(c.at.desc(), c.seq.desc())
        .limit(most)
    )
    return [_task(row) for row in connection.execute(query)]


def list_letters(
    connection: Connection,
    service: str | None,
    since: int,
    until: int,
    before: tuple[int, str, str] | None,
    most: int,
) -> list[LetterRecord]:
    """Dead letters as they were parked, the newest first; `until` included, `before`: time, id, service."""
    c = letters.c
    order = (c.at, c.id, c.service)
    query = sa.select(letters).where(c.at >= since, c.at <= until)
    query = query.order_by(*(column.desc() for column in order)).limit(most)
    if before is not None:
        query = query.where(c.at <= before[0], _before(order, before))
    if service is not None:
        query = query.where(c.service == service)
    return [LetterRecord(*row) for row in connection.execute(query)]


def ended_in(
    connection: Connection, table: Table, since: int, until: int, before: Place, most: int
) -> list[Any]:
    """(at, seq, what reports count) of events or ended tasks of a period, the newest first."""
    c = table.c
    if table is events:
        told: tuple[Any, ...] = (c.at, c.seq, c.type)
    else:
        failure = sa.case((c.state == "failed", c.outcome), else_=None).label("failure")
        told = (c.at, c.seq, c.id, c.service, c.name, c.state, c.attempt, c.queued, c.started, failure)
    query = (
        sa.select(*told)
        .where(c.at >= since, c.at < until, _before((c.at, c.seq), before[:2]))
        .order_by(c.at.desc(), c.seq.desc())
        .limit(most)
    )
    return list(connection.execute(query))


def _before(columns: Sequence[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    return sa.tuple_(*columns) < sa.tuple_(*map(sa.literal, values))


def _after(columns: Sequence[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    # SQLite's numbers end before the largest of Redis's.
    return sa.tuple_(*columns) > sa.tuple_(
        *(sa.literal(min(v, 2**63 - 1) if isinstance(v, int) else v) for v in values)
    )


def _event(row: Any) -> EventFound:
    standing = EventRow(
        id=row.id,
        source=row.source,
        entry=f"{row.at}-{row.seq}",
        domain=row.domain,
        published_ms=row.at,
        wanted=row.wanted if row.wanted is not None or row.ended is None else row.done,
        done=row.done,
        failed=row.failed,
    )
    return EventFound(standing, row.envelope)


def _task(row: Any) -> TaskRecord:
    return TaskRecord(*row)
