"""A forwarder whose thread has ended by itself is said on `/livez`; one that was stopped is not."""

from __future__ import annotations

import threading
from typing import Any, cast

from streammesh.testing.conditions import wait_until

from services.dispatcher.broker_forwarders import Forwarders


class Ends:
    """A forwarder that ends when it is told to, or by itself."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def run(self) -> None:
        self.over.wait(5)

    def stop(self) -> None:
        self.over.set()


async def test_a_forwarder_that_ends_by_itself_is_dead(mesh_redis, mesh_keys):
    made = Ends()
    forwarders = Forwarders(mesh_redis, mesh_keys, lambda service: cast("Any", made))
    forwarders._start("mail")
    assert forwarders.dead() is None
    made.over.set()

    async def dead() -> str | None:
        return forwarders.dead()

    assert await wait_until("its end is seen", dead) == "the forwarder of mail has ended"
    await forwarders.stop()
    assert forwarders.dead() is None
