"""Shows that this API process is there, and so knows, without asking when asked, whether Redis answers."""

from __future__ import annotations

import asyncio

import redis.asyncio
from streammesh import lua
from streammesh.health import Pulse
from streammesh.keys import Keys
from streammesh.redisio.heartbeat import life_call, process_name, show_life
from streammesh.roles import keep_on

ROLE = "api"
SECONDS = 1.0  # between two signs of life: how soon it is noticed that Redis is away
LATE = 1.5  # beyond that an answer is overdue


class Presence:
    """The signs of life of one API process. One instance per process."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, timeout: float) -> None:
        self._client, self._keys, self._timeout = client, keys, timeout
        self._pulse = Pulse()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Give a first sign, so that whoever asks at once is answered rightly, and go on."""
        try:
            async with asyncio.timeout(self._timeout):
                await lua.run(self._client, life_call(self._keys, ROLE, process_name(ROLE)))
            self._pulse.beat()
        except Exception as error:
            self._pulse.rest(f"does not answer: {type(error).__name__}")
        self._task = asyncio.create_task(keep_on("presence", self._show))

    async def _show(self) -> None:
        await show_life(self._client, self._keys, ROLE, self._pulse, SECONDS)

    def why_not_ready(self) -> str | None:
        """Return what to say while Redis does not answer."""
        return self._pulse.waits(SECONDS + LATE)

    async def end(self) -> None:
        """Take the name off the list."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
