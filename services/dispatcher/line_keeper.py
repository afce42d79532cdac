"""Looks after subscriptions with flow control: new limits count, what waits goes on, no place is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.keys import Keys
from streammesh.lines.upkeep import BEGIN, Tended, tend_call
from streammesh.redisio.answers import there
from streammesh.redisio.client import is_unavailable
from streammesh.roles import woken
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import read_registered

log = structlog.get_logger(__name__)
LONGEST_SLEEP = 15.0  # seconds; what a kill or somebody's hand left is mended then
PAGES = 10  # of one line in one look, so that a long one costs no more than a short one
NONE = b"{}"  # limits of a subscription that declares none any more


class LineKeeper:
    """Looks when it is told of a change, and now and then all the same. Any number may run."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self.changed = asyncio.Event()
        self._at: dict[str, tuple[bytes, bytes]] = {}  # where to look on in a long line

    async def run(self) -> None:
        """Look after them for ever."""
        while True:
            self.changed.clear()
            await self.look()
            await woken(self.changed, LONGEST_SLEEP)

    async def look(self) -> None:
        """Look after every subscription once."""
        found = await read_registered(self._client, self._keys)
        limits = limits_of(found.manifests)
        known = there(await self._members(), set())
        for task in sorted({*limits, *(name.decode("utf-8", "replace") for name in known)}):
            service = task.partition(".")[0]
            declared = None if service in found.broken else limits.get(task, NONE)
            try:
                await self._tend(task, declared)
            except ResponseError as error:
                if is_unavailable(error):
                    raise
                log.error("flow.unreadable", subscription=task, reason=str(error)[:200])

    async def _members(self) -> object:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.smembers(self._keys.flows())
        return (await pipeline.execute(raise_on_error=False))[0]

    async def _tend(self, task: str, declared: bytes | None) -> None:
        line, places = self._at.pop(task, (BEGIN, BEGIN))
        started = freed = mended = pages = 0
        while True:
            call = tend_call(self._keys, task, declared, line_from=line, places_from=places)
            done: Tended = await lua.run(self._client, call)
            started, freed, mended = started + done.started, freed + done.freed, mended + done.mended
            line, places = done.line_at, done.places_at
            pages += 1
            if not (line or places or done.more):
                break
            if pages >= PAGES and not done.more:
                self._at[task] = line, places
                break
        if started or freed or mended:
            log.info("flow.mended", subscription=task, started=started, freed=freed, mended=mended)


def limits_of(manifests: Iterable[Manifest]) -> dict[str, bytes]:
    """The limits of every subscription that has any, by the name of its task."""
    return {
        one.task: one.flow.limits
        for manifest in manifests
        for one in manifest.subscriptions
        if one.flow is not None
    }
