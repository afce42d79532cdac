"""What clients are told: how a notification is written, and how the stream of them is followed.

A notification is an entry of one capped stream; pub/sub is only the doorbell, so a reader that was
away continues where it was. The entry's position is the notification's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import redis.asyncio

from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.envelope import Event
from streammesh.keys import Keys

TASK_TYPES = {
    names.QUEUED: "task.queued",
    names.STARTED: "task.started",
    names.RETRYING: "task.retrying",
    names.SUCCEEDED: "task.succeeded",
    names.FAILED: "task.failed",
    names.CANCELLED: "task.cancelled",
    names.EXPIRED: "task.expired",
}
COMPLETED = "event.completed"
UNROUTED = "event.unrouted"
LAST_OF_EVENT = frozenset((COMPLETED, UNROUTED))


def event_fragment(event: Event) -> str:
    """`"event":{…}` of a notification's body."""
    value = {"id": event.id, "type": event.type, "source": event.source, "subject": event.subject}
    return f'"event":{orjson.dumps(value).decode()}'


def task_fragment(task_id: str, name: str, service: str, attempt: int) -> str:
    """`,"task":{…},"data":{}` of a task that just got a new state and has nothing to add."""
    head, tail = task_fragments(task_id, name, service)
    return f"{head}{attempt}{tail}"


def task_fragments(task_id: str, name: str, service: str) -> tuple[str, str]:
    """The same in two halves, between which a script puts the attempt that it counted itself."""
    value = orjson.dumps({"id": task_id, "name": name, "service": service}).decode()
    return f',"task":{value[:-1]},"attempt":', '},"data":{}'


def body(event: str, task_id: str, name: str, service: str, attempt: int, data: Mapping[str, Any]) -> str:
    """A whole body from an event fragment, a task and what there is to say."""
    task = orjson.dumps({"id": task_id, "name": name, "service": service, "attempt": attempt}).decode()
    return f'{event},"task":{task},"data":{orjson.dumps(data, default=str).decode()}'


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

    @classmethod
    def from_entry(cls, position: bytes, fields: Mapping[bytes, bytes]) -> Notification:
        """From a stream entry."""

        def text(name: bytes) -> str:
            return fields.get(name, b"").decode()

        return cls(
            position.decode(), text(b"t"), text(b"e"), text(b"k"), text(b"v"), text(b"y"), text(b"u"),
            fields.get(b"b", b""),
        )  # fmt: skip

    def to_json(self) -> bytes:
        """As clients get it: `{"id", "type", "time", "event", "task", "data"}`."""
        time = rfc3339_ms(int(self.id.partition("-")[0]))
        return b'{"id":"%b","type":"%b","time":"%b",%b}' % (
            self.id.encode(),
            self.type.encode(),
            time.encode(),
            self.body,
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """Which notifications a client wants; what is not named is not asked.

    `type` is a glob over the notification's type or the type of the event that it is about.
    """

    event: str | None = None
    task: str | None = None
    type: str | None = None
    service: str | None = None
    subject: str | None = None

    def fits(self, note: Notification) -> bool:
        """Whether the client wants this one."""
        return (
            (self.event is None or note.event == self.event)
            and (self.task is None or note.task == self.task)
            and (self.service is None or note.service == self.service)
            and (self.subject is None or note.subject == self.subject)
            and (
                self.type is None
                or names.matches(self.type, note.type)
                or names.matches(self.type, note.event_type)
            )
        )


def position_key(position: str) -> tuple[int, int]:
    """Positions compare as pairs of numbers. Raises ValueError for what is not a position."""
    head, _, tail = position.partition("-")
    if not (head.isdigit() and (tail or "0").isdigit() and len(position) <= 41):
        raise ValueError("a position looks like 1763790000000-0")
    return int(head), int(tail or 0)


class NotificationLog:
    """Reads the stream of notifications."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    async def last(self) -> str:
        """The newest position, `0-0` when there is none."""
        newest = await self._client.xrevrange(self._keys.notifications(), count=1)
        return newest[0][0].decode() if newest else "0-0"

    async def is_complete_after(self, position: str) -> bool:
        """Whether everything after `position` is still there (what is older may be trimmed)."""
        oldest = await self._client.xrange(self._keys.notifications(), count=1)
        if not oldest:
            return True
        first = position_key(oldest[0][0].decode())
        if position_key(position) >= first:
            return True
        # Nothing was ever trimmed while the first entry is the very first that was added.
        info = await self._client.xinfo_stream(self._keys.notifications())
        added = info.get("entries-added", info.get(b"entries-added"))
        return added is not None and int(added) == int(info.get("length", info.get(b"length")))

    async def page(self, after: str, count: int = 500) -> list[Notification]:
        """The next `count` notifications after a position, oldest first."""
        entries = await self._client.xrange(self._keys.notifications(), min=f"({after}", count=count)
        return [Notification.from_entry(position, fields) for position, fields in entries]

    async def of_event(self, event_id: str, source: str) -> list[Notification]:
        """All that is still known of one event, oldest first: two round trips, however long the stream."""
        notes = await self._client.hget(self._keys.event(event_id), f"notes:{source}")
        if not notes:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for position in notes.split():
            pipeline.xrange(self._keys.notifications(), min=position, max=position)
        found = await pipeline.execute()
        return [Notification.from_entry(*entries[0]) for entries in found if entries]
