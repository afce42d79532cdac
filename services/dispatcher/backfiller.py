"""Hands the past over to services that asked for it: page by page, beside what comes live, at the rate that was asked for.

One dispatcher works on a backfill at a time, to save work; when it dies another goes on from the position that Redis keeps.
It waits where the service's queue is half full, where Redis is at its mark, and while the history is away.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.backfill.page_plan import (
    HandedPage,
    PagePlanner,
    PageVerdict,
    SoughtDeliveries,
    backfill_call,
)
from streammesh.backfill.past import Archive, HistoryAway, Past
from streammesh.backfill.record import Backfill, Backfills
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.roles import woken
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Routes
from streammesh.subscriptions.registry import read_registered
from streammesh.tasks.pause import read_paused

from services.dispatcher.delivery_plan import Encode
from services.dispatcher.settings import DispatcherSettings

log = structlog.get_logger(__name__)
TURN = timedelta(seconds=3)  # how long after a dispatcher fell silent another one goes on
LOOK_EVERY = 5.0  # seconds; a change that was told in a moment of no connection is seen then
BUSY_WAIT, LANE_WAIT, MEMORY_WAIT, AWAY_WAIT = 0.2, 0.1, 0.5, 2.0  # seconds until it tries again
TASTE = 0.25  # seconds' worth of tasks in one call, so that a slow rate comes evenly
NOT_TOLD = "no dispatcher is told where the history is (MESH_HISTORY_URL)"
WAITS = {
    PageVerdict.FULL: ("Redis has no room for more tasks", MEMORY_WAIT),
    PageVerdict.BUSY: ("its queue is half full", BUSY_WAIT),
    PageVerdict.LANE: ("its lane is handing over what is next", LANE_WAIT),
}


class Backfiller:
    """Works on every backfill that nobody else works on. Any number may run."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        own: DispatcherSettings,
        encode: Encode,
        name: str,
        turn: timedelta = TURN,
    ) -> None:
        self._client, self._keys, self._settings, self._own = client, keys, settings, own
        self._name, self._turn = name, turn
        self._backfills, self._planner = (
            Backfills(client, keys),
            PagePlanner(client, keys, settings, encode),
        )
        self._archive = Archive(settings.history_url) if settings.history_url else None
        self._routes, self._broken = Routes([]), frozenset[str]()
        self._pasts: dict[str, Past] = {}
        self._not_before: dict[str, float] = {}  # by backfill, of the loop's clock
        self._said: dict[str, str] = {}  # what it waits for
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Hand over for ever."""
        while True:
            self.changed.clear()
            wait = await self.run_once()
            await woken(self.changed, wait)

    def close(self) -> None:
        """Let go of the history."""
        if self._archive is not None:
            self._archive.close()

    async def run_once(self) -> float:
        """Hand one page of each backfill over; answers for how many seconds there is nothing to do."""
        running = await self._backfills.running()
        for known in (self._pasts, self._not_before, self._said):
            for gone in known.keys() - set(running.values()):
                del known[gone]
        wait, now = LOOK_EVERY, asyncio.get_running_loop().time
        for service, backfill_id in running.items():
            if self._not_before.get(backfill_id, 0.0) <= now():
                pause = await self._step(service, backfill_id)
                self._not_before[backfill_id] = now() + pause
            wait = min(wait, max(0.0, self._not_before[backfill_id] - now()))
        return wait

    async def _step(self, service: str, backfill_id: str) -> float:
        """As `_page`; what goes wrong with one backfill stops no other."""
        try:
            return await self._page(service, backfill_id)
        except HistoryAway as error:
            await self._wait_for(backfill_id, str(error))
            return AWAY_WAIT
        except Exception as error:
            if is_unavailable(error):
                raise
            log.exception("backfill.failed", backfill=backfill_id, service=service)
            reason = f"Redis refuses it: {error}" if isinstance(error, ResponseError) else repr(error)
            await self._wait_for(backfill_id, reason[:300])
            return LOOK_EVERY

    async def _page(self, service: str, backfill_id: str) -> float:
        """Hand one page over; answers after how many seconds the next one is due."""
        backfill = await self._backfills.take(backfill_id, service, self._name, self._turn)
        if backfill is None:
            return self._turn.total_seconds()
        if self._settings.has_history and self._archive is None:
            raise HistoryAway(NOT_TOLD)
        if service not in self._routes.services:
            await self._look_again()
        routes = self._routes
        if service not in routes.services and service not in self._broken:
            await self._backfills.stop(backfill_id, service, "its service was removed")
            log.info("backfill.ended", backfill=backfill_id, service=service, state="stopped")
            return 0.0
        past = self._pasts.get(backfill_id)
        if past is None:
            past = self._pasts[backfill_id] = Past(
                self._client, self._keys, self._archive, backfill.pattern, backfill.before, self._own.batch
            )
        most = self._own.batch if backfill.rate is None else max(1, int(backfill.rate * TASTE))
        page = await past.page(backfill.position)
        which = SoughtDeliveries(service, backfill.pattern, backfill.task, backfill.again)
        plan = await self._planner.plan(past, page, routes, which, most)
        paused = await read_paused(self._client, self._keys)
        call = backfill_call(self._keys, self._settings, backfill, plan, paused, routes.version)
        done = await lua.run(self._client, call)
        if done.verdict is PageVerdict.STALE:
            await self._look_again()
        if done.verdict is PageVerdict.DONE and plan.ends is None:
            log.info("backfill.ended", backfill=backfill_id, service=service, state="done")
        return await self._after(backfill, done)

    async def _look_again(self) -> None:
        found = await read_registered(self._client, self._keys)
        self._routes, self._broken = Routes(found.manifests, found.version, found.joined), found.broken

    async def _after(self, backfill: Backfill, done: HandedPage) -> float:
        if done.verdict in WAITS:
            words, wait = WAITS[done.verdict]
            await self._wait_for(backfill.id, words)
            return wait
        self._said.pop(backfill.id, None)
        return done.wait_ms / 1000

    async def _wait_for(self, backfill_id: str, words: str) -> None:
        if self._said.get(backfill_id) != words:
            self._said[backfill_id] = words
            log.info("backfill.waits", backfill=backfill_id, reason=words)
            await self._backfills.note(backfill_id, words)
