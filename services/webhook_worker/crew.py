"""The roles that deliver, and how one wakes another."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import redis.asyncio
from streammesh.api_keys import ApiKeys
from streammesh.keys import Keys
from streammesh.roles import keep_on
from streammesh.webhooks.store import WebhookStore

from services.webhook_worker.courier import Courier
from services.webhook_worker.directory import Directory
from services.webhook_worker.laggards import Laggards
from services.webhook_worker.owners import OwnerKeys
from services.webhook_worker.router import NotificationRouter
from services.webhook_worker.sender import WebhookSender
from services.webhook_worker.settings import WebhookSettings


class Crew:
    """All roles of one process. `ears` is a connection that may block."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        ears: redis.asyncio.Redis,
        keys: Keys,
        settings: WebhookSettings,
        sender: WebhookSender | None = None,
        api_keys: OwnerKeys | None = None,
    ) -> None:
        self._sender = sender or WebhookSender(settings.allowed, settings.timeout.total_seconds())
        self.directory = Directory(WebhookStore(client, keys), api_keys or ApiKeys(client, keys))
        self.router = NotificationRouter(client, ears, keys, self.directory)
        self.laggards = Laggards(client, keys, self.directory)
        self.courier = Courier(client, keys, self.directory, self._sender, settings)
        self.router.woken = self.laggards.woken = self.courier.changed
        self.router.left_behind = self.laggards.changed
        self.directory.listeners += [self.router.changed, self.laggards.changed, self.courier.changed]

    def changed(self, what: str) -> None:
        """Something has changed: `webhooks`, `behind`, `due`, or `look` where that is not known."""
        if what in ("webhooks", "look"):
            self.directory.changed.set()
        if what != "due":
            self.laggards.changed.set()
        self.courier.changed.set()

    def roles(self) -> list[Coroutine[Any, Any, None]]:
        """Each role, going on for ever."""
        return [
            keep_on("directory", self.directory.run),
            keep_on("router", self.router.run),
            keep_on("laggards", self.laggards.run),
            keep_on("courier", self.courier.run),
        ]

    async def stop(self, seconds: float) -> None:
        """Let what is under way end, up to a time; the roles themselves are stopped before."""
        await self.courier.stop(seconds)
        await self._sender.close()
