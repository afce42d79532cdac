"""Schedules in Redis: the callers of the schedule scripts, each one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from streammesh import lua
from streammesh.events.envelope import Event
from streammesh.events.publisher import ms
from streammesh.keys import Keys
from streammesh.lua.events import (
    MovedSchedule,
    ReadDueSchedulesScript,
    ReadSchedulesScript,
    ScheduleChange,
    StoreSchedulesScript,
    TickScript,
)
from streammesh.schedules import Change, Stored, TickPlan
from streammesh.settings import MeshSettings
from streammesh.shards import stored_or_sent

BEAT = "beat"  # the role under which Beats say that they are alive
SHARES_MS = (
    10_000  # a Beat looks every five seconds; what one that is gone would do is done by others after this
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule that is due: its name, the due time it stands at in ms, and its entry as stored."""

    name: str
    stands_at: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class DueSchedules:
    """What a Beat is told: the server's time, the schedules that are due, and when it should ask again.

    `next_ms` is None when no other schedule stands anywhere, and not after `now_ms` when more are due
    than were answered.
    """

    now_ms: int
    next_ms: int | None
    due: tuple[Standing, ...]
    unreadable: tuple[bytes, ...] = ()  # due too, and of no name or no time that a schedule has


def read_due_call(keys: Keys, beat: str, limit: int) -> lua.Call[DueSchedules]:
    """`read_due_schedules.lua`: what is due by the server's clock; says that the Beat called `beat` is alive.

    Of several Beats each is told of others as long as there are so many; any of them may do all.
    """

    def parse(answer: list[bytes]) -> DueSchedules:
        due, unreadable = [], []
        for i in range(2, len(answer), 3):
            at = _position(answer[i + 1])
            try:
                name = answer[i].decode()
            except UnicodeDecodeError:
                at = None
            if at is None:
                unreadable.append(answer[i])
            else:
                due.append(Standing(name, at, answer[i + 2]))
        return DueSchedules(int(answer[0]), _position(answer[1]), tuple(due), tuple(unreadable))

    return ReadDueSchedulesScript(
        schedules=keys.schedules(),
        schedules_due=keys.schedules_due(),
        alive=keys.alive(BEAT),
        beat=beat,
        limit=limit,
        fresh=SHARES_MS,
    ).call(parse)


def _position(score: bytes) -> int | None:
    """Where a schedule stands; None for nowhere, and for a score that is no moment."""
    at = float(score) if score else inf
    return int(at) if 0 <= at < 2**53 else None


@dataclass(frozen=True, slots=True)
class DueTicks:
    """A schedule that is due, what to do with it, and the events of its ticks."""

    standing: Standing
    plan: TickPlan
    events: tuple[Event, ...]


def tick_call(keys: Keys, settings: MeshSettings, due: Sequence[DueTicks]) -> lua.Call[list[list[str]]]:
    """`tick.lua`: publish the plans' ticks and move their schedules, each if it still stands where it was read.

    A tick whose `partitionkey` belongs to another shard goes into the outbox for it in the same step. Answers for each schedule per tick `stored`, `known`, or `conflict` when another event has its identity; `moved`
    alone when another Beat or a change came first. May be repeated after a lost reply.
    """
    return TickScript(
        schedules=keys.schedules(),
        schedules_due=keys.schedules_due(),
        domains=keys.domains(),
        due=keys.due(),
        due_entries=keys.due_entries(),
        counters=keys.counters(),
        retention=ms(settings.remembered),
        changed=keys.manifests_changed(),
        moves=[
            MovedSchedule(
                schedule=one.standing.name,
                read=one.standing.raw,
                stood_at=one.standing.stands_at,
                next_at=one.plan.next_ms,
                ticks=[stored_or_sent(keys, settings, event) for event in one.events],
            )
            for one in due
        ],
    ).call(lambda answer: [[word.decode() for word in said] for said in answer])


def read_call(keys: Keys, only: Sequence[str | bytes] = ()) -> lua.Call[tuple[int, dict[str, Stored]]]:
    """`read_schedules.lua`: the server's time in ms, and every schedule by name, or those that are named."""

    def parse(answer: list[bytes]) -> tuple[int, dict[str, Stored]]:
        return int(answer[0]), {
            answer[i].decode("utf-8", "replace"): Stored(answer[i + 1], _position(answer[i + 2]))
            for i in range(1, len(answer), 3)
        }

    return ReadSchedulesScript(
        schedules=keys.schedules(), schedules_due=keys.schedules_due(), only=list(only)
    ).call(parse)


def store_call(keys: Keys, changes: Sequence[Change]) -> lua.Call[list[bool]]:
    """`store_schedules.lua`: make changes; answers for each whether it was made, which it is not when the
    schedule had changed since it was read."""
    made = [
        ScheduleChange(
            name=change.name, expected=change.expected, entry=change.entry, position=change.position
        )
        for change in changes
    ]
    return StoreSchedulesScript(
        schedules=keys.schedules(), schedules_due=keys.schedules_due(), changes=made
    ).call(lambda answer: [bool(done) for done in answer])
