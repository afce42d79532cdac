"""Reads the notifications once for all webhooks and queues what they want. Any number may run: one of them queues a page."""

from __future__ import annotations

import asyncio

import redis.asyncio
import structlog
from streammesh import lua
from streammesh.keys import Keys
from streammesh.notification_log import NotificationLog
from streammesh.notifications import POSITION, Notification
from streammesh.roles import woken
from streammesh.webhooks.definition import Webhook
from streammesh.webhooks.deliveries import RoutedPage, route_call

from services.webhook_worker.directory import Directory

PAGE = 200
BLOCK_MS = 2_000
log = structlog.get_logger(__name__)
Wanted = list[tuple[Webhook, list[Notification]]]


class NotificationRouter:
    """Moves the common place of all webhooks through the stream of notifications."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        ears: redis.asyncio.Redis,
        keys: Keys,
        directory: Directory,
    ) -> None:
        self._client, self._ears, self._keys, self._directory = client, ears, keys, directory
        self._log = NotificationLog(client, keys)
        self.changed = asyncio.Event()  # the webhooks were read anew
        self.woken = asyncio.Event()  # set when something is due that was not
        self.left_behind = asyncio.Event()  # set when a webhook fell behind

    async def run(self) -> None:
        """Route for ever."""
        await self._directory.refresh()
        while True:
            if not await self.run_once():
                await self._wait()

    async def run_once(self) -> bool:
        """Route the next page; answers whether there may be more."""
        stored = await self._client.get(self._keys.webhooks_place()) or b""
        after = stored.decode("utf-8", "replace")
        if not POSITION.fullmatch(after) or not self._directory.webhooks:
            return await self._begin(stored)
        await self._directory.look_at_owners()
        page = await self._log.read(after, PAGE)
        if not page.whole:
            log.error("webhooks.missed", after=after, reason="more was said than is kept")
            if page.reached is None:  # Redis has lost what it had, and counts anew
                return await self._begin(stored)
        if page.reached is None:
            return False
        reached, wanted = self._bounded(page.notes, page.reached)
        return await self._route(stored, reached, wanted)

    async def _begin(self, after: bytes) -> bool:
        """Go to the newest position: nobody wants what is before it, or it is gone."""
        newest = await self._log.last()
        if newest.encode() != after:
            await self._route(after, newest, [])
        return False

    def _bounded(self, notes: list[Notification], reached: str) -> tuple[str, Wanted]:
        """What of a page is wanted, up to a position at which it is enough for one call."""
        count, wanted = self._directory.wanted(notes)
        return (notes[count - 1].id if count < len(notes) else reached), wanted

    async def _route(self, after: bytes, reached: str, wanted: Wanted) -> bool:
        call = route_call(self._keys, self._directory.version, after, reached, wanted)
        routed: RoutedPage = await lua.run(self._client, call)
        if routed.what == "stale":
            await self._directory.refresh()
        if routed.woken:
            self.woken.set()
        if routed.fell_behind:
            log.warning("webhooks.full", count=routed.fell_behind)
            self.left_behind.set()
        return True

    async def _wait(self) -> None:
        """Wait until something is said, or the webhooks change."""
        if not self._directory.webhooks:
            self.changed.clear()
            await woken(self.changed, BLOCK_MS / 1000)
            return
        place = await self._client.get(self._keys.webhooks_place())
        at = (place or b"").decode("utf-8", "replace")
        if POSITION.fullmatch(at):
            await self._ears.xread({self._keys.notifications(): at}, count=1, block=BLOCK_MS)
