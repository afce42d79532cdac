"""What happens in one schedule: who is there, what they do, what must be so in the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from streammesh import Context, Reject, Service

from tests.simulation import checkers
from tests.simulation.determinism import seeded
from tests.simulation.faults import KINDS, know_scripts
from tests.simulation.follower import follower
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare("a delivery was retried", "a delivery was given up", "a follow-up event was delivered")
Scenario = Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def a_world(
    budget: int, *, spared: tuple[str, ...] = (), one_in: int = 8, **options: Any
) -> AsyncIterator[World]:
    """Within: a simulated mesh, everything seeded. In the end no process may have ended by an error of its own."""
    with seeded():
        know_scripts()
        world = World(budget, spared=frozenset({"checker", *spared}), one_in=one_in, **options)
        await world.open()
        yield world
        world.check_unbroken()


def mail(world: World) -> Callable[[str], Service]:
    """Return a maker of the service `mail`: some deliveries fail at first, some for good, each is witnessed."""

    def make(host: str) -> Service:
        service = Service("mail", settings=world.settings)

        @service.on("user.registered", retries=3, backoff=0.1, backoff_cap=0.5, breaker=False)
        async def welcome(data: dict[str, Any], ctx: Context) -> dict[str, Any]:
            world.told.ran[ctx.task_id].append((ctx.attempt, host))
            sometimes(
                "a handler ran again after its worker died",
                len({h for _, h in world.told.ran[ctx.task_id]}) > 1,
            )
            await asyncio.sleep(random.choice([0.0, 0.01, 0.3]))
            if data.get("hopeless"):
                sometimes("a delivery was given up")
                raise Reject("it never fits")
            if data.get("fails") and ctx.attempt <= data["fails"]:
                sometimes("a delivery was retried")
                raise RuntimeError("not yet")
            ctx.publish("mail.sent", {"of": ctx.event.id})
            return {"attempt": ctx.attempt}

        return service

    return make


def audit(world: World) -> Callable[[str], Service]:
    """Return a maker of the service `audit`, which hears of everything, follow-up events included."""

    def make(host: str) -> Service:
        service = Service("audit", settings=world.settings)

        @service.on("*", retries=3, backoff=0.1)
        async def record(data: Any, ctx: Context) -> None:
            world.told.ran[ctx.task_id].append((ctx.attempt, host))
            sometimes("a follow-up event was delivered", ctx.event.type == "mail.sent")

        return service

    return make


def whole_mesh(*, budget: int = 4, events: int = 6, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two dispatchers, two workers of one service and one of another, two publishers, a
    follower that reconnects; faults at any command of any of them."""

    async def run() -> None:
        with seeded():
            know_scripts()
            world = World(budget, kinds=kinds, spared=frozenset({"checker"}))
            await world.open()
            await world.register(mail(world)("first"))
            await world.register(audit(world)("first"))
            ids = [f"e{n}" for n in range(events)]

            def data(id_: str) -> dict[str, Any]:
                number = int(id_[1:])
                return {"fails": 1 if number % 3 == 1 else 0, "hopeless": number % 5 == 4}

            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, world.dispatcher)
            for name in ("mail a", "mail b"):
                world.start(name, worker(world, mail(world)))
            world.start("audit a", worker(world, audit(world)))
            world.start("follower", follower(world))
            world.start("publisher a", world.publisher(ids[::2], "user.registered", data))
            world.start("publisher b", world.publisher(ids[1::2], "user.registered", data))
            sent = sum(not data(id_)["hopeless"] for id_ in ids)
            wanted = dict.fromkeys(ids, 2)
            await world.settle(
                lambda client: checkers.all_told(client, world, ["mail", "audit"], len(ids), len(ids) + sent)
            )
            await world.plain(lambda client: checkers.exactly_once(client, world, wanted))
            await world.plain(lambda client: checkers.stored_once(client, world, "user"))
            await world.plain(lambda client: checkers.gapless(client, world))
            world.check_unbroken()

    return run
