"""Services whose handlers note each run, so that what took effect is known without asking the mesh."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from streammesh import Context, Service

from tests.simulation.sometimes import sometimes
from tests.simulation.world import World

Act = Callable[[Any, Context], Awaitable[Any]]
TAKES = (0.0, 0.01, 0.3)  # seconds of a handler


def witness(
    world: World,
    act: Act | None = None,
    *,
    name: str = "mail",
    on: str = "user.registered",
    takes: tuple[float, ...] = TAKES,
    **options: Any,
) -> Callable[[str], Service]:
    """Return a maker of the service `name`, whose one handler notes its run, takes a while and then acts."""
    wanted = {"retries": 3, "backoff": 0.1, "backoff_cap": 0.5, "breaker": False, **options}

    def make(host: str) -> Service:
        service = Service(name, settings=world.settings)

        @service.on(on, **wanted)
        async def welcome(data: Any, ctx: Context) -> Any:
            lives = world.told.ran[ctx.task_id]
            lives.append((ctx.attempt, host))
            sometimes("a handler ran again after its worker died", len({h for _, h in lives}) > 1)
            await asyncio.sleep(random.choice(takes))
            return await act(data, ctx) if act else {"attempt": ctx.attempt}

        return service

    return make
