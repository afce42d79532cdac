"""Webhooks that are behind: each reads the notifications at a place of its own until it has caught up.

New ones are, those that were replayed or enabled again, and those for which there was no room.
"""

from __future__ import annotations

import asyncio

import redis.asyncio
import structlog
from streammesh import lua
from streammesh.keys import Keys
from streammesh.notification_log import NotificationLog
from streammesh.notifications import POSITION, position_key
from streammesh.roles import woken
from streammesh.webhooks.deliveries import catch_up_call
from streammesh.webhooks.store import MOST_QUEUED

from services.webhook_worker.directory import Directory

PAGE = 500
ROOM = MOST_QUEUED // 2  # a webhook goes on when this much of its queue is free
LONGEST_SLEEP = 2.0
FULL_WAIT = 0.5
log = structlog.get_logger(__name__)


class Laggards:
    """Leads webhooks that are behind up to the others. Any number may run."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, directory: Directory) -> None:
        self._client, self._keys, self._directory = client, keys, directory
        self._log = NotificationLog(client, keys)
        self.changed = asyncio.Event()
        self.woken = asyncio.Event()

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            self.changed.clear()
            left = await self.run_once()
            await woken(self.changed, FULL_WAIT if left else LONGEST_SLEEP)

    async def run_once(self) -> bool:
        """Lead each a page on; answers whether some are still behind."""
        behind = [
            name.decode("utf-8", "replace")
            for name in await self._client.smembers(self._keys.webhooks_behind())
        ]
        left = False
        for name in sorted(behind):
            while (what := await self._lead(name)) == "on":
                continue
            left = left or what not in ("joined", "off")
        return left

    async def _lead(self, name: str) -> str:
        """One page of one webhook; answers as the script does, `full` where it was not even tried."""
        if self._directory.get(name) is None:
            return "off"  # it is disabled, or newer than what was read
        keys = self._keys
        pipeline = self._client.pipeline(transaction=False)
        pipeline.zcard(keys.webhook_queue(name)).hget(keys.webhook(name), "behind")
        pipeline.get(keys.webhooks_place())
        waiting, stands, place = await pipeline.execute()
        if stands is None or waiting > MOST_QUEUED - ROOM:
            return "full" if stands else "joined"
        begin = stands.decode("utf-8", "replace")
        begin = begin if POSITION.fullmatch(begin) else "0-0"
        page = await self._log.read(begin, PAGE)
        if not page.whole and position_key(begin) != (0, 0):
            log.error("webhook.missed", webhook=name, after=begin, reason="more was said than is kept")
        reached = page.reached or begin
        common = (place or b"").decode("utf-8", "replace")
        if page.reached is None:
            if not POSITION.fullmatch(common):
                return "waits"  # there is no common place that it could join; the router makes one
            reached = max(begin, common, key=position_key)
        await self._directory.look_at_owners()
        # What it wants and the version at which it does are taken together: nothing is awaited between here and the call.
        found = self._directory.get(name)
        if found is None:
            return "off"
        notes = [note for note in page.notes if self._directory.may_be_told(found.webhook, note)]
        call = catch_up_call(keys, self._directory.version, found.webhook, stands, reached, notes)
        what = await lua.run(self._client, call)
        if what == "stale":
            await self._directory.refresh()
        if notes:
            self.woken.set()
        return "on" if what == "stale" else what
