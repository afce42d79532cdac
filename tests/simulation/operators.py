"""People and programs at the side: errands, each done again until it is answered, whoever is struck meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import redis.asyncio
from streammesh.errors import MeshError, MeshUnavailable
from streammesh.redisio.client import is_unavailable, open_async

from tests.simulation.world import Errands, World

Errand = Callable[[redis.asyncio.Redis], Awaitable[Any]]


class NotYet(Exception):
    """The errand is to be done again: what it waits for has not come about."""


def operator(world: World, errands: Sequence[Errand], pause: float = 0.05) -> Callable[[str], Any]:
    """Return a role that goes through the errands in order; the world does not settle before they are done.

    An errand that was answered is not done again by the next life of the process; one that was not answered is, as a
    person would do it. So each has to bear being done twice.
    """
    own = Errands(errands)
    world.errands.append(own)

    async def role(host: str) -> None:
        client = open_async(world.settings, "operator")
        while own.todo or world.striker.may_forget():
            if own.todo:
                await act(client)
            await asyncio.sleep(pause if own.todo else 0.2)

    async def act(client: redis.asyncio.Redis) -> None:
        losses, errand = len(world.losses), own.todo[0]
        try:
            await errand(client)
        except Exception as error:
            if isinstance(error, MeshError) and not isinstance(error, MeshUnavailable) and world.losses:
                own.answered()  # that it cannot be done any more is an answer, where something was forgotten
                return
            if not (is_unavailable(error) or isinstance(error, MeshUnavailable | NotYet)):
                raise
            await asyncio.sleep(0.1)
        else:
            if losses == len(world.losses) and own.todo[:1] == [errand]:
                own.answered()

    return role


def wait(seconds: float) -> Errand:
    """Return an errand that takes a while and asks nothing."""

    async def errand(client: redis.asyncio.Redis) -> None:
        await asyncio.sleep(seconds)

    return errand
