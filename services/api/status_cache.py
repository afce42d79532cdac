"""The mesh as it was a moment ago: one look at Redis serves all who ask."""

from __future__ import annotations

import asyncio
from time import monotonic

import redis.asyncio
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.status.snapshot import Snapshot, read_snapshot
from streammesh.status.trend import Trends

from services.api.read_limit import ReadLimit

FRESH_SECONDS = 1.0  # how long one look serves all who ask


class StatusCache:
    """Looks at the mesh once a second at most, however many ask. One instance per process."""

    def __init__(
        self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings, reading: ReadLimit
    ) -> None:
        self._client, self._keys, self._settings, self._reading = client, keys, settings, reading
        self._lock = asyncio.Lock()
        self._seen: tuple[float, Snapshot] | None = None
        self.trends = Trends()

    async def look(self, over: float = 0.0) -> Snapshot:
        """Return the mesh now, or a moment ago. Raises MeshUnavailable.

        `over`: have looks that lie so many seconds apart, waiting for a second one where need be, so that rates are
        known.
        """
        found = await self._look()
        if over and not self.trends.spans(over):
            await asyncio.sleep(over)
            found = await self._look(FRESH_SECONDS / 10)
        return found

    async def _look(self, fresh: float | None = None) -> Snapshot:
        fresh = FRESH_SECONDS if fresh is None else fresh
        async with self._reading(), self._lock:
            if self._seen is None or monotonic() - self._seen[0] > fresh:
                found = await read_snapshot(self._client, self._keys, self._settings)
                self._seen = monotonic(), found
                self.trends.note(*self._seen)
            return self._seen[1]
