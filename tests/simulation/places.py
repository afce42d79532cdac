"""Flow control: tasks wait in line for a place of their key, whoever is killed who has one."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import detangle
import redis.asyncio
from streammesh import Context, Service

from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker

declare(
    "a task waited in line for a place of its key",
    "a task took a place that a task of a dead worker had had",
    "a task kept its place over its retry",
)
TYPE, TENANTS = "user.registered", ("ada", "bob")
NAMES = ("mail.each", "mail.ordered")


@dataclass
class Run:
    """One run of a handler: the events of one key, `end` is inf while it runs, or where it was killed."""

    task: str
    number: int
    attempt: int
    host: str
    begin: float
    end: float = float("inf")


def places(*, events: int = 5, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two subscriptions, one of which does one task of a key at a time, the other one after the other
    in stream order; two workers, two dispatchers. Every task ends once, and no place is given twice or lost."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds, spared=("publisher-1",)) as world:
            runs: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)  # subscription, key -> runs

            async def handle(name: str, data: Any, ctx: Context, host: str) -> Any:
                mine = Run(ctx.task_id, data["n"], ctx.attempt, host, detangle.now())
                before = [one for one in runs[name, data["tenant"]] if one.task == ctx.task_id]
                sometimes("a task kept its place over its retry", bool(before) and name == "mail.ordered")
                runs[name, data["tenant"]].append(mine)
                world.told.ran[ctx.task_id].append((ctx.attempt, host))
                await asyncio.sleep(random.choice((0.01, 0.1, 0.4)))
                mine.end = detangle.now()
                if ctx.attempt == 1 and data["n"] % 3 == 1:
                    raise RuntimeError("not yet")

            def make(host: str) -> Service:
                service = Service("mail", settings=world.settings)
                often: dict[str, Any] = {"retries": 3, "backoff": 0.1, "backoff_cap": 0.2, "breaker": False}

                @service.on(TYPE, key="data.tenant", concurrency=1, total=2, fair=True, **often)
                async def each(data: Any, ctx: Context) -> Any:
                    await handle("mail.each", data, ctx, host)

                @service.on(TYPE, key="data.tenant", order=True, **often)
                async def ordered(data: Any, ctx: Context) -> Any:
                    await handle("mail.ordered", data, ctx, host)

                return service

            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, world.dispatcher)
            for name in ("mail a", "mail b"):
                world.start(name, worker(world, make))

            def data(id_: str) -> dict[str, Any]:
                number = int(id_[1:])
                return {"n": number, "tenant": TENANTS[number % 3 == 2]}

            world.start("publisher", world.publisher(ids, TYPE, data))

            async def done(client: redis.asyncio.Redis) -> str:
                for name in NAMES:
                    sometimes(
                        "a task waited in line for a place of its key",
                        bool(await client.zcard(world.keys.flow_line(name))),
                    )
                return await checkers.all_told(client, world, ["mail"], events, events)

            await world.settle(done)

            async def check(client: redis.asyncio.Redis) -> None:
                ends = await checkers.ends(client, world)
                wrong = {task: kinds for task, kinds in ends.items() if kinds != ["task.succeeded"]}
                assert not wrong, f"not ended once: {wrong}; {world.striker.history}"
                assert len(ends) == 2 * events, f"{len(ends)} tasks, not {2 * events}"
                for name in NAMES:
                    for key in (world.keys.flow_line(name), world.keys.flow_places(name)):
                        left = await client.zrange(key, 0, -1)
                        assert not left, f"{key} has {left} still; {world.striker.history}"

            await world.plain(check)
            for (name, key), all_runs in runs.items():
                _one_at_a_time(all_runs, name, key, world.striker.history)

    return run


def _one_at_a_time(runs: list[Run], name: str, key: str, history: list[str]) -> None:
    """The runs that took effect, of each task the last one, do not overlap; with `order` they are in stream order."""
    last: dict[str, Run] = {}
    for one in runs:
        if one.task not in last or one.attempt >= last[one.task].attempt:
            last[one.task] = one
    effective = sorted(last.values(), key=lambda one: one.begin)
    hosts = {one.host for one in runs if one.end == float("inf")}
    sometimes("a task took a place that a task of a dead worker had had", bool(hosts) and len(effective) > 1)
    for one, following in itertools.pairwise(effective):
        assert one.end <= following.begin, f"{name} of {key}: {one} and {following} at once; {history}"
    if name == "mail.ordered":
        numbers = [one.number for one in effective]
        assert numbers == sorted(numbers), f"{name} of {key} was done in the order {numbers}; {history}"
