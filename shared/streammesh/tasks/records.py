"""Reads what the ledger and the events' rows say, as people and the API are told it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis
import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from streammesh import lua, names, plain_json
from streammesh.clock import rfc3339_ms
from streammesh.errors import InvalidEvent, Malformed
from streammesh.events import envelope
from streammesh.events.envelope import MAX_VALUES, Event
from streammesh.keys import PRIORITY, Keys
from streammesh.names import TaskState
from streammesh.redisio.answers import only, there
from streammesh.redisio.page_size import PageSize
from streammesh.redisio.turns import Turns
from streammesh.tasks.result_limit import VALUES_BESIDE
from streammesh.tasks.task import QueuePlace, TaskRef

LONGEST_NUMBER = 14  # digits; a moment in ms has 13
TASKS_AT_ONCE = 200  # rows in one round trip, fewer where they are large
MOST_RESULTS = 4_194_304  # bytes of results of the tasks that are read together; of the others it is said
LARGEST_PART = 65_536  # bytes of what a row says of a task beside its outcome
SMALL_OUTCOME = 1_024  # bytes; such a one is read all the same: failures and other ends have no large ones
LARGEST_OUTCOME = 8_388_608  # bytes; the mesh writes none that is larger
FIELDS_AT_ONCE = 1_000  # of one row, in one round trip
SMALL_ROW = 1_000  # fields that are read in one go: some hundred deliveries, or as many sources
MOST_SOURCES = 100
_POSITION = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task: its state, attempt, times (RFC 3339), outcome."""

    id: str
    state: TaskState
    attempt: int
    name: str
    service: str
    event: dict[str, Any]
    times: dict[str, str]
    queue: str = ""  # its full name
    priority: int = PRIORITY
    worker: str | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    events: list[dict[str, str]] = field(default_factory=list)  # follow-ups that left with the outcome
    left_out: bool = False  # there is an outcome, and it is too large to be read with the others
    progress: dict[str, Any] | None = None
    next_attempt_at: str | None = None

    entry: str = ""  # the queue entry that stands for it
    workflow: str = ""  # the workflow that it became
    held: str = ""  # where it waits while its subscription is paused
    flow: str = ""  # its subscription's name, its key and its rank in line, where it has limits
    wanted_cancelled: bool = False  # its worker was told to stop it
    durable: dict[bytes, bytes] = field(default_factory=dict)  # what its row holds of steps and waits
    times_ms: dict[str, int] = field(default_factory=dict)  # queued, started, ended, due: ms since the epoch

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in names.ENDED

    @property
    def place(self) -> QueuePlace:
        """Where its queue entry lies, if it has one."""
        return QueuePlace(self.queue or self.service, self.priority, self.entry)

    @property
    def ref(self) -> TaskRef:
        """As the ledger's calls want it. Of the event only what the row remembers: its data is not there."""
        about = self.event
        correlation = about.get("correlation")
        event = Event(
            id=about["id"],
            source=about["source"],
            type=about["type"],
            time="",
            subject=about.get("subject"),
            extensions={"correlationid": correlation} if correlation else {},
        )
        return TaskRef(self.id, self.name, self.service, event)


@dataclass(frozen=True, slots=True)
class EventRow:
    """Where one event is and what became of it."""

    id: str
    source: str
    entry: str  # position in its stream, or `held`
    domain: str
    published_ms: int
    wanted: int | None  # deliveries in all services; None while no lane has seen it
    done: int
    failed: int
    task_ids: list[str] = field(default_factory=list)

    @property
    def completed(self) -> bool:
        """Whether every delivery of it has ended (none at all counts)."""
        return self.wanted is not None and self.done >= self.wanted


def read_task(task_id: str, row: Mapping[bytes, bytes], most: int = LARGEST_OUTCOME) -> TaskRow | None:
    """A ledger row as stored; None where there is none, and where it cannot be read, which is said.

    Of an outcome over `most` bytes the row says that there is one.
    """
    if b"meta" not in row:
        return None
    try:
        return parse_task(task_id, row, most)
    except (Malformed, ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("task.unreadable", task_id=task_id[:64], reason=repr(error)[:200])
        return None


def read_task_sync(client: redis.Redis, keys: Keys, task_id: str) -> TaskRow | None:
    """As `read_task`, on a blocking client. What lies there with another type is set aside."""
    key = keys.task(task_id)
    try:
        return read_task(task_id, client.hgetall(key))
    except ResponseError as error:
        if not lua.is_wrong_type(error):
            raise
        lua.run_sync(client, lua.set_aside_call([key]))
        return None


def parse_task(task_id: str, row: Mapping[bytes, bytes], most: int = LARGEST_OUTCOME) -> TaskRow:
    """A ledger row as stored. Raises what reading broken content raises; `read_task` does not."""
    meta = orjson.loads(bounded(row[b"meta"], LARGEST_PART))
    outcome = row.get(b"outcome", b"{}")
    left_out = len(outcome) > most or plain_json.is_crowded(outcome, MAX_VALUES + VALUES_BESIDE)
    outcome = {} if left_out else plain_json.loads(outcome)
    event, task = {"subject": None, "correlation": meta["event"]["id"], **meta["event"]}, meta["task"]
    _texts(event, "id", "source", "type")
    _texts(task, "name", "service")
    queue, priority = place_of(meta)
    times_ms = {
        name: _number(value)
        for name in ("queued", "started", "ended", "due")
        if (value := row.get(name.encode()))
    }
    until = row.get(b"wait:" + row.get(b"waiting", b""), b"0")[:13]  # `suspend.lua` leaves out what is so
    due = times_ms.get("due") or (int(until) if until.isdigit() else 0)
    times = {f"{name}_at": rfc3339_ms(at) for name, at in times_ms.items() if name != "due"}
    state = TaskState(row[b"state"].decode())
    error = outcome.get("error")
    return TaskRow(
        id=task_id,
        state=state,
        attempt=_number(row.get(b"attempt", b"0")),
        name=task["name"],
        service=task["service"],
        queue=queue,
        priority=priority,
        event=event,
        times=times,
        worker=row[b"worker"].decode("utf-8", "replace") if row.get(b"worker") else None,
        result=outcome.get("result"),
        error=error if isinstance(error, dict) else None,
        events=_follow_ups(outcome.get("events", [])),
        left_out=left_out,
        progress=_progress(row.get(b"progress")),
        next_attempt_at=rfc3339_ms(due) if due else None,
        entry=row.get(b"entry", b"").decode(),
        workflow=row.get(b"workflow", b"").decode(),
        held=row.get(b"held", b"").decode(),
        flow=row.get(b"flow", b"").decode("utf-8", "replace"),
        wanted_cancelled=b"cancel" in row,
        durable={name: value for name, value in row.items() if name.startswith((b"step:", b"wait"))}
        if b"durable" in row
        else {},
        times_ms=times_ms,
    )


def place_of(meta: Mapping[str, Any]) -> tuple[str, int]:
    """The queue and the priority with which a task was handed over, from its row's meta."""
    task = meta["task"]
    queue, priority = task.get("queue"), task.get("priority")
    return (
        names.queue_of(task["service"], queue if isinstance(queue, str) else None),
        priority if isinstance(priority, int) and 0 <= priority <= 9 else PRIORITY,
    )


def _texts(value: Mapping[str, Any], *needed: str) -> None:
    for name in needed:
        if not isinstance(value[name], str):
            raise Malformed(f"{name} is no text")


def _number(raw: bytes) -> int:
    """A number that a script wrote: a moment in ms at most."""
    if not raw.isdigit() or len(raw) > LONGEST_NUMBER:
        raise Malformed(f"{raw[:20]!r} is no number of the ledger")
    return int(raw)


def _follow_ups(value: Any) -> list[dict[str, str]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _progress(raw: bytes | None) -> dict[str, Any] | None:
    try:
        value = orjson.loads(bounded(raw or b"null", LARGEST_PART))
    except (ValueError, Malformed):
        return None
    return value if isinstance(value, dict) else None


def bounded(raw: bytes, most: int) -> bytes:
    """What is to be parsed. Raises Malformed where it is larger than anything that the mesh writes there."""
    if len(raw) > most:
        raise Malformed(f"it has {len(raw):,} bytes, where at most {most:,} are written")
    return raw


def parse_event(event_id: str, row: Mapping[bytes, bytes]) -> list[EventRow]:
    """The rows of every source that used this id, as stored; what cannot be read is left out, and said."""
    tasks: dict[bytes, list[str]] = {}
    sources = []
    for name, value in row.items():
        if name.startswith(b"task:"):
            tasks.setdefault(value, []).append(name[5:].decode("utf-8", "replace"))
        elif name.startswith(b"at:"):
            sources.append(name[3:])
    found = []
    for source in sources:
        facts = [row.get(part + source) for part in (b"at:", b"want:", b"done:", b"failed:")]
        one = _event_row(event_id, source, facts, tasks.get(source, []))
        if one is not None:
            found.append(one)
    return found


def _event_row(
    event_id: str, source: bytes, facts: Sequence[bytes | None], task_ids: list[str]
) -> EventRow | None:
    at, want, done, failed = facts
    if at is None:
        return None
    try:
        entry, published, _, domain = at.decode().split(" ", 3)
        if entry != "held" and not _POSITION.fullmatch(entry):
            raise Malformed("it names no place in a stream")
        return EventRow(
            id=event_id,
            source=source.decode(),
            entry=entry,
            domain=domain,
            published_ms=_number(published.encode()),
            wanted=None if want is None else _number(want),
            done=_number(done or b"0"),
            failed=_number(failed or b"0"),
            task_ids=task_ids,
        )
    except (Malformed, ValueError) as error:
        log.error("event.unreadable", event_id=event_id[:100], reason=repr(error)[:200])
        return None


class Rows:
    """Reads rows of one mesh. What is broken, or has another type than it should, counts as not there, and is said."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    async def task(self, task_id: str) -> TaskRow | None:
        """One task, None when it is not known (any more)."""
        return (await self._tasks([task_id]))[0][0]

    async def tasks(self, task_ids: Sequence[str]) -> list[TaskRow]:
        """Several tasks; those not known any more are left out, and results beyond `MOST_RESULTS` bytes of all."""
        found: list[TaskRow] = []
        size, at, room = PageSize(TASKS_AT_ONCE), 0, MOST_RESULTS
        while at < len(task_ids):
            page = await self._tasks(task_ids[at : at + size.count], room)
            at += size.count
            found += [row for row, _ in page if row is not None]
            outcomes = sum(length for _, length in page)
            room = max(0, room - outcomes)
            size.seen(outcomes)
        return found

    async def _tasks(
        self, task_ids: Sequence[str], room: int = LARGEST_OUTCOME
    ) -> list[tuple[TaskRow | None, int]]:
        """Each task, and the size of its outcome, which is read as long as there is room for it."""
        turns = Turns()
        pipeline = self._client.pipeline(transaction=False)
        for task_id in task_ids:
            pipeline.hgetall(self._keys.task(task_id))
        found = []
        for task_id, answer in zip(task_ids, await pipeline.execute(raise_on_error=False), strict=True):
            row = there(answer)
            length = len(row.get(b"outcome", b""))
            found.append((read_task(task_id, row, max(SMALL_OUTCOME, room)), length))
            room -= length
            await turns.give()
        return found

    async def events(self, event_id: str, most: int = MOST_SOURCES) -> list[EventRow]:
        """The events with this id, one per source; of more than `most` sources only so many, and without tasks."""
        key = self._keys.event(event_id)
        pipeline = self._client.pipeline(transaction=False)
        cursor, row = there(await only(pipeline.hscan(key, count=SMALL_ROW)), (0, {}))
        if not cursor:
            return parse_event(event_id, row)
        sources: list[bytes] = []
        async for page in self._scan(key, b"at:*"):
            sources += [name[3:] for name in page]
            if len(sources) > most:
                break
        if len(sources) == 1:
            one = await self.event(event_id, sources[0].decode("utf-8", "surrogateescape"))
            return [one] if one else []
        found = []
        for source in sources[: most + 1]:
            facts = await self._client.hmget(key, *_facts(source))
            row = _event_row(event_id, source, facts, [])
            found += [row] if row else []
        return found

    async def event(self, event_id: str, source: str) -> EventRow | None:
        """The event of one source, however many others used its id."""
        key, wanted = self._keys.event(event_id), source.encode("utf-8", "surrogateescape")
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hmget(key, *_facts(wanted))
        facts = there(await only(pipeline), None)
        if facts is None or facts[0] is None:
            return None
        task_ids = []
        async for page in self._scan(key, b"task:*"):
            task_ids += [
                name[5:].decode("utf-8", "replace") for name, value in page.items() if value == wanted
            ]
        return _event_row(event_id, wanted, facts, task_ids)

    async def standings(self, events: Sequence[tuple[str, str]]) -> list[EventRow | None]:
        """Where several events stand, by (id, source), in one round trip; without their tasks."""
        pipeline = self._client.pipeline(transaction=False)
        names_of = [source.encode("utf-8", "surrogateescape") for _, source in events]
        for (event_id, _), source in zip(events, names_of, strict=True):
            pipeline.hmget(self._keys.event(event_id), _facts(source))
        answers = await pipeline.execute(raise_on_error=False) if events else []
        return [
            _event_row(event_id, source, there(facts, [None] * 4), [])
            for (event_id, _), source, facts in zip(events, names_of, answers, strict=True)
        ]

    async def _scan(self, key: str, pattern: bytes) -> AsyncIterator[dict[bytes, bytes]]:
        """The fields of a row whose names fit, some at a time; a small row comes whole."""
        cursor = 0
        while True:
            cursor, page = await self._client.hscan(key, cursor, match=pattern, count=FIELDS_AT_ONCE)
            yield page
            if not cursor:
                return

    async def envelope(self, row: EventRow) -> Event | None:
        """The event itself, None once it was trimmed."""
        if row.entry == "held":
            held = await self._client.hget(self._keys.due_entries(), f"event:{row.id} {row.source}")
            raw = _held_json(held)
        else:
            pipeline = self._client.pipeline(transaction=False)
            pipeline.xrange(self._keys.events(row.domain), row.entry, row.entry)
            found = there(await only(pipeline), ())
            raw = found[0][1].get(b"e") if found and found[0][1] else None
        try:
            return envelope.from_json(raw) if raw else None
        except InvalidEvent:
            return None


def _facts(source: bytes) -> list[bytes]:
    return [part + source for part in (b"at:", b"want:", b"done:", b"failed:")]


def _held_json(held: bytes | None) -> bytes | None:
    try:
        return orjson.loads(held)["json"].encode() if held else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
