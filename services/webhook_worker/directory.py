"""What this process knows of the webhooks: who wants what, and what their owners may still be told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog
from streammesh.api_keys import ApiKey
from streammesh.notifications import Notification
from streammesh.webhooks.definition import Webhook
from streammesh.webhooks.store import StoredWebhook, WebhookStore

from services.webhook_worker.owners import OwnerKeys

KEYS_KEPT_SECONDS = 3.0
MOST_REMEMBERED = 10_000  # kinds of notifications
log = structlog.get_logger(__name__)


class Directory:
    """The webhooks of the mesh as of one version, with their owners' keys as of some seconds ago."""

    def __init__(self, store: WebhookStore, api_keys: OwnerKeys) -> None:
        self._store, self._api_keys = store, api_keys
        self.version = ""
        self.webhooks: dict[str, StoredWebhook] = {}
        self._owners: dict[str, list[ApiKey]] = {}
        self._owners_read = -KEYS_KEPT_SECONDS
        self._wanting: dict[tuple[str, str, str], list[Webhook]] = {}
        self.changed = asyncio.Event()
        self.listeners: list[asyncio.Event] = []  # set after each reading

    async def run(self) -> None:
        """Read the webhooks anew whenever one has changed."""
        while True:
            self.changed.clear()
            await self.refresh()
            await self.changed.wait()

    async def refresh(self) -> None:
        """Read the webhooks anew, and their owners' keys."""
        version, found = await self._store.all()
        owners = await self._valid_keys()
        # All at once: whoever routes between two of these would route what nobody asked for.
        self.version, self.webhooks = version, {one.webhook.id: one for one in found}
        self._set_owners(owners)
        for listener in self.listeners:
            listener.set()

    async def look_at_owners(self) -> None:
        """Read the owners' keys anew where they were not for some seconds."""
        if time.monotonic() - self._owners_read > KEYS_KEPT_SECONDS:
            self._set_owners(await self._valid_keys())

    def _set_owners(self, owners: dict[str, list[ApiKey]]) -> None:
        self._owners, self._owners_read = owners, time.monotonic()
        self._wanting.clear()

    async def _valid_keys(self) -> dict[str, list[ApiKey]]:
        owners: dict[str, list[ApiKey]] = {}
        now_ms = time.time_ns() // 1_000_000
        for key in await self._api_keys.list():
            if not key.has_expired(now_ms):
                owners.setdefault(key.name, []).append(key)
        return owners

    def get(self, webhook: str) -> StoredWebhook | None:
        """One that is enabled; None for others."""
        found = self.webhooks.get(webhook)
        return found if found and found.webhook.enabled else None

    def may_be_told(self, webhook: Webhook, note: Notification) -> bool:
        """Whether it asked for this notification, and its owner may be told it now."""
        return webhook.wants(note) and self._is_allowed(webhook, note.event_type)

    def _is_allowed(self, webhook: Webhook, event_type: str) -> bool:
        return any(key.may_subscribe(event_type) for key in self._owners.get(webhook.owner, ()))

    def wanted(self, notes: Iterable[Notification]) -> dict[str, tuple[Webhook, list[Notification]]]:
        """What of these is for whom, by webhook."""
        found: dict[str, tuple[Webhook, list[Notification]]] = {}
        for note in notes:
            for webhook in self._candidates(note):
                if webhook.wants(note):
                    found.setdefault(webhook.id, (webhook, []))[1].append(note)
        return found

    def _candidates(self, note: Notification) -> list[Webhook]:
        """Those that may want a notification of its kind: asked once for each kind, not for each notification."""
        kind = note.type, note.event_type, note.service
        known = self._wanting.get(kind)
        if known is None:
            if len(self._wanting) >= MOST_REMEMBERED:
                self._wanting.clear()
            known = self._wanting[kind] = [
                one.webhook
                for one in self.webhooks.values()
                if one.webhook.enabled
                and one.webhook.wants_kind(note)
                and self._is_allowed(one.webhook, note.event_type)
            ]
        return known
