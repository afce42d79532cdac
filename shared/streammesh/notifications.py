"""What clients are told: how a notification is written and read; `notification_log.py` follows the stream of them.

A notification is an entry of one capped stream; its position is its id, from which a reader that was away goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from streammesh import names, plain_json
from streammesh.cel.expression import TooLong, expression
from streammesh.clock import rfc3339_ms
from streammesh.errors import Malformed
from streammesh.events.envelope import MAX_VALUES

TASK_TYPES = {
    names.TaskState.PENDING: "task.pending",
    names.TaskState.QUEUED: "task.queued",
    names.TaskState.STARTED: "task.started",
    names.TaskState.RETRYING: "task.retrying",
    names.TaskState.WAITING: "task.waiting",
    names.TaskState.HELD: "task.held",
    names.TaskState.SUCCEEDED: "task.succeeded",
    names.TaskState.FAILED: "task.failed",
    names.TaskState.CANCELLED: "task.cancelled",
    names.TaskState.EXPIRED: "task.expired",
    names.TaskState.SKIPPED: "task.skipped",
    names.TaskState.FOLDED: "task.folded",
}
COMPLETED = "event.completed"
UNROUTED = "event.unrouted"
LAST_OF_EVENT = frozenset((COMPLETED, UNROUTED))
LAST_POSITION = 2**64 - 2  # of either number; Redis can read after these, and after no greater ones
LAST_MS = 253_402_300_799_999  # the year 9999 ends; a position may lie beyond, put there by hand
LARGEST_BODY = 8_650_752  # bytes: a result of 4 MiB, and 1,000 follow-up events named beside it
MOST_VALUES = MAX_VALUES + 20_000
NOTE_NAMES = frozenset(("id", "type", "time", "event", "task", "data"))
_TEXTS = (b"t", b"e", b"k", b"v", b"y", b"u")
_TYPE = re.compile(r"[a-z0-9._-]{1,128}")
POSITION = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")


def fragment(about: Mapping[str, Any]) -> str:
    """`"event":{…}` of a notification's body, from what a record says of an event."""
    value = {name: about.get(name) for name in ("id", "type", "source", "subject")}
    return f'"event":{orjson.dumps(value).decode()}'


def task_fragment(task_id: str, name: str, service: str, attempt: int) -> str:
    """`,"task":{…},"data":{}` of a task that just got a new state and has nothing to add."""
    head, tail = task_fragments(task_id, name, service)
    return f"{head}{attempt}{tail}"


def task_fragments(task_id: str, name: str, service: str) -> tuple[str, str]:
    """The same in two halves, between which a script puts the attempt that it counted itself."""
    value = orjson.dumps({"id": task_id, "name": name, "service": service}).decode()
    return f',"task":{value[:-1]},"attempt":', '},"data":{}'


def task_rest(name: str, service: str) -> str:
    """What stands in `"task":{"id":…` between the id and the attempt: the same for all tasks of a subscription."""
    value = orjson.dumps({"name": name, "service": service}).decode()
    return f',{value[1:-1]},"attempt":'


def body(event: str, task_id: str, name: str, service: str, attempt: int, data: Mapping[str, Any]) -> str:
    """A whole body from an event fragment, a task and what there is to say."""
    task = orjson.dumps({"id": task_id, "name": name, "service": service, "attempt": attempt}).decode()
    return f'{event},"task":{task},"data":{plain_json.dumps(data).decode()}'


def event_body(event: str, data: Mapping[str, Any]) -> str:
    """The body of a notification about an event and none of its tasks."""
    return f'{event},"data":{plain_json.dumps(data).decode()}'


def whole(position: str, kind: str, time: str, members: bytes) -> bytes:
    """A notification as clients get it; `members` is its body."""
    head = position.encode(), kind.encode(), time.encode()
    return b'{"id":"%b","type":"%b","time":"%b",%b}' % (*head, members)


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing a client is told, with what filters need; `body` is JSON members, spliced as they are."""

    id: str
    type: str
    event: str
    task: str
    service: str
    event_type: str
    subject: str
    body: bytes
    source: str = ""  # of the event that it is about; (`source`, `event`) is that event's identity

    @classmethod
    def from_entry(cls, position: bytes, fields: Mapping[bytes, bytes]) -> Notification:
        """From a stream entry. Raises Malformed for what no script of the mesh wrote."""
        body = fields.get(b"b", b"")
        if len(body) > LARGEST_BODY or plain_json.is_crowded(body, MOST_VALUES):
            raise Malformed(f"it is no notification: it has {len(body):,} bytes")
        try:
            about = orjson.loads(b"{%b}" % body).get("event")
            t, e, k, v, y, u = [fields.get(name, b"").decode() for name in _TEXTS]
        except ValueError as error:
            raise Malformed(f"it is no notification: {error!r}"[:200]) from None
        if (
            not _TYPE.fullmatch(t) or b"\n" in body or b"\r" in body
        ):  # a line's end would end its event in SSE
            raise Malformed("it is no notification: its type or its body is not one line")
        source = str(about.get("source", "")) if isinstance(about, dict) else ""
        return cls(position.decode(), t, e, k, v, y, u, body, source)

    def to_json(self) -> bytes:
        """As clients get it: `{"id", "type", "time", "event", "task", "data"}`."""
        return whole(self.id, self.type, rfc3339_ms(min(int(self.id.partition("-")[0]), LAST_MS)), self.body)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which notifications a client wants: all that is named has to fit, what is not named is not asked.

    Of `types`, which are globs, one has to fit the notification's type or the type of its event.
    """

    event: str | None = None
    task: str | None = None
    types: tuple[str, ...] = ()
    service: str | None = None
    subject: str | None = None
    subject_prefix: str | None = None
    source: str | None = None
    where: str | None = None  # in CEL, over the notification as clients get it

    def fits(self, note: Notification) -> bool:
        """Whether the client wants this one."""
        exact = ("event", "task", "service", "subject", "source")
        return (
            all(getattr(self, name) in (None, getattr(note, name)) for name in exact)
            and note.subject.startswith(self.subject_prefix or "")
            and any(
                names.matches(g, note.type) or names.matches(g, note.event_type) for g in self.types or "*"
            )
            and (self.where is None or holds(self.where, note))
        )


def check_where(where: str) -> None:
    """Raises InvalidExpression for what cannot be asked of every notification."""
    expression(where, NOTE_NAMES)


def holds(where: str, note: Notification) -> bool:
    """Whether an expression is true of a notification. One that fails, or takes too long, is not."""
    try:
        return expression(where, NOTE_NAMES).fits(_members(note).__getitem__)
    except TooLong:
        return False


@lru_cache(maxsize=2)  # many ask about one and the same
def _members(note: Notification) -> dict[str, Any]:
    return dict(orjson.loads(note.to_json()))


def position_key(position: str) -> tuple[int, int]:
    """Positions compare as pairs of numbers. Raises ValueError for what is not a position."""
    found = POSITION.fullmatch(position)
    key = (int(found[1]), int(found[2] or 0)) if found else None
    if key is None or max(key) > LAST_POSITION:
        raise ValueError("a position looks like 1763790000000-0")
    return key
