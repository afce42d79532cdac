"""What the API answers, as records: only what a program asks for by name, the whole document in `raw`. Pure.

Members that a later version adds are stepped over. Times are texts as the API writes them (RFC 3339).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

EVENT_ENDS = ("completed", "unrouted")
TASK_ENDS = ("succeeded", "failed", "cancelled", "expired", "skipped", "folded")


@dataclass(frozen=True, slots=True)
class EventIdentity:
    """Which event something is about."""

    id: str
    source: str
    type: str
    subject: str | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(value["id"], value["source"], value["type"], value.get("subject"))


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A piece of what a handler streams: text, bytes or JSON. With a higher `epoch` another attempt has begun anew."""

    epoch: int
    offset: str  # to resume after it
    data: Any

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        data = value["data"]
        return cls(value["epoch"], value["offset"], b64decode(data) if value.get("kind") == "bytes" else data)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One delivery of an event to one subscription. `error` says why it ended without success."""

    id: str
    name: str
    service: str
    state: str
    attempt: int
    event: EventIdentity
    result: Any = None
    error: str | None = None
    events: tuple[EventIdentity, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(
            id=value["id"],
            name=value["name"],
            service=value["service"],
            state=value["state"],
            attempt=value["attempt"],
            event=EventIdentity.of(value["event"]),
            result=value.get("result"),
            error=(value.get("error") or {}).get("reason"),
            events=tuple(EventIdentity.of(one) for one in value.get("events") or ()),
            raw=value,
        )

    @property
    def ended(self) -> bool:
        """Whether nothing comes of it any more."""
        return self.state in TASK_ENDS


@dataclass(frozen=True, slots=True)
class EventInfo:
    """An event and everything that came of it. `event` is the envelope, None once its retention is over.

    `tasks`: those of its tasks whose records are kept. `detail` says the state in words.
    """

    id: str
    source: str
    type: str | None
    state: str
    detail: str
    published_at: str
    event: Mapping[str, Any] | None = None
    tasks: tuple[TaskInfo, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(
            id=value["id"],
            source=value["source"],
            type=value.get("type"),
            state=value["state"],
            detail=value["detail"],
            published_at=value["published_at"],
            event=value.get("event"),
            tasks=tuple(TaskInfo.of(one["task"]) for one in value["deliveries"] if one["task"]),
            raw=value,
        )

    @property
    def ended(self) -> bool:
        """Whether every task of it has ended, or nothing wants it."""
        return self.state in EVENT_ENDS

    @property
    def succeeded(self) -> bool:
        """Whether it has ended, had tasks, and every one of them succeeded, as far as their records are kept."""
        deliveries = self.raw.get("deliveries") or ()
        return (
            self.state == "completed"
            and len(self.tasks) == len(deliveries) > 0
            and all(task.state == "succeeded" for task in self.tasks)
        )


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a cancellation was answered: `cancelled` has ended; `cancelling` was told and ends soon."""

    id: str
    state: str
    detail: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(value["id"], value["state"], value["detail"])


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What a browser may hold in place of the key. It is shown this once."""

    token: str = field(repr=False)
    expires_at: str = ""

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(value["token"], value["expires_at"])


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """What is published at set times. `next`: its next ticks; `broken`: why it is no schedule, where it is none."""

    name: str
    cron: str | None
    every_seconds: float | None
    timezone: str | None
    event: Mapping[str, Any] | None
    enabled: bool | None
    next: tuple[str, ...] = ()
    broken: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(
            name=value["name"],
            cron=value.get("cron"),
            every_seconds=value.get("every_seconds"),
            timezone=value.get("timezone"),
            event=value.get("event"),
            enabled=value.get("enabled"),
            next=tuple(value.get("next") or ()),
            broken=value.get("broken"),
            raw=value,
        )


@dataclass(frozen=True, slots=True)
class DeadLetterInfo:
    """Work that was given up, with its reason. `task` and `event` are None for what never became one."""

    id: str
    service: str
    task: str | None
    event: EventIdentity | None
    reason: str
    kind: str
    attempts: int
    at: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        event = value.get("event")
        return cls(
            id=value["id"],
            service=value["service"],
            task=value.get("task"),
            event=EventIdentity.of(event) if event else None,
            reason=value["reason"],
            kind=value["kind"],
            attempts=value["attempts"],
            at=value["at"],
            raw=value,
        )
