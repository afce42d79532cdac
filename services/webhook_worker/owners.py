"""The API keys of the mesh, on whose behalf something is sent."""

from __future__ import annotations

from typing import Protocol

import structlog
from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.redisio.client import is_unavailable

log = structlog.get_logger(__name__)


class OwnerKeys(Protocol):
    """Whoever can list them."""

    async def list(self) -> list[ApiKey]:
        """Return all of them."""


class Owners:
    """The keys as they are now, or as they were when the shard that has them was last there.

    So that of several shards the others go on: while it is away nobody can revoke one either.
    """

    def __init__(self, api_keys: ApiKeys) -> None:
        self._api_keys = api_keys
        self._known: list[ApiKey] | None = None
        self._is_away = False

    async def list(self) -> list[ApiKey]:
        """Return all of them. Raises redis-py's errors where they were never read."""
        try:
            self._known = await self._api_keys.list()
        except Exception as error:
            if self._known is None or not is_unavailable(error):
                raise
            if not self._is_away:
                log.warning("owners.away", reason=str(error)[:200])
            self._is_away = True
            return self._known
        self._is_away = False
        return self._known
