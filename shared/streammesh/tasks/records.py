"""Reads what the ledger and the events' rows say, as people and the API are told it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis.asyncio

from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.errors import InvalidEvent
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.keys import PRIORITY, Keys
from streammesh.subscriptions.manifest import Manifest, fits
from streammesh.tasks.ledger import QueuePlace, TaskRef


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task: its state, attempt, times (RFC 3339), outcome."""

    id: str
    state: str
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
    progress: dict[str, Any] | None = None
    next_attempt_at: str | None = None

    entry: str = ""  # the queue entry that stands for it
    workflow: str = ""  # the workflow that it became
    held: str = ""  # where it waits while its subscription is paused
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


def parse_task(task_id: str, row: dict[bytes, bytes]) -> TaskRow:
    """A ledger row as stored."""
    meta = orjson.loads(row[b"meta"])
    outcome = orjson.loads(row[b"outcome"]) if b"outcome" in row else {}
    queue, priority = place_of(meta)
    times_ms = {
        name: int(value)
        for name in ("queued", "started", "ended", "due")
        if (value := row.get(name.encode()))
    }
    times = {f"{name}_at": rfc3339_ms(at) for name, at in times_ms.items() if name != "due"}
    state = row[b"state"].decode()
    return TaskRow(
        id=task_id,
        state=state,
        attempt=int(row.get(b"attempt", b"0")),
        name=meta["task"]["name"],
        service=meta["task"]["service"],
        queue=queue,
        priority=priority,
        event=meta["event"],
        times=times,
        worker=row[b"worker"].decode() if row.get(b"worker") else None,
        result=outcome.get("result"),
        error=outcome.get("error"),
        events=outcome.get("events", []),
        progress=orjson.loads(row[b"progress"]) if b"progress" in row else None,
        next_attempt_at=rfc3339_ms(times_ms["due"]) if "due" in times_ms else None,
        entry=row.get(b"entry", b"").decode(),
        workflow=row.get(b"workflow", b"").decode(),
        held=row.get(b"held", b"").decode(),
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


def parse_event(event_id: str, row: dict[bytes, bytes]) -> list[EventRow]:
    """The rows of every source that used this id, as stored."""
    fields = {name.decode(): value.decode() for name, value in row.items()}
    found = []
    for name, value in fields.items():
        if not name.startswith("at:"):
            continue
        source = name[3:]
        entry, published, _, domain = value.split(" ", 3)
        want = fields.get(f"want:{source}")
        found.append(
            EventRow(
                id=event_id,
                source=source,
                entry=entry,
                domain=domain,
                published_ms=int(published),
                wanted=None if want is None else int(want),
                done=int(fields.get(f"done:{source}", 0)),
                failed=int(fields.get(f"failed:{source}", 0)),
                task_ids=[n[5:] for n, v in fields.items() if n.startswith("task:") and v == source],
            )
        )
    return found


class Rows:
    """Reads rows of one mesh."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    async def task(self, task_id: str) -> TaskRow | None:
        """One task, None when it is not known (any more)."""
        row = await self._client.hgetall(self._keys.task(task_id))
        return parse_task(task_id, row) if b"meta" in row else None

    async def tasks(self, task_ids: list[str]) -> list[TaskRow]:
        """Several tasks in one round trip; those not known any more are left out."""
        pipeline = self._client.pipeline(transaction=False)
        for task_id in task_ids:
            pipeline.hgetall(self._keys.task(task_id))
        rows = await pipeline.execute()
        return [parse_task(i, row) for i, row in zip(task_ids, rows, strict=True) if b"meta" in row]

    async def events(self, event_id: str) -> list[EventRow]:
        """The events with this id, one per source."""
        return parse_event(event_id, await self._client.hgetall(self._keys.event(event_id)))

    async def envelope(self, row: EventRow) -> Event | None:
        """The event itself, None once it was trimmed."""
        if row.entry == "held":
            held = await self._client.hget(self._keys.due_entries(), f"event:{row.id} {row.source}")
            raw = orjson.loads(held)["json"].encode() if held else None
        else:
            found = await self._client.xrange(self._keys.events(row.domain), row.entry, row.entry)
            raw = found[0][1].get(b"e") if found and found[0][1] else None
        try:
            return envelope.from_json(raw) if raw else None
        except InvalidEvent:
            return None

    async def manifests(self) -> list[Manifest]:
        """Every service's manifest."""
        stored = await self._client.hgetall(self._keys.manifests())
        return [Manifest.from_json(raw) for raw in stored.values()]


def why_not(event: Event, manifests: list[Manifest]) -> list[dict[str, str]]:
    """For every subscription that an event did not reach: why. Pure."""
    reasons = []
    for manifest in manifests:
        for subscription in manifest.subscriptions:
            if not names.matches(subscription.type, event.type):
                continue
            if not fits(event, subscription.where):
                reasons.append(
                    {"subscription": subscription.task, "reason": "its `where` filter does not fit"}
                )
    return reasons
