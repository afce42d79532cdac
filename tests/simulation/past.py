"""A service that comes late is given its past, while events come live; what failed there is replayed."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

import redis.asyncio
from streammesh import Context, Reject, lua
from streammesh.backfill.record import BackfillRunning, Backfills, UnknownService
from streammesh.names import task_id as name_of_task
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import register_call

from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.operators import Errand, NotYet, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.witness import witness
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "a backfill met an event that came live",
    "a backfill waited for room in its queue",
    "a backfill was stopped before its end",
    "a task that failed in the past was replayed",
)
TYPE, SERVICES = "user.registered", ["early", "late", "third"]
EARLY, LATE, THIRD = "early.welcome", "late.welcome", "third.welcome"
PAST, STOPPED, AGAIN = "past", "stopped", "again"  # backfills


def begin(world: World, name: str, service: str, rate: float | None = None, **options: Any) -> Errand:
    """Return an errand: a backfill is begun, and is there when this is done again."""

    async def errand(client: redis.asyncio.Redis) -> None:
        backfills = Backfills(client, world.keys)
        if await backfills.get(name) is not None:
            return  # begun by a call whose answer was lost
        try:
            await backfills.begin(service, "user.*", 0, None, rate, "ops", name, **options)
        except (BackfillRunning, UnknownService) as error:
            raise NotYet from error  # what stood there before was forgotten

    return errand


def end_of(world: World, name: str) -> Errand:
    """Return an errand: it is waited until a backfill has ended."""

    async def errand(client: redis.asyncio.Redis) -> None:
        found = await Backfills(client, world.keys).get(name)
        if found is not None:
            sometimes("a backfill met an event that came live", bool(found.live))
            sometimes("a backfill waited for room in its queue", "half full" in found.waits)
        if (found is not None and found.ended is None) or (found is None and not world.losses):
            raise NotYet

    return errand


def stop(world: World, name: str, service: str) -> Errand:
    """Return an errand: a backfill is stopped."""

    async def errand(client: redis.asyncio.Redis) -> None:
        stopped = await Backfills(client, world.keys).stop(name, service, "a test")
        sometimes("a backfill was stopped before its end", stopped)

    return errand


def registration(world: World, manifest: Manifest) -> Errand:
    """Return an errand: a service comes."""
    return lambda client: lua.run(client, register_call(world.keys, manifest))


def _dispatchers(world: World) -> None:
    for name in ("dispatcher a", "dispatcher b"):
        world.start(name, world.dispatcher)


def backfills(*, events: int = 5, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two services come when half of the events are there, and are given their past by two dispatchers,
    the one wholly, the other until somebody stops it. Each event reaches the first one once, and the second at most
    once. What failed for good in the past is replayed then, and what succeeded is not."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds, settings={"max_queued": 4}, lives_again=True) as world:
            ids = [f"e{n}" for n in range(events)]
            replayed = False

            async def act(data: Any, ctx: Context) -> Any:
                if data["fails"] and not replayed:
                    raise Reject("it does not fit yet")
                return None

            early = witness(world, name="early")
            late = witness(world, act, name="late", takes=(0.0, 0.05))
            third = witness(world, name="third")
            await world.register(early("first"))
            # Where they come late, what was published after the service registered is not handed over yet.
            is_late = random.random() < 0.3
            if not is_late:
                _dispatchers(world)
            for name, make in (("early", early), ("late", late), ("third", third)):
                world.start(name, worker(world, make))

            def data(id_: str) -> dict[str, Any]:
                return {"fails": int(id_[1:]) % 3 == 1}

            async def half(client: redis.asyncio.Redis) -> None:
                if len(world.told.accepted) < events // 2:
                    raise NotYet

            async def replay(client: redis.asyncio.Redis) -> None:
                nonlocal replayed
                if await missing(client):
                    raise NotYet
                replayed = True

            async def missing(client: redis.asyncio.Redis) -> str:
                if len(world.told.accepted) < events:
                    return "events not accepted yet"
                ends = await checkers.ends(client, world)
                wanted = [name_of_task("outside", id_, task) for id_ in ids for task in (EARLY, LATE)]
                never = [] if world.losses else [task for task in wanted if not ends.get(task)]
                return f"{never} did not end" if never else await checkers.quiet(client, world, SERVICES)

            world.start("publisher", world.publisher(ids, TYPE, data, every=random.choice((0.02, 0.3))))
            await asyncio.sleep(0.05)
            errands = [
                *(half, registration(world, late("first").manifest()), wait(random.choice((0.0, 0.0, 0.4)))),
                begin(world, PAST, "late"),
                *(registration(world, third("first").manifest()), wait(random.choice((0.0, 0.3)))),
                begin(world, STOPPED, "third", random.choice((2.0, 50.0))),
                *(wait(random.choice((0.2, 0.6))), stop(world, STOPPED, "third")),
                *(end_of(world, PAST), replay),
                *(begin(world, AGAIN, "late", again=("failed",)), end_of(world, AGAIN)),
            ]
            world.start("operator", operator(world, errands))
            if is_late:
                await asyncio.sleep(random.choice((0.6, 1.5)))
                _dispatchers(world)

            await world.settle(missing)
            await world.plain(lambda client: _check(client, world, ids))

    return run


async def _check(client: redis.asyncio.Redis, world: World, ids: list[str]) -> None:
    ends, history = await checkers.ends(client, world), world.striker.history
    queued: defaultdict[str, int] = defaultdict(int)
    for _, kind, fields in await checkers.notes(client, world):
        queued[fields.get(b"k", b"").decode()] += kind == "task.queued"
    found = await Backfills(client, world.keys).get(STOPPED)
    assert found is not None
    assert found.ended is not None, f"{found} was stopped and goes on; {history}"
    for id_ in ids:
        first = name_of_task("outside", id_, EARLY)
        assert ends.get(first) == ["task.succeeded"], f"{first} ended as {ends.get(first)}; {history}"
        task = name_of_task("outside", id_, LATE)
        fails = int(id_[1:]) % 3 == 1
        kinds = ends.get(task, [])
        lived = ["task.failed", "task.succeeded"]
        assert kinds in ([lived, ["task.succeeded"]] if fails else [["task.succeeded"]]), (
            f"{task} ended as {kinds}; {history}"
        )
        assert queued[task] == len(kinds), f"{task} was queued {queued[task]} times; {history}"
        sometimes("a task that failed in the past was replayed", kinds == lived)
        third = name_of_task("outside", id_, THIRD)
        assert ends.get(third, ["task.succeeded"]) == ["task.succeeded"], (
            f"{third} ended as {ends[third]}; {history}"
        )
        assert queued[third] <= 1, f"{third} was queued {queued[third]} times; {history}"
    left = await client.hgetall(world.keys.backfills_running())
    assert not left, f"{left} run still; {history}"
