"""Flow control: tasks wait in line for a place of their key, whoever is killed who has one."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import detangle
import redis.asyncio
from streammesh import Context, Service, lua
from streammesh.lines.state import keys_call, set_call

from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.operators import Errand, operator, wait
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "a task waited in line for a place of its key",
    "a task took a place that a task of a dead worker had had",
    "a task kept its place over its retry",
    "a limit was raised while tasks waited in line",
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
    in stream order; two workers, two dispatchers. Sometimes somebody has the first do two of a key for a while. Every task
    ends once, and no place is given twice or lost."""

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
            is_raised = random.random() < 0.5
            if is_raised:
                errands = [wait(random.choice((0.1, 0.4))), limit(world, 2), wait(0.3), limit(world, None)]
                world.start("operator", operator(world, errands))

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
            history = world.striker.history
            for (name, key), all_runs in runs.items():
                died = any(one.end == float("inf") for one in all_runs)
                effective = took_effect(all_runs)
                sometimes(
                    "a task took a place that a task of a dead worker had had", died and len(effective) > 1
                )
                most = 2 if is_raised and name == "mail.each" else 1
                assert at_once(effective) <= most, (
                    f"{name} of {key}: more than {most} of {all_runs}; {history}"
                )
                if name == "mail.ordered":
                    numbers = [one.number for one in effective]
                    assert numbers == sorted(numbers), (
                        f"{name} of {key} was done in the order {numbers}; {history}"
                    )
            of_all = [one for (name, _), found in runs.items() if name == "mail.each" for one in found]
            assert at_once(took_effect(of_all)) <= 2, f"more than 2 of all keys: {of_all}; {history}"

    return run


def limit(world: World, most: int | None) -> Errand:
    """Return an errand: how many of a key are done at once is set by hand, or taken back; then the keys are looked at."""

    async def errand(client: redis.asyncio.Redis) -> None:
        name = NAMES[0]
        await lua.run(client, set_call(world.keys, name, {"concurrency": most}))
        sometimes(
            "a limit was raised while tasks waited in line",
            bool(most and await client.zcard(world.keys.flow_line(name))),
        )
        place: str | None = None
        while True:
            page = await lua.run(client, keys_call(world.keys, name, place, 1))
            strangers = {one.key for one in page.keys} - set(TENANTS)
            assert not strangers, f"{strangers} are keys of {name}; {world.striker.history}"
            place = page.next
            if place is None:
                return

    return errand


def took_effect(runs: list[Run]) -> list[Run]:
    """Return the last run of each task, the first to begin first."""
    last: dict[str, Run] = {}
    for one in runs:
        if one.task not in last or one.attempt >= last[one.task].attempt:
            last[one.task] = one
    return sorted(last.values(), key=lambda one: one.begin)


def at_once(runs: list[Run]) -> int:
    """Return how many of these runs were under way together, at most."""
    return max((sum(one.begin <= other.begin < one.end for one in runs) for other in runs), default=0)
