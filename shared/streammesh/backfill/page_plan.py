"""What a page of the past becomes for one service, and the caller of `backfill.lua`, which does it.

What if SIGKILL here? Before the script nothing has happened, after it everything has; nothing is pending in between.

Whether a task ran already is told by the event's row, by the ledger, or by the history. They are asked in this order: the
rows of Redis, the history for those events whose rows have left, and in the script once more the rows. Whatever ends and is
archived between two of these questions is seen by one of them, or the script finds a row gone and the page is planned anew.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import redis.asyncio

from streammesh import lua, names
from streammesh.backfill.past import LeftEvent, Past, PastEvent, PastPage
from streammesh.backfill.places import Place
from streammesh.backfill.record import KEPT, Backfill
from streammesh.errors import InvalidEvent
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.events.publisher import most_bytes, ms
from streammesh.keys import Keys
from streammesh.lua.backfills import BackfillDomain, BackfillScript, LeftRow
from streammesh.redisio.answers import there
from streammesh.redisio.turns import Turns
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Delivery, Routes, delivery
from streammesh.tasks.handoff import Encoded, Handover, describe, memory_mark

Encode = Callable[[Delivery, bytes, int], Encoded]
ROOM = 0.5  # of a queue that the past may fill: what comes live has the rest


class PageVerdict(StrEnum):
    """What became of a page."""

    DONE = "done"
    ENDED = "ended"  # the backfill was stopped
    MOVED = "moved"  # another dispatcher has handed the page over
    STALE = "stale"  # the manifests have changed since it was planned
    AGAIN = "again"  # the row of an event left Redis since it was planned
    FULL = "full"  # Redis has no room for more tasks
    BUSY = "busy"  # the queue has none
    EARLY = "early"  # by the rate
    LANE = "lane"  # the service's lane has some of these events in hand


class HandedPage(NamedTuple):
    """What one call did; `wait_ms` where it is too early."""

    verdict: PageVerdict
    tasks: int = 0
    wait_ms: int = 0


class SoughtDeliveries(NamedTuple):
    """SoughtDeliveries deliveries are meant: of one service, by globs over types and names of tasks; `again`: of a replay, those that
    ended in one of these states."""

    service: str
    pattern: str
    task: str = "*"
    again: Sequence[str] = ()


class WantedEvent(NamedTuple):
    """One event of a page that the service wants."""

    place: Place
    event: Event
    raw: bytes
    deliveries: list[Delivery]
    others: int  # deliveries in other services


@dataclass(slots=True)
class PagePlan:
    """What a page becomes. `left`: by the number of their handover, events whose rows have left Redis."""

    ends: Place | None  # None: nothing follows
    seen: int = 0
    known: int = 0
    left_out: int = 0
    handovers: list[Handover] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    left: dict[int, LeftEvent] = field(default_factory=dict)
    old: dict[str, str] = field(default_factory=dict)  # of a replay: states of tasks whose rows have left

    @property
    def tasks(self) -> int:
        """How many it would hand over, as far as is known."""
        return sum(len(handover.deliveries) for handover in self.handovers)


class PagePlanner:
    """Plans pages of one mesh's past."""

    def __init__(
        self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings, encode: Encode
    ) -> None:
        self._client, self._keys, self._encode = client, keys, encode
        self._most_bytes = most_bytes(settings)

    async def plan(
        self, past: Past, page: PastPage, routes: Routes, which: SoughtDeliveries, most_tasks: int
    ) -> PagePlan:
        """What the page becomes, up to about so many tasks. Raises HistoryAway."""
        plan, wanted, tasks, turns = PagePlan(page.after), list[WantedEvent](), 0, Turns()
        for one in page.events:
            if tasks >= most_tasks:
                break
            await turns.give()
            plan.seen, plan.ends = plan.seen + 1, one.place
            event = self._read(one)
            if event is None:
                plan.left_out += 1
            elif names.matches(which.pattern, event.type):
                found = self._wanted(one, event, routes, which)
                wanted += [found] if found.deliveries else []
                tasks += len(found.deliveries)
        else:
            plan.ends = page.after
        await (
            self._find_ended(past, wanted, plan, which.again)
            if which.again
            else self._compare(past, wanted, plan)
        )
        return plan

    def _read(self, one: PastEvent) -> Event | None:
        if one.envelope is None or len(one.envelope) > self._most_bytes:
            return None
        try:
            return envelope.from_json(one.envelope)
        except InvalidEvent:
            return None

    def _wanted(self, one: PastEvent, event: Event, routes: Routes, which: SoughtDeliveries) -> WantedEvent:
        assert one.envelope is not None
        mine = [
            delivery(event, s)
            for s in routes.wanting(event)
            if s.service == which.service and names.matches(which.task, s.task)
        ]
        others = (
            sum(s.service != which.service for s in routes.wanting_at(event, one.place.entry)) if mine else 0
        )
        return WantedEvent(one.place, event, one.envelope, mine, others)

    async def _compare(self, past: Past, wanted: Sequence[WantedEvent], plan: PagePlan) -> None:
        """Leave out what is known to have run, and find the rows that have left Redis."""
        pipeline = self._client.pipeline(transaction=False)
        for one in wanted:
            pipeline.hexists(self._keys.event(one.event.id), f"at:{one.event.source}")
            for its in one.deliveries:
                pipeline.exists(self._keys.task(its.task_id), self._keys.task(_id_before(one.event, its)))
        answers = iter(await pipeline.execute(raise_on_error=False) if wanted else [])
        has_row: list[bool] = []
        has_task: set[str] = set()
        for one in wanted:
            has_row.append(bool(there(next(answers), 0)))
            has_task.update(its.task_id for its in one.deliveries if there(next(answers), 0))
        gone = [(one.event.id, one.event.source) for one, row in zip(wanted, has_row, strict=True) if not row]
        history = await past.left(gone)
        for one, row in zip(wanted, has_row, strict=True):
            left = None if row else history.get((one.event.id, one.event.source))
            if not row and left is None:
                plan.left_out += 1
                continue
            ran = has_task.union(left.tasks if left else ())
            missing = [
                its
                for its in one.deliveries
                if its.task_id not in ran and _id_before(one.event, its) not in ran
            ]
            plan.known += len(one.deliveries) - len(missing)
            if missing:
                self._add(plan, one, missing, left)

    async def _find_ended(
        self, past: Past, wanted: Sequence[WantedEvent], plan: PagePlan, again: Sequence[str]
    ) -> None:
        """Of a replay: find the tasks that ended in one of these states."""
        pipeline = self._client.pipeline(transaction=False)
        for one in wanted:
            pipeline.hexists(self._keys.event(one.event.id), f"at:{one.event.source}")
            for its in one.deliveries:
                pipeline.hget(self._keys.task(its.task_id), "state")
                pipeline.hget(self._keys.task(_id_before(one.event, its)), "state")
        answers = iter(await pipeline.execute(raise_on_error=False) if wanted else [])
        rows: list[bool] = []
        states: dict[str, str] = {}
        for one in wanted:
            rows.append(bool(there(next(answers), 0)))
            for its in one.deliveries:
                for task_id in (its.task_id, _id_before(one.event, its)):
                    if state := there(next(answers), None):
                        states[task_id] = state.decode("utf-8", "replace")
        unknown = [
            (one.event.id, one.event.source)
            for one, row in zip(wanted, rows, strict=True)
            if not row or any(its.task_id not in states for its in one.deliveries)
        ]
        history = await past.left(unknown)
        for one, row in zip(wanted, rows, strict=True):
            left = history.get((one.event.id, one.event.source))
            known = {**(left.tasks if left else {}), **states}
            named = [
                its
                if its.task_id in known or (before := _id_before(one.event, its)) not in known
                else its._replace(task_id=before)
                for its in one.deliveries
            ]
            mine = [its for its in named if known.get(its.task_id) in again]
            plan.known += len(one.deliveries) - len(mine)
            if not row and left is None:
                plan.left_out += 1
            elif mine:
                plan.old |= {its.task_id: known[its.task_id] for its in mine if its.task_id not in states}
                self._add(plan, one, mine, None if row else left)

    def _add(
        self, plan: PagePlan, one: WantedEvent, deliveries: Sequence[Delivery], left: LeftEvent | None
    ) -> None:
        if left is not None:
            plan.left[len(plan.handovers)] = left
        encoded = [self._encode(its, one.raw, one.event.priority) for its in deliveries]
        plan.handovers.append(Handover(one.place.entry, one.event, None, encoded))
        plan.others.append(one.others)


def _id_before(event: Event, its: Delivery) -> str:
    """The id of its task, if a version before the mark of services handed it over."""
    return names.task_id_before(event.source, event.id, its.subscription.task)


def backfill_call(
    keys: Keys,
    settings: MeshSettings,
    backfill: Backfill,
    plan: PagePlan,
    paused: Container[str],
    version: str,
) -> lua.Call[HandedPage]:
    """`backfill.lua` for a plan by this version of the manifests, which follows the position that the backfill is at."""
    subscriptions, kinds, entries, marks = describe(keys, settings, plan.handovers, paused)
    numbers: dict[str, int] = {}
    domain_of = [numbers.setdefault(one.event.domain, len(numbers) + 1) for one in plan.handovers]

    def parse(answer: list[bytes | int]) -> HandedPage:
        verdict = PageVerdict(bytes(answer[0]).decode())
        if verdict is PageVerdict.DONE:
            return HandedPage(verdict, tasks=int(answer[1]))
        return HandedPage(verdict, wait_ms=int(answer[1]) if verdict is PageVerdict.EARLY else 0)

    return BackfillScript(
        row=keys.backfill(backfill.id),
        running=keys.backfills_running(),
        notifications=keys.notifications(),
        counters=keys.counters(),
        holding=keys.holding(),
        version=keys.manifests_version(),
        memory_row=keys.memory(),
        joined=keys.joined(),
        dead=keys.dead(backfill.service),
        dead_index=keys.dead_index(backfill.service),
        dead_entries=keys.dead_entries(backfill.service),
        id=backfill.id,
        service=backfill.service,
        kept=settings.notifications_bound,
        planned_by=version,
        event_prefix=len(keys.event("")),
        task_prefix=len(keys.task("")),
        mark=memory_mark(settings),
        begins=str(backfill.position),
        ends=str(plan.ends or Place(backfill.before - 1, 0, "")),
        seen=plan.seen,
        known=plan.known,
        left_out=plan.left_out,
        is_last=plan.ends is None,
        most_queued=max(1, round(settings.max_queued * ROOM)),
        most_held=max(1, round(settings.max_held * ROOM)),
        retention=ms(settings.remembered),
        lifetime=ms(KEPT),
        domains=[
            BackfillDomain(stream=keys.events(name), routed=keys.routed(name), name=name) for name in numbers
        ],
        left=[_left_row(number + 1, plan.handovers[number], one) for number, one in plan.left.items()],
        domain_of=domain_of,
        wants=plan.others,
        again=backfill.again,
        old=[f"{task} {state}" for task, state in plan.old.items()],
        subscriptions=subscriptions,
        kinds=kinds,
        entries=entries,
        marks=marks,
    ).call(parse)


def _left_row(number: int, handover: Handover, left: LeftEvent) -> LeftRow:
    row, event = left.row, handover.event
    return LeftRow(
        entry=number,
        at=f"{row.entry} {row.published_ms} {event.digest()} {row.domain}",
        want="" if row.wanted is None else row.wanted,
        done=row.done,
        failed=row.failed,
        tasks=list(left.tasks),
    )
