"""The gauges that are set as Prometheus asks: the mesh as a whole, and this process's streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streammesh.settings import MeshSettings
from streammesh.status import gauges
from streammesh.status.snapshot import Snapshot
from streammesh.telemetry import catalogue

from services.api.push.hub import Hub
from services.api.status_cache import StatusCache

LOOK_SECONDS = 3.0  # that the mesh may take to answer; a scrape goes on without it


class MeshGauges:
    """Made on the API's loop, asked from other threads."""

    def __init__(self, shards: Sequence[tuple[StatusCache, Hub]], settings: MeshSettings) -> None:
        self._shards, self._settings = shards, settings
        self._loop = asyncio.get_running_loop()

    def measure(self) -> None:
        """Look at the mesh and set its gauges. Raises where it cannot be told; then they are gone."""
        catalogue.PUSH_STREAMS.set(
            max(hub.open_streams for _, hub in self._shards)
        )  # one stream is in each hub
        looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)
        try:
            gauges.show(looking.result(LOOK_SECONDS), self._settings)
        except Exception:
            looking.cancel()
            gauges.hide()
            raise

    async def _look(self) -> list[Snapshot]:
        return list(await asyncio.gather(*(status.look() for status, _ in self._shards)))
