"""Ends the streams of keys that are worth nothing any more, in the middle of the past too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from streammesh.api_keys import ApiKeys
from streammesh.clock import to_ms
from streammesh.errors import MeshUnavailable

from services.api.push.hub import Hub
from services.api.read_limit import ReadLimit
from services.api.settings import ApiSettings

log = structlog.get_logger(__name__)


class RevocationWatch:
    """Asks about the keys of all open streams at once, however many streams there are. One per process."""

    def __init__(
        self, api_keys: ApiKeys, hubs: Sequence[Hub], reading: ReadLimit, settings: ApiSettings
    ) -> None:
        self._api_keys, self._hubs, self._reading = api_keys, hubs, reading
        # A stream that is stuck in sending is given a second; all of it within the lifetime of a key.
        self._seconds = min(settings.key_refresh, settings.key_lifetime / 2).total_seconds()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.run_once()
            except MeshUnavailable:
                pass  # while Redis is away nothing is said against a key
            except Exception:
                log.exception("api_keys.watch_failed")

    async def run_once(self) -> None:
        """Look once. Raises MeshUnavailable."""
        digests = list({digest for hub in self._hubs for digest in hub.digests()})
        if digests:
            now_ms = to_ms(datetime.now(UTC))
            async with self._reading():
                valid = await self._api_keys.valid_of(digests, now_ms)
            for hub in self._hubs:
                hub.revoke(valid, now_ms)
