"""What the history keeps of an event, a task and a dead letter: rows in the order of their columns. Pure."""

from __future__ import annotations

from typing import NamedTuple

from streammesh.history.schema import DAY_MS

NOT_KEPT = "\x00"  # PostgreSQL keeps no such character in a text
SHOWN = "\ufffd"


class EventRecord(NamedTuple):
    """One event and what became of it; `ended` None while something of it goes on."""

    day: int
    id: str
    source: str
    at: int
    seq: int
    domain: str
    type: str
    subject: str | None
    correlation: str | None
    state: str
    wanted: int | None
    done: int
    failed: int
    ended: int | None
    envelope: str


class TaskRecord(NamedTuple):
    """One ended task; `at`-`seq` is its place among the ended."""

    day: int
    id: str
    event_id: str
    event_source: str
    event_type: str
    event_subject: str | None
    correlation: str | None
    name: str
    service: str
    queue: str
    priority: int
    state: str
    attempt: int
    at: int
    seq: int
    queued: int | None
    started: int | None
    ended: int | None
    worker: str | None
    outcome: str


class LetterRecord(NamedTuple):
    """One dead letter, as it was parked."""

    day: int
    service: str
    id: str
    at: int
    letter: str


class EventEnd(NamedTuple):
    """What became of an event whose row is in the history already."""

    day: int
    id: str
    source: str
    state: str
    wanted: int | None
    done: int
    failed: int
    ended: int | None


def day_of(ms: int) -> int:
    """The day of a moment, counted from the epoch."""
    return ms // DAY_MS


def place_of(position: str) -> tuple[int, int]:
    """Both numbers of a place in a stream. Raises ValueError, also for what no column holds."""
    at, _, seq = position.partition("-")
    return moment(at), number(seq, 2**63)


def number(text: str | bytes, end: int = 2**31) -> int:
    """A number from 0 on that is less than `end`: what a column holds. Raises ValueError."""
    found = int(text)
    if not 0 <= found < end:
        raise ValueError(f"it is not from 0 to {end}")
    return found


def moment(text: str | bytes) -> int:
    """A time in ms. Raises ValueError."""
    return number(text, 10**14)


def kept_text(text: str) -> str:
    """A text as it can be stored."""
    return text.replace(NOT_KEPT, SHOWN) if NOT_KEPT in text else text


def state_of(wanted: int | None, done: int, failed: int) -> str:
    """Where an event stands: waiting, running, completed, failed or unrouted."""
    if wanted is None:
        return "waiting"
    if wanted == 0:
        return "unrouted"
    if done < wanted:
        return "running"
    return "failed" if failed else "completed"
