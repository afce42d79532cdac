"""What a dead letter says, and which ones somebody means. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.keys import PRIORITIES, PRIORITY

LAST_MS = 253_402_300_799_999  # the year 9999 ends
LetterPlace = tuple[int, str, str]  # time in ms, id, service: the order of letters
Kind = Literal["task", "entry", "event"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One piece of work that was given up.

    `form` is what a replay puts back: a `task` that ended without success, a queue `entry` that Celery would
    not have survived, or a stream entry that is no `event`.
    """

    id: str
    service: str
    form: Kind
    reason: str
    kind: str  # class of the error
    at_ms: int
    attempts: int = 0
    task: str | None = None  # name of the handler's task, where it is known
    event: dict[str, Any] | None = None  # id, type, source, subject
    detail: str = ""  # traceback, or where it lay
    queue: str = ""
    priority: int = PRIORITY  # of the entry in that queue
    domain: str = ""  # of an event

    @property
    def place(self) -> LetterPlace:
        """Where it stands among all letters."""
        return (self.at_ms, self.id, self.service)

    @property
    def event_type(self) -> str | None:
        """The type of its event, where that is known."""
        return str(self.event["type"]) if self.event else None

    def to_dict(self) -> dict[str, Any]:
        """As people and programs are told it."""
        return {
            "id": self.id,
            "service": self.service,
            "form": self.form,
            "task": self.task,
            "event": self.event,
            "reason": self.reason,
            "kind": self.kind,
            "attempts": self.attempts,
            "at": rfc3339_ms(min(max(self.at_ms, 0), LAST_MS)),
        }


def parse(service: str, letter_id: str, at_ms: int, raw: bytes) -> DeadLetter:
    """A letter as stored. One that cannot be read is still a letter, and says so."""
    try:
        value: dict[str, Any] = orjson.loads(raw)
        event, task = value.get("event"), value.get("task")
        if value["form"] not in ("task", "entry", "event"):
            raise ValueError("it has no form")
        if event is not None and not isinstance(event["type"], str):
            raise ValueError("its event has no type")
        if not isinstance(task, str | None):
            raise ValueError("its task is no text")
        return DeadLetter(
            id=letter_id,
            service=service,
            form=value["form"],
            reason=str(value["reason"]),
            kind=str(value["kind"]),
            at_ms=at_ms,
            attempts=min(int(value["attempts"]), 10**9),
            task=task,
            event=event,
            detail=str(value.get("detail", "")),
            queue=str(value.get("queue", service)),
            priority=priority if (priority := value.get("priority")) in PRIORITIES else PRIORITY,
            domain=str(value.get("domain", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        why = f"the letter cannot be read: {error!r}"
        return DeadLetter(letter_id, service, "entry", why, "Unreadable", at_ms, queue=service)


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which letters are meant; what is not named is not asked. Times are ms since the epoch, both included."""

    service: str | None = None
    task: str | None = None  # glob over the task's name
    type: str | None = None  # glob over the event's type
    kind: str | None = None  # class of the error
    reason: str | None = None  # part of the reason, in small or capital letters
    since_ms: int | None = None
    until_ms: int | None = None
    ids: frozenset[str] = field(default_factory=frozenset)  # these only

    def fits(self, letter: DeadLetter) -> bool:
        """Whether this letter is meant."""
        return (
            (self.service is None or letter.service == self.service)
            and (self.task is None or names.matches(self.task, letter.task or ""))
            and (self.type is None or names.matches(self.type, letter.event_type or ""))
            and (self.kind is None or letter.kind == self.kind)
            and (self.reason is None or self.reason.casefold() in letter.reason.casefold())
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms <= self.until_ms)
            and (not self.ids or letter.id in self.ids)
        )


def place_text(place: LetterPlace) -> str:
    """A place as a cursor."""
    return f"{place[0]}:{place[2]}:{place[1]}"


def parse_place(text: str) -> LetterPlace:
    """A cursor. Raises ValueError for what is none."""
    at, first, rest = text.partition(":")
    service, second, letter = rest.partition(":")
    if not (first and second and at.isascii() and at.isdigit() and letter):
        raise ValueError("is not a cursor of dead letters")
    return (int(at), letter, service)
