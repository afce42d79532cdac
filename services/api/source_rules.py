"""Whose name an event may carry: a key publishes under its own sources, and services' names belong to services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

import redis.asyncio
from streammesh import names
from streammesh.api_keys import ApiKey
from streammesh.errors import MeshUnavailable
from streammesh.keys import Keys

from services.api.log_context import without_request
from services.api.problems import Problem
from services.api.read_limit import ReadLimit

REFRESH_SECONDS = 2.0


class SourceRules:
    """Knows the names of the mesh's services, as they were a moment ago. One instance per process.

    What services publish themselves has ids that are derived from their tasks and schedules, and can be foretold:
    under a service's name somebody else could be there first.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        reading: ReadLimit,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._client, self._key, self._reading, self._now = client, keys.manifests(), reading, now
        self._services: frozenset[str] | None = None
        self._read_at = 0.0
        self._refreshing: asyncio.Task[None] | None = None

    async def check(self, key: ApiKey, sources: Iterable[str]) -> None:
        """Raises Problem (403) unless all these sources are the key's; MeshUnavailable before the first look."""
        services = self._services
        if services is None:
            services = await self._read()
        elif self._now() - self._read_at > REFRESH_SECONDS and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(), context=without_request())
        for source in sources:
            if not key.may_publish_as(source):
                own = ", ".join(repr(glob) for glob in (key.name, *key.sources))
                raise Problem(
                    "forbidden",
                    f"The key {key.name!r} may not publish under the source {source[:100]!r}; its own: {own}.",
                )
            if (source in services or source == names.MESH) and not key.claims(source):
                raise Problem(
                    "forbidden",
                    f"The source {source!r} is a service of the mesh, which publishes under it itself.",
                )

    async def _read(self) -> frozenset[str]:
        async with self._reading():
            found = await self._client.hkeys(self._key)
        self._services = frozenset(name.decode("utf-8", "replace") for name in found)
        self._read_at = self._now()
        return self._services

    async def _refresh(self) -> None:
        try:
            await self._read()
        except MeshUnavailable:
            self._read_at = self._now()  # then with what is known
        finally:
            self._refreshing = None

    async def aclose(self) -> None:
        """End the look that is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
