"""The part of `MeshClient` that manages webhooks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any, Unpack

from streammesh import plain_json
from streammesh.client.addresses import segment, text_of, texts_of
from streammesh.client.calls import ApiCalls
from streammesh.client.webhook_models import (
    NewWebhookSecret,
    WebhookAttempt,
    WebhookChanges,
    WebhookDeliveries,
    WebhookInfo,
)


class WebhookCalls(ApiCalls):
    """Webhooks: those of the client's key; all, with an admin key."""

    async def create_webhook(
        self,
        url: str,
        types: str | Sequence[str] = (),
        *,
        description: str = "",
        event: str | None = None,
        task: str | None = None,
        service: str | None = None,
        subject: str | None = None,
        where: str | None = None,
        ordered: bool = False,
        enabled: bool = True,
    ) -> WebhookInfo:
        """Have notifications pushed to a URL from now on; `secret` of what is returned is shown this once.

        It is not tried again when an answer is lost: each try would be another webhook, and its secret is gone.
        """
        filters = {"event": event, "task": task, "service": service, "subject": subject}
        body: dict[str, Any] = {"url": url, "types": texts_of(types), "description": description, **filters}
        body |= {"ordered": ordered, "enabled": enabled} | ({"where": where} if where else {})
        answer = await self._call("POST", "/v1/webhooks", body=plain_json.dumps_plain(body), retry_for=0)
        return self._read(WebhookInfo.of, answer)

    async def webhooks(self) -> list[WebhookInfo]:
        """Return webhooks, the oldest first."""
        answer = await self._call("GET", "/v1/webhooks")
        return self._read(lambda found: [WebhookInfo.of(one) for one in found["webhooks"]], answer)

    async def webhook(self, webhook_id: str) -> WebhookInfo:
        """Return one webhook, and how its deliveries stand."""
        return self._read(WebhookInfo.of, await self._call("GET", _path(webhook_id)))

    async def update_webhook(self, webhook_id: str, **changes: Unpack[WebhookChanges]) -> WebhookInfo:
        """Change what is given of a webhook: None takes a filter away; `enabled=True` has it go on where it stopped."""
        body: dict[str, Any] = {**changes}
        if "types" in changes:
            body["types"] = texts_of(changes["types"])
        answer = await self._call("PATCH", _path(webhook_id), body=plain_json.dumps_plain(body))
        return self._read(WebhookInfo.of, answer)

    async def delete_webhook(self, webhook_id: str) -> WebhookInfo:
        """Delete a webhook; return what it was. What waits for it is not delivered any more."""
        return self._read(WebhookInfo.of, await self._call("DELETE", _path(webhook_id)))

    async def rotate_webhook_secret(
        self, webhook_id: str, *, overlap: str | float = "24h"
    ) -> NewWebhookSecret:
        """Replace the secret; deliveries are signed with both for the overlap, 30 days at most.

        It is not tried again when an answer is lost: each try would be another secret, and the oldest is forgotten.
        """
        body = plain_json.dumps_plain({"overlap": overlap})
        answer = await self._call("POST", _path(webhook_id, "/secret"), body=body, retry_for=0)
        return self._read(NewWebhookSecret.of, answer)

    def webhook_attempts(self, webhook_id: str) -> AsyncGenerator[WebhookAttempt, None]:
        """Give what became of its deliveries, newest first, page by page."""
        return self._pages(_path(webhook_id, "/attempts"), [], "attempts", WebhookAttempt.of)

    async def replay_webhook(
        self,
        webhook_id: str,
        *,
        since: datetime | str | None = None,
        after: str | None = None,
        notifications: Sequence[str] | None = None,
    ) -> WebhookDeliveries:
        """Deliver again: all since a time or after a notification, or some by their ids. Give one of the three."""
        wanted = {"since": since and text_of(since), "after": after}
        body: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        if notifications is not None:
            body["notifications"] = texts_of(notifications)
        answer = await self._call("POST", _path(webhook_id, "/replay"), body=plain_json.dumps_plain(body))
        return self._read(WebhookDeliveries.of, answer)

    async def test_webhook(self, webhook_id: str) -> WebhookDeliveries:
        """Deliver a notification of type `webhook.test`; what came of it is among the attempts."""
        answer = await self._call("POST", _path(webhook_id, "/test"), retry_for=0)
        return self._read(WebhookDeliveries.of, answer)


def _path(webhook_id: str, more: str = "") -> str:
    return f"/v1/webhooks/{segment(webhook_id)}{more}"
