"""Handlers that answer with a Celery workflow: it starts once, and the delivery ends with it, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from streammesh import Context, Service

from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare("a workflow ended its delivery")


def mill(world: World) -> Callable[[str], Service]:
    """Return a maker of the service `mill`, whose deliveries become chains of two parts; some fail half way."""

    def make(host: str) -> Service:
        service = Service("mill", settings=world.settings)

        @service.part
        def grind(grain: str, fails: bool) -> str:
            if fails:
                raise ValueError("a stone is in it")
            return f"flour of {grain}"

        @service.part
        def bake(flour: str, ctx: Context) -> dict[str, str]:
            sometimes("a workflow ended its delivery")
            ctx.publish("bread.baked", {"of": ctx.event.id})
            return {"bread": flour}

        @service.on("user.registered", retries=2, backoff=0.1, breaker=False)
        async def work(data: Any, ctx: Context) -> Any:
            world.told.ran[ctx.task_id].append((ctx.attempt, host))
            await asyncio.sleep(random.choice((0.0, 0.3)))
            return grind.s(ctx.event.id, data["fails"]) | bake.s()

        return service

    return make


def workflows(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two workers run handlers that become workflows, and their parts."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds) as world:
            make = mill(world)
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            whole = [id_ for id_ in ids if id_ != "e1"]
            world.start("dispatcher", world.dispatcher)
            for name in ("mill a", "mill b"):
                world.start(name, worker(world, make))
            fails = {"e1"}
            world.start(
                "publisher", world.publisher(ids, "user.registered", lambda id_: {"fails": id_ in fails})
            )
            await world.settle(lambda client: checkers.all_told(client, world, ["mill"], events, events))
            await world.plain(
                lambda client: checkers.exactly_once(client, world, dict.fromkeys(ids, 1), requeued=True)
            )
            await world.plain(lambda client: checkers.followed_up_once(client, world, "bread.baked", whole))

    return run
