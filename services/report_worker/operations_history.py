"""Reads a period's events and ended tasks that have left Redis out of the history, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Table
from streammesh.clock import from_ms, to_ms
from streammesh.history import queries
from streammesh.history.engine import open_engine
from streammesh.history.schema import events, tasks

from services.report_worker.operations import EventSeen, Period, TaskSeen

PAGE = 5_000
Place = tuple[int, int, str]  # of an event: both numbers of its position, and its type


def read_past(url: str, period: Period, most: int) -> tuple[dict[str, TaskSeen], dict[Place, EventSeen]]:
    """Tasks by id and events by place, at most `most` of each. Raises SQLAlchemyError where the history is away."""
    engine = open_engine(url, reads_only=True)
    with closing(_Closing(engine)), engine.connect() as connection:
        ended = {row.id: _task(row) for row in islice(_rows(connection, tasks, period), most)}
        published = {
            (row.at, row.seq, row.type): EventSeen(row.type, from_ms(row.at))
            for row in islice(_rows(connection, events, period), most)
        }
    return ended, published


class _Closing:
    def __init__(self, engine: Engine) -> None:
        self.close = engine.dispose


def _rows(connection: Connection, table: Table, period: Period) -> Iterator[Any]:
    since, until = map(to_ms, period)
    before = queries.NEWEST
    while True:
        page = queries.ended_in(connection, table, since, until, before, PAGE)
        yield from page
        if len(page) < PAGE:
            return
        before = (page[-1].at, page[-1].seq, "")


def _task(row: Any) -> TaskSeen:
    def moment(ms: int | None) -> datetime | None:
        return datetime.fromtimestamp(ms / 1000, UTC) if ms is not None else None

    return TaskSeen(
        service=row.service,
        name=row.name,
        state=row.state,
        attempts=row.attempt,
        queued=moment(row.queued),
        started=moment(row.started),
        ended=from_ms(row.at),
        reason=_reason(row.failure),
    )


def _reason(outcome: str | None) -> str:
    try:
        return str(orjson.loads(outcome)["error"]["reason"]) if outcome else ""
    except (ValueError, KeyError, TypeError):
        return ""
