"""Disables webhooks that do not work, and says so: in the log, in `GET /v1/webhooks`, in `streammesh status`."""

from __future__ import annotations

from dataclasses import replace

import structlog
from streammesh.webhooks.store import StoredWebhook, WebhookStore

log = structlog.get_logger(__name__)


async def give_up(store: WebhookStore, stored: StoredWebhook, why: str) -> bool:
    """Disable it, unless it was changed meanwhile; what waits for it waits until somebody enables it again."""
    disabled = replace(stored.webhook, enabled=False, disabled_why=why)
    if await store.put(disabled, stored.raw) != "stored":
        return False
    log.error("webhook.disabled", webhook=stored.webhook.id, reason=why)
    return True
