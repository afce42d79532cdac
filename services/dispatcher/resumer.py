"""Queues what was set aside while a subscription was paused, once it is resumed and there is room."""

from __future__ import annotations

import asyncio

import redis.asyncio
import structlog
from streammesh.keys import Keys
from streammesh.roles import woken
from streammesh.tasks.pause import HeldTasks, read_paused

log = structlog.get_logger(__name__)
LONGEST_SLEEP = 5.0  # seconds; a change that was told in a moment of no connection is seen then
FULL_WAIT = 0.2  # seconds between two looks at a queue that is full


class Releaser:
    """Looks when it is told of a change, and now and then all the same. Any number may run."""

    def __init__(self, holding: HeldTasks, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._holding, self._client, self._keys = holding, client, keys
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Release for ever."""
        while True:
            self.changed.clear()
            left = await self.release()
            await woken(self.changed, FULL_WAIT if left else LONGEST_SLEEP)

    async def release(self) -> bool:
        """Release what there is room for; answers whether something of resumed subscriptions is left."""
        left = False
        waiting_by_name = await self._holding.waiting()
        paused = await read_paused(self._client, self._keys) if waiting_by_name else {}
        for name, waiting in waiting_by_name.items():
            if name in paused:
                continue
            released = 0
            while count := await self._holding.release(name):
                released += count
            if released:
                log.info("tasks.released", subscription=name, count=released)
            left = left or released < waiting
        return left
