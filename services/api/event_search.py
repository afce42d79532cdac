"""Which events somebody looks for, and where those that were found stand. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from streammesh.clock import rfc3339_ms
from streammesh.tasks.records import EventRow

from services.api.cloudevents import CloudEvent
from services.api.documents import EventStanding, StandingState


@dataclass(frozen=True, slots=True)
class Search:
    """What an event has to be; what is not named is not asked. `text` is a part of its JSON, in any case."""

    source: str | None = None
    subject: str | None = None
    text: str | None = None
    correlation: str | None = None

    def fits(self, event: CloudEvent, raw: bytes) -> bool:
        """Whether an event is meant; `raw` is its JSON as it is stored."""
        if self.source is not None and event.source != self.source:
            return False
        if self.subject is not None and event.subject != self.subject:
            return False
        if self.correlation is not None and str(event.correlationid or event.id) != self.correlation:
            return False
        return self.text is None or _as_in_json(self.text) in raw.decode("utf-8", "replace").casefold()


def _as_in_json(text: str) -> str:
    """A text as it stands inside a JSON string: with quotes and backslashes escaped."""
    return orjson.dumps(text)[1:-1].decode().casefold()


def standing(row: EventRow | None, event: CloudEvent) -> EventStanding:
    """Where an event stands, in short: its state, and how many tasks it has, ended, ended without success.

    `failed` is an event of which every task ended and one at least without success.
    """
    if row is None:  # its row was dropped before its envelope
        return EventStanding(state="completed", published_at=event.time, tasks=None, done=0, failed=0)
    state: StandingState = "running"
    if row.wanted is None:
        state = "waiting"
    elif row.wanted == 0:
        state = "unrouted"
    elif row.completed:
        state = "failed" if row.failed else "completed"
    return EventStanding(
        state=state,
        published_at=rfc3339_ms(row.published_ms),
        tasks=row.wanted,
        done=row.done,
        failed=row.failed,
    )
