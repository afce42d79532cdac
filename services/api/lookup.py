"""Finds events and tasks for a caller. What a key may not read is, to its holder, not there."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request
from streammesh.api_keys import ApiKey
from streammesh.events.envelope import Event
from streammesh.events.validation import MAX_ATTRIBUTE
from streammesh.history.reader import HistoryReader
from streammesh.tasks.records import MOST_SOURCES, EventRow, TaskRow

from services.api.documents import type_of
from services.api.problems import Problem, unavailable
from services.api.schemas import EXAMPLE_ID
from services.api.state import Wiring
from services.api.tokens import EVERYTHING, narrowing_of

HISTORY_IS_AWAY = "the history, where it may be, does not answer."
LOOKED_AT = 20  # events of one id whose types are looked at for a key that may not read everything
SourceParameter = Annotated[
    str | None,
    Query(
        description="The event's source, where several sources used this id.",
        max_length=MAX_ATTRIBUTE,
        examples=["shop"],
    ),
]


EventId = Annotated[str, Path(description="A slash in it is sent as %2F.", examples=[EXAMPLE_ID])]


def no_event(event_id: str, history: HistoryReader | None = None) -> Problem:
    """404; while the history is away 503, since it may be there."""
    shown = event_id if len(event_id) <= 100 else f"{event_id[:100]}…"
    if history is not None and history.is_away:
        return unavailable(f"Redis does not know the event {shown!r}, and {HISTORY_IS_AWAY}")
    return Problem(
        "not-found", f"There is no event {shown!r}; it was never published, or its retention is over."
    )


async def find_row(wiring: Wiring, key: ApiKey, event_id: str, source: str | None) -> EventRow:
    """Where an event is. Raises Problem: 404, or 409 when several sources used its id and none is named.

    A key that may read nothing costs no look-up; of several sources only those are named that the key may read.
    """
    if len(event_id) > MAX_ATTRIBUTE or not (key.admin or key.subscribe):
        raise no_event(event_id)
    async with wiring.reading():
        if source is not None:
            row = await wiring.rows.event(event_id, source)
            rows = [row] if row else []
        else:
            rows = await wiring.rows.events(event_id)
        if len(rows) > 1 and not key.may_subscribe_to_all:
            rows = [row for row in rows[:LOOKED_AT] if await _may_read(wiring, key, row)]
    if not rows:
        raise no_event(event_id, wiring.history)
    if len(rows) > 1:
        raise Problem(
            "ambiguous-event",
            "Several sources published an event with this id; pass the one you mean as `?source=`.",
            members={"sources": sorted(row.source for row in rows)[:MOST_SOURCES]},
        )
    return rows[0]


async def _may_read(wiring: Wiring, key: ApiKey, row: EventRow) -> bool:
    event = await wiring.rows.envelope(row)
    return event is not None and key.may_subscribe(event.type)


async def read_event(wiring: Wiring, row: EventRow) -> tuple[Event | None, list[TaskRow]]:
    """The envelope, while it is kept, and the tasks that it became."""
    async with wiring.reading():
        return await wiring.rows.envelope(row), await wiring.rows.tasks(row.task_ids)


def must_read(key: ApiKey, event_id: str, event: Event | None, tasks: list[TaskRow]) -> None:
    """Raises Problem (404) unless the key may read events of this type."""
    event_type = type_of(event, tasks)
    allowed = key.may_subscribe_to_all if event_type is None else key.may_subscribe(event_type)
    narrowing = narrowing_of(key)
    if allowed and narrowing is not EVERYTHING:
        about = {"source": event.source, "subject": event.subject} if event else tasks[0].event
        allowed = narrowing.task is None and narrowing.covers(
            event_id, str(about["source"]), about.get("subject")
        )
    if not allowed:
        raise no_event(event_id)


def whole_id(request: Request, event_id: str, suffix: str) -> str | None:
    """The id of a path that ends in `suffix`; None when the suffix is a part of the id.

    Ids may hold a slash, sent as %2F; the framework routes by the decoded path, where it looks like any other.
    """
    raw: bytes = request.scope.get("raw_path") or b""
    return event_id if not raw or raw.endswith(suffix.encode()) else None
