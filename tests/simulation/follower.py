"""Clients who follow: the API's own hub, connections that break, `Last-Event-ID` to go on from."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from streammesh.api_keys import ApiKey
from streammesh.errors import MeshUnavailable
from streammesh.notification_log import NotificationLog
from streammesh.notifications import Filter
from streammesh.redisio.client import open_async
from streammesh.redisio.page_size import PageSize

from services.api.push.hub import Hub
from services.api.push.told import Missed
from services.api.read_limit import ReadLimit
from services.api.settings import ApiSettings
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.world import World

PAGE = 2  # of the past, so that it takes several while more is told
declare(
    "a follower resumed",
    "a follower met a Redis that was away",
)


def follower(world: World, *, trims: bool = False) -> Callable[[str], Any]:
    """Return a role: an API process with one follower, whose connection breaks now and then.

    `trims`: notifications may be gone before it could have them; then it has to be told so, as where the server has
    forgotten the one it had last.

    What it got is kept by the client outside (`told.followed`), so it survives the process.
    """

    async def role(host: str) -> None:
        settings = ApiSettings(_env_file=None)
        client = open_async(world.settings, "api")
        blocking = open_async(world.settings, "api-hub", blocking=True)
        hub = Hub(NotificationLog(client, world.keys), blocking, world.keys, settings, ReadLimit(1.0), 1.0)
        hub._catch_up._look = PageSize(PAGE)
        key = ApiKey("k", (), ("*",), False)
        got = world.told.followed["follower"]
        while True:
            listener = hub.open(key, Filter())
            try:
                after = got[-1] if got else "0-0"
                sometimes("a follower resumed", bool(got))
                async for told in hub.attach(listener, after):
                    note_down(world, got, told, trims)
                for _ in range(random.randint(1, 6)):
                    note_down(world, got, await listener.take(0.5), trims)
                    if listener.ended:
                        break
            except MeshUnavailable:
                sometimes("a follower met a Redis that was away")
                await asyncio.sleep(0.1)
            finally:
                hub.close(listener)

    return role


def note_down(world: World, got: list[str], told: list[Any], trims: bool) -> None:
    """Keep what came, as a client keeps the last id it saw."""
    for one in told:
        if isinstance(one, Missed):
            assert trims or world.losses, (
                f"told that it missed something after {one.after}: nothing is trimmed here"
            )
            world.told.missed.append(len(got))
            continue
        got.append(one.note.id)
