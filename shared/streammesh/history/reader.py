"""Reads the history for an event loop. When the history is away, that is said, and the answer is nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TypeVar

import orjson
import redis.asyncio
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from streammesh import plain_json
from streammesh.clock import rfc3339_ms
from streammesh.errors import InvalidEvent
from streammesh.events import envelope
from streammesh.events.envelope import MAX_VALUES, Event
from streammesh.history import queries
from streammesh.history.engine import POOL, open_engine, said
from streammesh.history.rows import TaskRecord
from streammesh.keys import Keys
from streammesh.names import TaskState
from streammesh.tasks.records import MOST_RESULTS, EventRow, Rows, TaskRow
from streammesh.tasks.result_limit import VALUES_BESIDE

T = TypeVar("T")
AGAIN_SECONDS = 5.0  # after it was away it is not asked for so long, so that nobody waits for it
SECONDS = 2.0  # of one question
log = structlog.get_logger(__name__)


class HistoryReader:
    """Asks the history, a few questions at once. One instance per process."""

    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        self._engine, self._seconds = open_engine(url, reads_only=True), seconds
        self._threads = ThreadPoolExecutor(POOL, thread_name_prefix="history")
        self._slots = asyncio.Semaphore(POOL)
        self._away_until = 0.0
        self.why_away = ""

    @property
    def is_away(self) -> bool:
        """Whether it did not answer lately."""
        return bool(self.why_away)

    def close(self) -> None:
        """Let go of its connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()

    async def ask(self, question: Callable[[Connection], list[T]]) -> list[T]:
        """The answer to a question of `queries.py`; nothing while the history is away."""
        if monotonic() < self._away_until:
            return []
        try:
            async with asyncio.timeout(self._seconds), self._slots:
                answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)
        except (SQLAlchemyError, TimeoutError) as error:
            self._away_until = monotonic() + AGAIN_SECONDS
            if not self.why_away:
                log.warning("history.unread", reason=_said(error))
            self.why_away = _said(error)
            return []
        self.why_away = ""
        return answer

    def _ask(self, question: Callable[[Connection], list[T]]) -> list[T]:
        with self._engine.connect() as connection:
            return question(connection)


class RowsAndHistory(Rows):
    """Rows of one mesh: from Redis, and what has left it from the history."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, history: HistoryReader) -> None:
        super().__init__(client, keys)
        self._history = history

    async def task(self, task_id: str) -> TaskRow | None:
        """One task, None when it is not known (any more)."""
        return await super().task(task_id) or next(iter(await self._past([task_id])), None)

    async def tasks(self, task_ids: Sequence[str]) -> list[TaskRow]:
        """Several tasks; those not known any more are left out."""
        found = await super().tasks(task_ids)
        if len(found) == len(task_ids):
            return found
        known = {row.id: row for row in found}
        known |= {row.id: row for row in await self._past([one for one in task_ids if one not in known])}
        return [known[one] for one in dict.fromkeys(task_ids) if one in known]

    async def _past(self, task_ids: Sequence[str]) -> list[TaskRow]:
        return task_rows(await self._history.ask(partial(queries.find_tasks, ids=task_ids)))

    async def events(self, event_id: str, most: int = 100) -> list[EventRow]:
        """The events with this id, one per source."""
        return await super().events(event_id, most) or await self._past_events([(event_id, None)])

    async def event(self, event_id: str, source: str) -> EventRow | None:
        """The event of one source."""
        found = await super().event(event_id, source)
        return found or next(iter(await self._past_events([(event_id, source)])), None)

    async def _past_events(self, identities: Sequence[tuple[str, str | None]]) -> list[EventRow]:
        def find(connection: Connection) -> list[EventRow]:
            found = [one.row for one in queries.find_events(connection, identities)]
            return [replace(row, task_ids=queries.tasks_of(connection, row)) for row in found]

        return await self._history.ask(find)

    async def standings(self, events: Sequence[tuple[str, str]]) -> list[EventRow | None]:
        """Where several events stand, by (id, source); without their tasks."""
        found = await super().standings(events)
        missing = [event for event, row in zip(events, found, strict=True) if row is None]
        if not missing:
            return found
        past = await self._history.ask(partial(queries.find_events, identities=missing))
        known = {(one.row.id, one.row.source): one.row for one in past}
        return [row or known.get(event) for event, row in zip(events, found, strict=True)]

    async def envelope(self, row: EventRow) -> Event | None:
        """The event itself, None where it is not kept any more."""
        found = await super().envelope(row)
        if found is not None or row.entry == "held":
            return found
        past = await self._history.ask(partial(queries.find_events, identities=[(row.id, row.source)]))
        try:
            return envelope.from_json(past[0].envelope.encode()) if past else None
        except InvalidEvent:
            return None


def task_rows(records: Sequence[TaskRecord]) -> list[TaskRow]:
    """Tasks of the history as the ledger would tell them; results beyond `MOST_RESULTS` bytes are left out."""
    found, room = [], MOST_RESULTS
    for record in records:
        found.append(_task_row(record, room))
        room = max(0, room - len(record.outcome))
    return found


def _task_row(record: TaskRecord, room: int) -> TaskRow:
    left_out = len(record.outcome) > max(1_024, room) or plain_json.is_crowded(
        record.outcome.encode(), MAX_VALUES + VALUES_BESIDE
    )
    outcome = {} if left_out else _parsed(record.outcome)
    times = {"queued": record.queued, "started": record.started, "ended": record.ended}
    times_ms = {name: at for name, at in times.items() if at is not None}
    event = {"id": record.event_id, "source": record.event_source, "type": record.event_type}
    error, follow_ups = outcome.get("error"), outcome.get("events", [])
    return TaskRow(
        id=record.id,
        state=TaskState(record.state),
        attempt=record.attempt,
        name=record.name,
        service=record.service,
        event={**event, "subject": record.event_subject, "correlation": record.correlation},
        times={f"{name}_at": rfc3339_ms(at) for name, at in times_ms.items()},
        queue=record.queue,
        priority=record.priority,
        worker=record.worker,
        result=outcome.get("result"),
        error=error if isinstance(error, dict) else None,
        events=[one for one in follow_ups if isinstance(one, dict)] if isinstance(follow_ups, list) else [],
        left_out=left_out,
        times_ms=times_ms,
    )


def _parsed(outcome: str) -> dict[str, object]:
    try:
        found = orjson.loads(outcome)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return said(error)
