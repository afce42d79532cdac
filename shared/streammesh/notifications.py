"""What clients are told: how a notification is written, and how the stream of them is followed.

A notification is an entry of one capped stream, so a reader that was away continues where it was. The
entry's position is the notification's id. Readers wait in XREAD BLOCK, which Redis answers as soon as
there is an entry: a doorbell over pub/sub would cost a command more and could be missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from streammesh import names, plain_json
from streammesh.clock import rfc3339_ms
from streammesh.errors import Malformed
from streammesh.keys import Keys
from streammesh.redisio.turns import Turns

TASK_TYPES = {
    names.TaskState.QUEUED: "task.queued",
    names.TaskState.STARTED: "task.started",
    names.TaskState.RETRYING: "task.retrying",
    names.TaskState.HELD: "task.held",
    names.TaskState.SUCCEEDED: "task.succeeded",
    names.TaskState.FAILED: "task.failed",
    names.TaskState.CANCELLED: "task.cancelled",
    names.TaskState.EXPIRED: "task.expired",
}
COMPLETED = "event.completed"
UNROUTED = "event.unrouted"
LAST_OF_EVENT = frozenset((COMPLETED, UNROUTED))
log = structlog.get_logger(__name__)
REMEMBERED_BYTES = 8192  # of positions in an event's row; see `_notify.lua`
LAST_POSITION = 2**64 - 2  # of either number; Redis can read after these, and after no greater ones
LAST_MS = 253_402_300_799_999  # the year 9999 ends; a position may lie beyond, put there by hand
_TEXTS = (b"t", b"e", b"k", b"v", b"y", b"u")
_TYPE = re.compile(r"[a-z0-9._-]{1,128}")
_POSITION = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")


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
        """From a stream entry. Raises Malformed for what no script of the mesh wrote."""
        body = fields.get(b"b", b"")
        try:
            orjson.loads(b"{%b}" % body)
            t, e, k, v, y, u = [fields.get(name, b"").decode() for name in _TEXTS]
        except ValueError as error:
            raise Malformed(f"it is no notification: {error!r}"[:200]) from None
        if (
            not _TYPE.fullmatch(t) or b"\n" in body or b"\r" in body
        ):  # a line's end would end its event in SSE
            raise Malformed("it is no notification: its type or its body is not one line")
        return cls(position.decode(), t, e, k, v, y, u, body)

    @property
    def source(self) -> str:
        """The source of the event that it is about; (`source`, `event`) is that event's identity."""
        event = orjson.loads(b"{%b}" % self.body).get("event")
        return str(event.get("source", "")) if isinstance(event, dict) else ""

    def to_json(self) -> bytes:
        """As clients get it: `{"id", "type", "time", "event", "task", "data"}`."""
        time = rfc3339_ms(min(int(self.id.partition("-")[0]), LAST_MS))
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
    found = _POSITION.fullmatch(position)
    key = (int(found[1]), int(found[2] or 0)) if found else None
    if key is None or max(key) > LAST_POSITION:
        raise ValueError("a position looks like 1763790000000-0")
    return key


@dataclass(frozen=True, slots=True)
class NotificationPage:
    """Some notifications in order, and whether none is missing: between the position asked for and them, or,
    where the history of one event was asked for, from its beginning."""

    notes: list[Notification]
    whole: bool
    last: str = "0-0"  # the newest position of the stream
    reached: str | None = None  # the last position that was looked at, readable or not


class NotificationLog:
    """Reads the stream of notifications."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    async def last(self) -> str:
        """The newest position, `0-0` when there is none."""
        newest = await self._client.xrevrange(self._keys.notifications(), count=1)
        return newest[0][0].decode() if newest else "0-0"

    async def read(self, after: str, count: int = 500) -> NotificationPage:
        """The next `count` notifications after a position, and whether something was trimmed of them. One round trip."""
        key = self._keys.notifications()
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xrange(key, min=f"({after}", count=count)
        pipeline.xrange(key, count=1)  # read after the page, so what was trimmed meanwhile is noticed
        pipeline.xinfo_stream(key)
        entries, oldest, info = await pipeline.execute(raise_on_error=False)
        for answer in (entries, oldest):
            if isinstance(answer, Exception):
                raise answer
        if isinstance(info, ResponseError):  # no such key: nothing was ever said, or all of it is lost
            return NotificationPage([], position_key(after) == (0, 0))
        stream = {name.decode() if isinstance(name, bytes) else name: value for name, value in info.items()}
        last = _text(stream["last-generated-id"])
        complete = (
            bool(oldest and position_key(after) >= position_key(_text(oldest[0][0])))
            or int(stream.get("entries-added", -1)) == int(stream["length"])
            or position_key(after) == position_key(last)
        )
        reached = entries[-1][0].decode() if entries else None
        return NotificationPage(
            await readable(entries), complete and position_key(after) <= position_key(last), last, reached
        )

    async def of_event(self, event_id: str, source: str) -> list[Notification]:
        """All that is still known of one event, oldest first: two round trips, however long the stream."""
        return (await self.history(event_id, source)).notes

    async def history(self, event_id: str, source: str, after: str = "0-0") -> NotificationPage:
        """As `of_event`, from a position on, and says whether none of it was trimmed.

        The event's row remembers the first few hundred positions; what an event with more was told after
        them is looked for in the stream.
        """
        remembered = await self._client.hget(self._keys.event(event_id), f"notes:{source}")
        if not remembered:
            return NotificationPage([], True)
        begin = position_key(after)
        all_positions = [p for p in remembered.decode("utf-8", "replace").split() if _POSITION.fullmatch(p)]
        positions = [position for position in all_positions if position_key(position) > begin]
        pipeline = self._client.pipeline(transaction=False)
        for position in positions:
            pipeline.xrange(self._keys.notifications(), min=position, max=position)
        found = [entries[0] for entries in await pipeline.execute() if entries]
        notes = await readable(found)
        whole, after = len(found) == len(positions), max([after, *all_positions[-1:]], key=position_key)
        while len(remembered) >= REMEMBERED_BYTES:
            page = await self.read(after)
            whole = whole and page.whole
            notes += [note for note in page.notes if note.event == event_id and note.source == source]
            if page.reached is None:
                break
            after = page.reached
        return NotificationPage(notes, whole, after)


async def readable(entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Notification]:
    """The notifications in entries of the stream; what is none is stepped over, and said."""
    notes, turns = [], Turns()
    for position, fields in entries:
        await turns.give()
        try:
            notes.append(Notification.from_entry(position, fields))
        except Malformed as error:
            log.error("notification.broken", position=position.decode(), reason=str(error))
    return notes


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
