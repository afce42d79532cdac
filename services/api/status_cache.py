"""The mesh as it was a moment ago: one look at Redis serves all who ask."""

from __future__ import annotations

import asyncio
from time import monotonic

import redis.asyncio
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.status.snapshot import Snapshot, read_snapshot

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

    async def look(self) -> Snapshot:
        """Return the mesh now, or a moment ago. Raises MeshUnavailable."""
        async with self._reading(), self._lock:
            if self._seen is None or monotonic() - self._seen[0] > FRESH_SECONDS:
                found = await read_snapshot(self._client, self._keys, self._settings)
                self._seen = monotonic(), found
            return self._seen[1]
