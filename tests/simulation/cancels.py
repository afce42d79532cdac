"""Events that cancel (`cancel_on`): open tasks of the same value end, whatever becomes of dispatchers and workers."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import redis.asyncio
from streammesh import Context, Service
from streammesh.names import task_id as name_of_task

from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "an event cancelled a task that had not begun",
    "an event cancelled a task that ran",
    "an event that cancels was handed over before an older one",
    "an event came too late to cancel a task",
)
PLACED, REFUSED, TASK = "order.placed", "bill.refused", "orders.fulfil"
PATIENCE = 15.0  # seconds for a task to be cancelled, beyond all that is done to processes here
HANDED_OVER = {"task.queued", "task.held", "task.pending"}


def cancels(*, events: int = 4, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: orders of two customers, and two refused bills that cancel what is open of them; two dispatchers,
    two workers. The streams' times decide: what was published before and is open then ends as cancelled, what is handed
    over after it never runs, what was published after it is not touched."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:

            def make(host: str) -> Service:
                service = Service("orders", settings=world.settings)

                @service.on(
                    PLACED, retries=3, backoff=0.2, breaker=False, cancel_on={REFUSED: "data.customer"}
                )
                async def fulfil(data: Any, ctx: Context) -> None:
                    world.told.ran[ctx.task_id].append((ctx.attempt, host))
                    await asyncio.sleep(random.choice((0.0, 0.4, 1.5)))
                    if data["n"] % 2 and ctx.attempt == 1:
                        raise RuntimeError("not yet")

                return service

            await world.register(make("first"))
            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, world.dispatcher)
            for name in ("orders a", "orders b"):
                world.start(name, worker(world, make))
            orders, bills = [f"o{n}" for n in range(events)], ["b0", "b1"]

            def data(id_: str) -> dict[str, Any]:
                return {"n": int(id_[1:]), "customer": int(id_[1:]) % 2}

            world.start("publisher a", world.publisher(orders, PLACED, data, random.choice((0.02, 0.3))))
            await asyncio.sleep(random.choice((0.0, 0.5, 2.5)))
            world.start("publisher b", world.publisher(bills, REFUSED, data, random.choice((0.02, 0.3))))
            total = events + len(bills)

            async def missing(client: redis.asyncio.Redis) -> str:
                if left := await checkers.all_told(client, world, ["orders"], total, total):
                    return left
                return "something is to be cancelled" if await client.zcard(world.keys.cancelling()) else ""

            await world.settle(missing)
            await world.plain(lambda client: _check(client, world, orders, bills))

    return run


def _at(position: str) -> tuple[int, int]:
    ms, _, number = position.partition("-")
    return int(ms), int(number)


async def _check(client: redis.asyncio.Redis, world: World, orders: list[str], bills: list[str]) -> None:
    accepted, history = world.told.accepted, world.striker.history
    told, ends = await checkers.notes(client, world), await checkers.ends(client, world)
    handed: dict[str, int] = {}  # event -> where its hand-over stands in the record
    for number, (_, kind, fields) in enumerate(told):
        if kind in HANDED_OVER:
            handed.setdefault(fields[b"e"].decode(), number)
    for id_ in orders:
        task, placed = name_of_task("outside", id_, TASK), _at(accepted[id_])
        assert len(ends.get(task, [])) == 1, f"{task} ended as {ends.get(task)}; {history}"
        bill = bills[int(id_[1:]) % 2]
        refused = _at(accepted[bill])
        was = ends[task][0]
        assert was in {"task.cancelled", "task.succeeded"}, f"{task} ended as {was}; {history}"
        ran = bool(world.told.ran.get(task))
        if was == "task.cancelled":
            assert placed < refused, f"{task} is of {placed} and was cancelled by {refused}; {history}"
            outcome = orjson.loads(await client.hget(world.keys.task(task), "outcome") or b"{}")
            by = outcome.get("error", {}).get("by", {}).get("id")
            assert by == bill, f"{task} was cancelled by {by}, not {bill}; {history}"
            sometimes("an event cancelled a task that had not begun", not ran)
            sometimes("an event cancelled a task that ran", ran)
        elif placed < refused:
            sometimes("an event came too late to cancel a task")
            end = next(at for at, kind, fields in told if fields.get(b"k") == task.encode() and kind == was)
            late = (_at(end)[0] - refused[0]) / 1000
            assert late < PATIENCE, f"{task} succeeded {late:.1f} s after {bill} cancelled it; {history}"
        if placed < refused and handed[bill] < handed[id_]:
            sometimes("an event that cancels was handed over before an older one")
            assert was == "task.cancelled", f"{task} was handed over after {bill} and ended as {was}"
            assert not ran, f"{task} was handed over after {bill} and began; {history}"
    left = await client.zrange(world.keys.cancellable(TASK), 0, -1)
    assert not left, f"ended tasks stand among those that may be cancelled: {left}; {history}"
