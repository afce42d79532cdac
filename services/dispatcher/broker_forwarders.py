"""Keeps one forwarder running per queue, where Celery's tasks travel over another broker.

Each is a thread of its own: what talks to brokers blocks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import redis.asyncio
import structlog
from streammesh.brokers.forwarder import Forwarder
from streammesh.keys import Keys
from streammesh.roles import woken
from streammesh.subscriptions.registry import read_manifests

log = structlog.get_logger(__name__)
LOOK_SECONDS = 5.0  # between looks at the manifests, besides when they change
STOP_SECONDS = 5.0


class Forwarders:
    """All forwarders of one dispatcher process; `make` makes the one of a queue."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, make: Callable[[str], Forwarder]) -> None:
        self._client, self._keys, self._make = client, keys, make
        self._running: dict[str, tuple[Forwarder, threading.Thread]] = {}
        self._stopped = False
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Start what is missing, for ever. A service that left keeps its forwarder: what is queued may be left too."""
        while True:
            self.changed.clear()
            for manifest in await read_manifests(self._client, self._keys):
                for queue in manifest.queue_names:
                    if queue not in self._running:
                        self._start(queue)
            await woken(self.changed, LOOK_SECONDS)

    def _start(self, queue: str) -> None:
        forwarder = self._make(queue)
        thread = threading.Thread(target=forwarder.run, name=f"forwarder {queue}", daemon=True)
        self._running[queue] = (forwarder, thread)
        thread.start()

    def dead(self) -> str | None:
        """Return what to say when a forwarder's thread has ended by itself."""
        dead = [name for name, (_, thread) in self._running.items() if not thread.is_alive()]
        return f"the forwarder of {', '.join(sorted(dead))} has ended" if dead and not self._stopped else None

    async def stop(self) -> None:
        """Stop them all; what was read and not sent is given back."""
        self._stopped = True
        for forwarder, _ in self._running.values():
            forwarder.stop()
        for _, thread in self._running.values():
            await asyncio.to_thread(thread.join, STOP_SECONDS)
