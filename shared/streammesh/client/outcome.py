"""What the client gives: what was sent, what was told, how it ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, TypedDict

ENDS = (
    *("task.succeeded", "task.failed", "task.cancelled", "task.expired"),
    *("task.skipped", "task.folded"),
)
LAST = ("event.completed", "event.unrouted")


@dataclass(frozen=True, slots=True)
class Sent:
    """What a publish was answered: the event's identity, and whether it was known already."""

    id: str
    source: str
    type: str
    duplicate: bool

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Self:
        """Read one event of the API's answer."""
        return cls(item["id"], item["source"], item["type"], bool(item["duplicate"]))


class NoteEvent(TypedDict, total=False):
    """The event that a notification is about; empty where it is about a subscription."""

    id: str
    source: str
    type: str
    subject: str | None


class NoteTask(TypedDict, total=False):
    """The task that a notification is about."""

    id: str
    name: str
    service: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Note:
    """One notification. `id` is the position to resume after."""

    id: str
    type: str
    time: str
    event: NoteEvent
    task: NoteTask | None
    data: dict[str, Any]

    @classmethod
    def of(cls, value: dict[str, Any], kind: str) -> Self:
        """Read one notification; `kind` is the type of the stream's event that brought it."""
        return cls(
            id=value.get("id", ""),
            type=value.get("type", kind),
            time=value.get("time", ""),
            event=value.get("event") or NoteEvent(),  # none where it is about a subscription
            task=value.get("task"),
            data=value.get("data") or {},
        )


class State(StrEnum):
    """How an event ended. Nothing ran: no subscription wants it, so nothing went well and nothing failed."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NOTHING_RAN = "nothing ran"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an event ended: the last notification of each of its tasks.

    `missing` of its tasks ended without anything being known of how; `reason` says why nothing ran.
    """

    event_id: str
    tasks: list[Note] = field(default_factory=list)
    source: str = ""
    reason: str = ""
    missing: int = 0

    @property
    def state(self) -> State:
        """Whether all succeeded, something did not, or nothing ran."""
        if not self.tasks and not self.missing:
            return State.NOTHING_RAN
        well = not self.missing and all(note.type == "task.succeeded" for note in self.tasks)
        return State.SUCCEEDED if well else State.FAILED

    @property
    def succeeded(self) -> bool:
        """Whether it had tasks and every one of them succeeded. False when nothing ran, see `state`."""
        return self.state is State.SUCCEEDED


class OutcomeOf:
    """Gathers the outcome of one event from what is told about it."""

    def __init__(self, event_id: str, source: str) -> None:
        self._event_id, self._source = event_id, source
        self._ended: dict[str, Note] = {}
        self._last: Note | None = None

    def add(self, note: Note) -> None:
        """Take one notification."""
        if note.type in ENDS and note.task:
            self._ended[note.task["id"]] = note
        elif note.type in LAST:
            self._last = note

    def outcome(self) -> Outcome:
        """Return what is known now."""
        data = self._last.data if self._last else {}
        count = data.get("tasks")
        missing = max(0, count - len(self._ended)) if isinstance(count, int) else 0
        reason = str(data.get("reason", "")) if self._last and self._last.type == "event.unrouted" else ""
        return Outcome(self._event_id, list(self._ended.values()), self._source, reason, missing)
