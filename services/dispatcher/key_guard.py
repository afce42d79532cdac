"""Sets aside what lies under a key of the mesh with another type than it should have. Any number may run.

A script that meets such a key does it by itself; this is for the keys that are only read.
"""

from __future__ import annotations

import asyncio

import redis.asyncio
from streammesh import lua
from streammesh.key_types import type_of
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable

EVERY_SECONDS = 15.0  # one look at each of some dozen or hundred keys
AT_ONCE = 200  # keys in one call
MOST_NAMES = 10_000  # of services or domains: their lists may be garbage too


class KeyGuard:
    """Looks at every key that is not of one task or event only."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.run_once()
            await asyncio.sleep(EVERY_SECONDS)

    async def run_once(self) -> int:
        """Look once; answers how many keys were set aside."""
        keys = self._keys
        aside = await self._look(keys.of_the_mesh())
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hkeys(keys.manifests()).smembers(keys.dead_services()).smembers(keys.domains())
        pipeline.smembers(keys.holding())
        answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and is_unavailable(answer):
                raise answer
        services, dead, domains, held = (_names(answer) for answer in answers)
        names = [name for service in {*services, *dead} for name in keys.of_a_service(service)]
        names += [key for domain in domains for key in (keys.events(domain), keys.routed(domain))]
        names += [keys.held(task) for task in held]
        return aside + await self._look(names)

    async def _look(self, names: list[str]) -> int:
        aside = 0
        known = [name for name in names if type_of(name)]
        for first in range(0, len(known), AT_ONCE):
            aside += await lua.run(self._client, lua.set_aside_call(known[first : first + AT_ONCE]))
        return aside


def _names(answer: object) -> list[str]:
    if isinstance(answer, Exception) or not isinstance(answer, list | set):
        return []
    raw = [name for name in answer if isinstance(name, bytes)]
    return [name.decode() for name in raw[:MOST_NAMES] if name.isascii() and len(name) <= 256]
