"""Batches: several events of a key in one run of a handler, which fails for some of them, for all, or is taken over."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import detangle
import orjson
import redis.asyncio
from pydantic import BaseModel
from streammesh import Context, Failed, Reject, Service, lua
from streammesh.names import task_id as name_of_task
from streammesh.tasks.records import Rows
from streammesh.tasks.settlement import cancel_call

from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.operators import Errand, NotYet, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import Manner, worker
from tests.simulation.world import World

declare(
    "a batch was full",
    "a batch began before it was full",
    "a batch was taken over with all it had taken along",
    "a batch was taken over by a worker of less of it",
    "a part of a batch failed and ran alone",
    "a part of a batch failed and was in another batch",
    "the first of a batch failed and others succeeded",
    "each of a batch that failed as a whole ran by itself",
    "a payload of a batch did not fit",
    "a task was cancelled while the run that took it along was under way",
    "what a cancelled run had taken along was in another one",
)
TYPE, SENT, TASK, TENANTS = "row.added", "mail.loaded", "mail.load", ("ada", "bob")
TROUBLES = ("some fail", "some fail", "one spoils all", "one does not fit", "all fail once")
LATE = 2.5  # seconds beyond `linger` at most, where nobody was struck
SOON = 3  # attempts until one that spoils all is tried by itself


class Row(BaseModel):
    """What an event adds."""

    n: int
    tenant: str


@dataclass
class Batch:
    """One call of the handler. `end` is inf while it runs, or where its process was killed; `good`: of whom it told success."""

    number: int
    run: str
    attempt: int
    host: str
    rows: list[int]
    begin: float
    at: float
    end: float = float("inf")
    good: list[int] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)


@dataclass
class Plan:
    """What is tried in one schedule."""

    trouble: str
    most: int
    linger: float
    concurrency: int | None
    cancels: int | None  # which of a batch under way an operator cancels
    stays: float  # seconds until a worker leaves, 0: never
    cancelled: int | None = None  # the row that it was

    def is_bad(self, row: int) -> bool:
        """Whether a row is never loaded."""
        return {"some fail": row % 4 == 2, "one spoils all": row == 2, "one does not fit": row == 1}.get(
            self.trouble, False
        )


def batches(
    *,
    events: int = 7,
    budget: int = 3,
    kinds: tuple[str, ...] = KINDS,
    one_in: int = 24,
    only: tuple[str, ...] = (),
    **sure: Any,
) -> Scenario:
    """Return a scenario: rows of two keys are loaded in batches by two workers, handed over by two dispatchers. Each row ends
    once: within exactly one batch that succeeded, with one follow-up event of that batch, or as a dead letter.

    `only`: the scripts at which alone faults strike. `sure`: what of the Plan is not left to chance.
    """

    async def run() -> None:
        async with a_world(budget, kinds=kinds, one_in=one_in, only=only, spared=("publisher-1",)) as world:
            plan = Plan(
                random.choice(TROUBLES),
                random.choice((2, 3, 4)),
                random.choice((0.2, 1.0)),
                random.choice((None, 1)),
                random.choice((None, 0, 1, 1)),
                random.choice((0.0, 0.0, 1.5)),
            )
            plan = replace(plan, **sure)
            calls: list[Batch] = []
            refused: Counter[int] = Counter()

            def load(mine: Batch, ctx: Context) -> Any:
                """Do what the trouble says; whom a call names is decided where it ends."""
                rows = mine.rows
                if plan.trouble == "one spoils all" and any(plan.is_bad(row) for row in rows):
                    mine.bad = rows
                    raise RuntimeError("somebody spoils it")
                if plan.trouble == "all fail once" and not refused[rows[0]]:
                    mine.bad = rows
                    refused.update(rows)
                    raise RuntimeError("not yet")
                errors: dict[int, Exception] = {}
                for index, row in enumerate(rows):
                    if plan.is_bad(row):
                        errors[index] = Reject("it never fits")
                    elif plan.trouble == "some fail" and row % 4 == 0 and not refused[row]:
                        errors[index] = RuntimeError("not yet")
                refused.update(rows[index] for index in errors)
                mine.bad = [rows[index] for index in errors]
                mine.good = [row for row in rows if row not in mine.bad]
                ctx.publish(SENT, {"call": mine.number})
                if errors and random.random() < 0.5:
                    raise Failed(errors)
                return Failed(errors) if errors else {"call": mine.number}

            def make(host: str) -> Service:
                service = Service("mail", settings=world.settings)

                @service.on(
                    TYPE, key="data.tenant", batch=plan.most, linger=plan.linger, concurrency=plan.concurrency, name="load",
                    retries=SOON - 1 if plan.trouble == "one spoils all" else 12, backoff=0.1, backoff_cap=0.4, breaker=False,
                )  # fmt: skip
                async def _(rows: list[Row], ctx: Context) -> Any:
                    numbers = [row.n for row in rows]
                    mine = Batch(
                        len(calls), ctx.task_id, ctx.attempt, host, numbers, detangle.now(), time.time()
                    )  # fmt: skip
                    calls.append(mine)
                    for row in numbers:
                        world.told.ran[task_of(row)].append((ctx.attempt, host))
                    try:
                        await asyncio.sleep(random.choice((0.0, 0.4, 0.8)))
                        return load(mine, ctx)
                    finally:
                        mine.end = detangle.now()

                return service

            await world.register(make("first"))
            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, world.dispatcher)
            for name in ("mail a", "mail b"):
                world.start(name, worker(world, make, Manner(stays=plan.stays)))
            ids = [f"e{n}" for n in range(events)]

            def data(id_: str) -> dict[str, Any]:
                row = int(id_[1:])
                wrong = plan.trouble == "one does not fit" and plan.is_bad(row)
                return {"n": "none" if wrong else row, "tenant": TENANTS[row % 3 == 2]}

            world.start("publisher", world.publisher(ids, TYPE, data, random.choice((0.01, 0.02, 0.3))))
            if plan.cancels is not None:
                errands = [wait(random.choice((0.0, 0.4))), _cancel(world, plan, calls)]
                world.start("operator", operator(world, errands, 0.02))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))
            _check_calls(world, plan, calls)
            await world.plain(lambda client: _check(client, world, plan, calls, events))

    return run


def task_of(row: int) -> str:
    """Return the task of a row."""
    return name_of_task("outside", f"e{row}", TASK)


def _cancel(world: World, plan: Plan, calls: list[Batch]) -> Errand:
    """Return an errand: one of a batch under way is cancelled, the first or the second of it."""
    looks = 0

    async def errand(client: redis.asyncio.Redis) -> None:
        nonlocal looks
        looks += 1
        place = plan.cancels or 0
        if plan.cancelled is None:
            found = [one.rows[place] for one in calls if _died(one) and len(one.rows) > max(place, 1)]
            if not found and looks < 40:
                raise NotYet
            plan.cancelled = found[-1] if found else None
        if plan.cancelled is not None:
            for row in await Rows(client, world.keys).tasks([task_of(plan.cancelled)]):
                await lua.run(client, cancel_call(world.keys, world.settings, row))

    return errand


def _check_calls(world: World, plan: Plan, calls: list[Batch]) -> None:
    """Hold each call, and each two of them, against what is promised to a handler; its own witness alone is asked."""
    history, before = world.striker.history, set[int]()
    for place, one in enumerate(calls):
        assert one.rows == sorted(set(one.rows)), f"{one} is not in the order of its stream; {history}"
        assert 0 < len(one.rows) <= plan.most, f"{one} has more than {plan.most}; {history}"
        assert len({TENANTS[row % 3 == 2] for row in one.rows}) == 1, f"{one} is of two keys; {history}"
        sometimes("a batch was full", len(one.rows) == plan.most)
        for row in one.rows:
            if not history and not plan.stays and not plan.concurrency and row not in before:
                late = one.at - int(world.told.accepted[f"e{row}"].partition("-")[0]) / 1000 - plan.linger
                assert late < LATE, f"{row} waited {late:.1f} s longer than {plan.linger:g} s for {one}"
        sometimes(
            "a batch began before it was full", not before & set(one.rows) and len(one.rows) < plan.most
        )
        before.update(one.rows)
        for other in calls[:place]:
            both = set(one.rows) & set(other.rows)
            if not both:
                continue
            # Whoever lost his lease goes on until he hears of it: another attempt of the run has begun.
            is_over = any(
                later.run == other.run and later.attempt > other.attempt for later in calls[: place + 1]
            )
            is_left = other.end <= one.begin or is_over or _died(other)
            is_cancelled = plan.cancelled is not None and other.run == task_of(plan.cancelled)
            assert is_left or is_cancelled, f"{both} are in {other} and in {one} at once; {history}"
            assert (other.run, other.attempt) != (one.run, one.attempt), (
                f"{other} and {one} are one; {history}"
            )
            if other.run == one.run and other.host != one.host and _was_cut_off(other):
                is_whole = one.rows == other.rows and len(one.rows) > 1
                sometimes("a batch was taken over with all it had taken along", is_whole)
                sometimes("a batch was taken over by a worker of less of it", len(one.rows) < len(other.rows))
            if both & set(other.bad) and len(other.bad) < len(other.rows):
                sometimes("a part of a batch failed and ran alone", len(one.rows) == 1)
                sometimes("a part of a batch failed and was in another batch", len(one.rows) > 1)
            if plan.trouble == "one spoils all" and len(other.rows) > 1 and other.bad:
                sometimes("each of a batch that failed as a whole ran by itself", len(one.rows) == 1)
            if is_cancelled and other.run != one.run:
                sometimes("what a cancelled run had taken along was in another one")
        sometimes(
            "the first of a batch failed and others succeeded", bool(one.good) and one.rows[0] in one.bad
        )


def _died(one: Batch) -> bool:
    return one.end == float("inf")


def _was_cut_off(one: Batch) -> bool:
    """Return whether its process was killed before it said what became of its rows."""
    return not one.good and not one.bad


async def _check(
    client: redis.asyncio.Redis, world: World, plan: Plan, calls: list[Batch], events: int
) -> None:
    """Hold the record against the handlers' witness: each row is in exactly one batch that succeeded, or in none for a reason."""
    keys, history = world.keys, world.striker.history
    ends = await checkers.ends(client, world)
    assert set(ends) == {task_of(row) for row in range(events)}, f"{ends}; {history}"
    groups: defaultdict[str, set[int]] = defaultdict(
        set
    )  # the task that succeeded -> rows that ended with it
    for row in range(events):
        task, kinds = task_of(row), ends[task_of(row)]
        fields = await client.hgetall(keys.task(task))
        left = {b"batch", b"run", b"h", b"b", b"to", b"u", b"cancel", b"lease"} & set(fields)
        assert not left, f"the row of {row}, {kinds}, has {left} still; {history}"
        assert len(kinds) == 1, f"{row} ended as {kinds}; {history}"
        if kinds == ["task.cancelled"]:
            assert row == plan.cancelled, f"{row} was cancelled and {plan.cancelled} was to be; {history}"
            within = [one for one in calls if row in one.rows and one.run != task]
            sometimes(
                "a task was cancelled while the run that took it along was under way",
                any(row in one.good for one in within),
            )
            continue
        assert (kinds == ["task.failed"]) == plan.is_bad(row), f"{row} ended as {kinds}: {plan}; {history}"
        if plan.is_bad(row):
            sometimes("a payload of a batch did not fit", plan.trouble == "one does not fit")
            assert await client.hexists(keys.dead("mail"), task), f"{row} is no dead letter; {history}"
        else:
            outcome = orjson.loads(fields[b"outcome"])
            groups[outcome["result"]["run"] if kinds == ["task.folded"] else task].add(row)
    sent = await client.xrange(keys.events("mail"))
    told = sorted(orjson.loads(fields[b"e"])["data"]["call"] for _, fields in sent)
    for task, rows in groups.items():
        its = [
            one
            for one in calls
            if one.good
            and rows <= set(one.good)
            and set(one.good) - rows <= {plan.cancelled}
            and task in map(task_of, rows)
        ]
        assert its, f"{rows} ended with {task}, and no batch that succeeded is that: {calls}; {history}"
        assert sum(one.number in told for one in its) == 1, f"of {its} the events are {told}; {history}"
    assert len(told) == len(groups), f"{len(told)} follow-up events of {groups}; {calls}; {history}"
    for key in (keys.flow_line(TASK), keys.flow_places(TASK), keys.flow_runs(TASK), keys.folding()):
        assert not await client.exists(key), f"{key} has something left; {history}"
    entries = await client.hkeys(keys.due_entries())
    assert not [one for one in entries if not one.startswith(b"flow:")], f"{entries} are left; {history}"
