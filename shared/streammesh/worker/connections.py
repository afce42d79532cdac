"""The clients that handlers' bookkeeping uses: one per process, thread or event loop; none per task."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import redis
import uvloop

from streammesh.redisio.blocking_connection import Blocking
from streammesh.redisio.client import open_async, open_sync
from streammesh.redisio.pipeline import Multiplexed
from streammesh.settings import MeshSettings

T = TypeVar("T")


class Connections:
    """Opens a client at first use and keeps it; a forked child opens its own."""

    def __init__(self, settings: MeshSettings, name: str) -> None:
        self._settings, self._name = settings, name
        self._sync: tuple[int, redis.Redis] | None = None
        self._threads = threading.local()  # each its own
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, Multiplexed] = WeakKeyDictionary()
        self._last: tuple[asyncio.AbstractEventLoop, Multiplexed] | None = None  # who asked before

    def sync(self) -> redis.Redis:
        """The blocking client of this process."""
        pid = os.getpid()
        if self._sync is None or self._sync[0] != pid:
            self._sync = (pid, open_sync(self._settings, self._name))
        return self._sync[1]

    def blocking(self) -> Blocking:
        """The connection of this thread for the calls that every task makes."""
        pid = os.getpid()
        kept: tuple[int, Blocking] | None = getattr(self._threads, "blocking", None)
        if kept is None or kept[0] != pid:
            kept = self._threads.blocking = (pid, Blocking(self.sync()))
        return kept[1]

    def calls(self) -> Multiplexed:
        """The connection of the running event loop that all its tasks share."""
        loop, last = asyncio.get_running_loop(), self._last
        if last is not None and last[0] is loop:
            return last[1]
        shared = self._async.get(loop)
        if shared is None:
            client = open_async(self._settings, self._name)
            shared = self._async[loop] = Multiplexed(client, self._settings.redis_timeout.total_seconds())
        self._last = (loop, shared)
        return shared

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine from synchronous code, on an event loop that this thread keeps."""
        pid = os.getpid()
        kept: tuple[int, asyncio.Runner] | None = getattr(self._threads, "runner", None)
        if kept is None or kept[0] != pid:
            kept = self._threads.runner = (pid, asyncio.Runner(loop_factory=uvloop.new_event_loop))
        return kept[1].run(coroutine)

    async def aclose(self) -> None:
        """Close what the running event loop has, and the blocking client of this process."""
        self._last = None
        shared = self._async.pop(asyncio.get_running_loop(), None)
        if shared is not None:
            await shared.aclose()
        kept, self._sync = self._sync, None
        if kept is not None and kept[0] == os.getpid():
            kept[1].close()
