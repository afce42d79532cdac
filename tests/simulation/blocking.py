"""Blocking code on the simulated loop: it runs in a greenlet, and waits where it asks Redis.

So Beat's ticker and what parks a queue entry, which are written for blocking connections, are simulated unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis.asyncio
from greenlet import getcurrent, greenlet


class BlockingClient:
    """What `lua.run_sync` needs, answered by an asyncio client of the same loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    def execute_command(self, *command: Any) -> Any:
        """Return the answer. Only within `on_this_loop`."""
        return getcurrent().parent.switch(self._client.execute_command(*command))  # type: ignore[union-attr]


async def on_this_loop(function: Callable[..., Any], *args: Any) -> Any:
    """Run blocking code to its end, awaiting on its behalf whatever it asks."""
    child = greenlet(function)
    asked = child.switch(*args)
    while not child.dead:
        try:
            answer = await asked
        except BaseException as error:
            asked = child.throw(error)
        else:
            asked = child.switch(answer)
    return asked
