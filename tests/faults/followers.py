"""Clients that are told: they follow notifications over SSE, come back when they are cut off, and keep what they saw."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

from streammesh.client import MeshClient
from streammesh.notifications import position_key


@dataclass(slots=True)
class Seen:
    """What one client was told."""

    ids: list[str] = field(default_factory=list)
    resyncs: int = 0
    slowest: float = 0.0  # seconds from a notification's own time to the moment in which the client had it


class Follower:
    """Follows everything about events of a type, from the very beginning."""

    def __init__(self, url: str, key: str, event_type: str) -> None:
        self._url, self._key, self._type = url, key, event_type
        self.seen = Seen()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async with MeshClient(self._url, api_key=self._key) as mesh:
            async for note in mesh.notifications(after="0-0", type=self._type):
                if note.type == "resync":
                    self.seen.resyncs += 1
                elif note.id:
                    self.seen.ids.append(note.id)
                    late = time.time() - position_key(note.id)[0] / 1000
                    self.seen.slowest = max(self.seen.slowest, late)

    async def stop_after(self, position: str, seconds: float) -> Seen:
        """Wait until it has seen `position`, at most so long; then end."""
        assert self._task
        deadline = time.monotonic() + seconds
        while not self._task.done() and time.monotonic() < deadline:
            if self.seen.ids and position_key(self.seen.ids[-1]) >= position_key(position):
                break
            await asyncio.sleep(0.05)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        return self.seen
