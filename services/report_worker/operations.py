"""What the mesh did in a period, from its events and tasks. Pure; who reads them is `operations_source.py`."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

STATES = (
    *("succeeded", "failed", "cancelled", "expired", "skipped", "folded"),
    *("retrying", "waiting", "started", "queued", "pending", "held"),
)
ENDED = frozenset(("succeeded", "failed", "cancelled", "expired", "skipped", "folded"))
REASON_LENGTH = 160
UNKNOWN_REASON = "no reason was recorded"

Period = tuple[datetime, datetime]  # first moment, first moment after; aware


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One task as the ledger has it. Times are aware; None where it did not come that far."""

    service: str
    name: str
    state: str
    attempts: int
    queued: datetime | None
    started: datetime | None = None
    ended: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EventSeen:
    """One event as its stream has it."""

    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Latency:
    """How long things took, in seconds: nearest-rank percentiles of `count` measured ones."""

    count: int
    p50: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """One service's tasks of the period. `ran` is start to end of the last attempt, `whole` queued to end."""

    service: str
    states: dict[str, int]
    retried: int
    waited: Latency | None
    ran: Latency | None
    whole: Latency | None

    @property
    def tasks(self) -> int:
        """All of them."""
        return sum(self.states.values())

    @property
    def ended(self) -> int:
        """Those to which nothing more will happen."""
        return sum(count for state, count in self.states.items() if state in ENDED)


@dataclass(frozen=True, slots=True)
class FailureSeen:
    """One reason for which tasks of one kind were given up."""

    service: str
    name: str
    reason: str
    count: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Operations:
    """The period in numbers. `timeline` is (label, events, tasks ended, tasks failed) per hour or day."""

    period: Period
    events: int
    event_types: list[tuple[str, int]]
    services: list[ServiceSeen]
    failures: list[FailureSeen]
    whole: Latency | None
    step: str
    timeline: list[tuple[str, int, int, int]] = field(default_factory=list)

    def total(self, state: str) -> int:
        """Tasks of all services in one state."""
        return sum(service.states.get(state, 0) for service in self.services)

    @property
    def tasks(self) -> int:
        """Tasks of all services."""
        return sum(service.tasks for service in self.services)


def summarise_operations(
    tasks: Iterable[TaskSeen], events: Iterable[EventSeen], period: Period, *, timezone: str = "UTC"
) -> Operations:
    """Count what happened within the period, in one pass over each.

    A task belongs to the period in which it ended, or, while it has not, in which it was queued; an event to
    that in which it was published. What is outside is left out, so a reader may hand over more than asked for.
    """
    start, end = period
    step = "hour" if end - start <= timedelta(hours=49) else "day"
    zone = ZoneInfo(timezone)
    types: Counter[str] = Counter()
    slots: dict[str, list[int]] = {label: [0, 0, 0] for label in _slots(start, end, step, zone)}
    for event in events:
        if start <= event.at < end:
            types[event.type] += 1
            slots[_slot(event.at, step, zone)][0] += 1
    states: dict[str, Counter[str]] = defaultdict(Counter)
    retried: Counter[str] = Counter()
    waited: dict[str, list[float]] = defaultdict(list)
    ran: dict[str, list[float]] = defaultdict(list)
    whole: dict[str, list[float]] = defaultdict(list)
    failures: dict[tuple[str, str, str], tuple[int, datetime]] = {}
    for task in tasks:
        at = task.ended or task.queued
        if at is None or not start <= at < end:
            continue
        states[task.service][task.state] += 1
        retried[task.service] += task.attempts > 1
        if task.queued and task.started and task.attempts <= 1:
            waited[task.service].append(_seconds(task.queued, task.started))
        if task.ended:
            slots[_slot(at, step, zone)][1] += 1
            if task.started:
                ran[task.service].append(_seconds(task.started, task.ended))
            if task.queued:
                whole[task.service].append(_seconds(task.queued, task.ended))
        if task.state == "failed":
            slots[_slot(at, step, zone)][2] += 1
            key = task.service, task.name, _first_line(task.reason)
            count, last = failures.get(key, (0, at))
            failures[key] = count + 1, max(last, at)
    return Operations(
        period=period,
        events=types.total(),
        event_types=sorted(types.items(), key=lambda item: (-item[1], item[0])),
        services=[
            ServiceSeen(
                service,
                dict(states[service]),
                retried[service],
                latency(waited[service]),
                latency(ran[service]),
                latency(whole[service]),
            )
            for service in sorted(states)
        ],
        failures=[
            FailureSeen(*key, count, last)
            for key, (count, last) in sorted(failures.items(), key=lambda item: (-item[1][0], item[0]))
        ],
        whole=latency([value for values in whole.values() for value in values]),
        step=step,
        timeline=[(label, *counts) for label, counts in slots.items()],  # type: ignore[misc]
    )


def latency(values: Sequence[float]) -> Latency | None:
    """Nearest-rank percentiles; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p95, p99 = (ordered[math.ceil(len(ordered) * part) - 1] for part in (0.50, 0.95, 0.99))
    return Latency(len(ordered), p50, p95, p99, ordered[-1])


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)  # two machines' clocks may differ


def _first_line(reason: str) -> str:
    line = reason.strip().partition("\n")[0].strip()
    return (line if len(line) <= REASON_LENGTH else line[: REASON_LENGTH - 1] + "…") or UNKNOWN_REASON


def _slot(at: datetime, step: str, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local:%Y-%m-%d %H}:00{local:%z}" if step == "hour" else f"{local:%Y-%m-%d}"


def _slots(start: datetime, end: datetime, step: str, zone: ZoneInfo) -> list[str]:
    stride = timedelta(hours=1) if step == "hour" else timedelta(hours=12)  # a day may have 23 hours
    labels: dict[str, None] = {}
    at = start.astimezone(UTC)
    while at < end:
        labels[_slot(at, step, zone)] = None
        at += stride
    labels[_slot(end - timedelta(microseconds=1), step, zone)] = None
    return list(labels)
