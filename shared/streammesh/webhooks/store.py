"""Webhooks in Redis: reads, stores and removes them. Each change is one script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import redis.asyncio
import structlog

from streammesh import lua
from streammesh.errors import InvalidWebhook
from streammesh.keys import Keys
from streammesh.lua.webhooks import (
    QueuedDelivery,
    QueueWebhookScript,
    RemoveWebhookScript,
    SeekWebhookScript,
    StoreWebhookScript,
)
from streammesh.notifications import Notification
from streammesh.webhooks.definition import Webhook, from_json

MOST = 5_000  # webhooks of one mesh
MOST_QUEUED = 10_000  # deliveries that wait for one webhook; what is beyond is read from the stream later
MOST_QUEUED_BYTES = 8_388_608
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredWebhook:
    """A webhook and exactly what is stored of it."""

    webhook: Webhook
    raw: bytes


@dataclass(frozen=True, slots=True)
class WebhookStanding:
    """Where a webhook stands: what waits, what failed in a row since when, and where it reads if it is behind."""

    waiting: int = 0
    delivered: int = 0
    given_up: int = 0
    failures: int = 0
    failing_since_ms: int | None = None
    behind: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptPage:
    """Attempts, newest first, and the position to go on from; None at the end."""

    attempts: list[dict[str, Any]]
    next: str | None


class WebhookStore:
    """The webhooks of one mesh."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._known: dict[
            bytes, StoredWebhook
        ] = {}  # of the last reading, so that only what changed is parsed

    async def all(self) -> tuple[str, list[StoredWebhook]]:
        """The version, and every webhook that can be read; others are stepped over, and said."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(self._keys.webhooks_version()).hgetall(
            self._keys.webhooks()
        )  # in this order: never too new
        version, stored = await pipeline.execute()
        found, known, self._known = [], self._known, {}
        for name, raw in sorted(stored.items()):
            try:
                one = known.get(name)
                if one is None or one.raw != raw:
                    one = StoredWebhook(_checked(from_json(raw), name), raw)
                found.append(one)
                self._known[name] = one
            except InvalidWebhook as error:
                log.error("webhook.unreadable", webhook=name.decode("utf-8", "replace"), reason=str(error))
        return (version or b"0").decode("utf-8", "replace"), found

    async def one(self, webhook: str) -> StoredWebhook | None:
        """One webhook. Raises InvalidWebhook for what is none."""
        raw = await self._client.hget(self._keys.webhooks(), webhook)
        return StoredWebhook(_checked(from_json(raw), webhook.encode()), raw) if raw else None

    async def put(self, webhook: Webhook, expected: bytes = b"", start: str = "0-0") -> str:
        """Store it if it still is what was read: `stored`, `moved` or `full`. A new one begins after `start`."""
        return await lua.run(self._client, store_call(self._keys, webhook, expected, start))

    async def remove(self, webhook: str) -> bool:
        """Remove it and all that waits for it; answers whether there was one."""
        keys = self._keys
        own = [keys.webhook(webhook), keys.webhook_queue(webhook), keys.webhook_entries(webhook)]
        call = RemoveWebhookScript(
            webhooks=keys.webhooks(),
            version=keys.webhooks_version(),
            due=keys.webhooks_due(),
            failing=keys.webhooks_failing(),
            behind=keys.webhooks_behind(),
            disabled=keys.webhooks_disabled(),
            webhook=webhook,
            changed=keys.webhooks_changed(),
            own=[*own, keys.webhook_attempts(webhook)],
        ).call(bool)
        return await lua.run(self._client, call)

    async def seek(self, webhook: str, position: str) -> str | None:
        """Have it told again all after a position; answers where it reads now, None for no such webhook."""
        keys = self._keys
        call = SeekWebhookScript(
            webhooks=keys.webhooks(),
            place=keys.webhooks_place(),
            behind=keys.webhooks_behind(),
            state=keys.webhook(webhook),
            webhook=webhook,
            position=position,
            changed=keys.webhooks_changed(),
        ).call(lambda answer: None if answer is None else str(answer.decode()))
        return await lua.run(self._client, call)

    async def queue(self, webhook: Webhook, bodies: Mapping[str, bytes]) -> bool | None:
        """Queue deliveries, position -> body, whatever it was told before. False: no room; None: no such webhook."""
        keys, name = self._keys, webhook.id
        call = QueueWebhookScript(
            webhooks=keys.webhooks(),
            due=keys.webhooks_due(),
            failing=keys.webhooks_failing(),
            state=keys.webhook(name),
            queue=keys.webhook_queue(name),
            entries=keys.webhook_entries(name),
            webhook=name,
            most=MOST_QUEUED,
            most_bytes=MOST_QUEUED_BYTES,
            changed=keys.webhooks_changed(),
            deliveries=[
                QueuedDelivery(delivery=webhook.delivery_of(position), position=position, body=body)
                for position, body in bodies.items()
            ],
        ).call(lambda answer: None if answer is None else bool(answer))
        return await lua.run(self._client, call)

    async def standings(self, webhooks: Sequence[str]) -> list[WebhookStanding]:
        """Where these stand; one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        for name in webhooks:
            pipeline.hgetall(self._keys.webhook(name)).zcard(self._keys.webhook_queue(name))
        answers = await pipeline.execute(raise_on_error=False)
        return [_standing(*answers[i : i + 2]) for i in range(0, len(answers), 2)]

    async def attempts(self, webhook: str, before: str | None, limit: int) -> AttemptPage:
        """The last attempts before a position (None: the newest); unreadable ones are left out."""
        key = self._keys.webhook_attempts(webhook)
        entries = await self._client.xrevrange(key, f"({before}" if before else "+", "-", limit)
        found = []
        for _, fields in entries:
            try:
                found.append(dict(orjson.loads(fields[b"a"])))
            except (ValueError, KeyError, TypeError):
                continue
        return AttemptPage(found, entries[-1][0].decode() if len(entries) == limit else None)


def store_call(keys: Keys, webhook: Webhook, expected: bytes, start: str) -> lua.Call[str]:
    """`store_webhook.lua`: as `WebhookStore.put`, for a shard that has these keys."""
    why = orjson.dumps({"reason": webhook.disabled_why, "url": webhook.url}) if webhook.disabled_why else b""
    return StoreWebhookScript(
        webhooks=keys.webhooks(),
        version=keys.webhooks_version(),
        place=keys.webhooks_place(),
        due=keys.webhooks_due(),
        failing=keys.webhooks_failing(),
        behind=keys.webhooks_behind(),
        disabled=keys.webhooks_disabled(),
        state=keys.webhook(webhook.id),
        queue=keys.webhook_queue(webhook.id),
        webhook=webhook.id,
        expected=expected,
        definition=webhook.to_json(),
        enabled=webhook.enabled,
        why=why,
        start=start,
        most=MOST,
        changed=keys.webhooks_changed(),
    ).call(lambda answer: str(answer.decode()))


def body_of(note: Notification) -> bytes:
    """What is delivered of a notification: the same JSON as over server-sent events."""
    return note.to_json()


def _checked(webhook: Webhook, name: bytes) -> Webhook:
    if webhook.id.encode() != name:
        raise InvalidWebhook("it lies under another id than its own")
    return webhook


def _standing(state: Any, waiting: Any) -> WebhookStanding:
    if isinstance(state, Exception) or isinstance(waiting, Exception):
        return WebhookStanding()

    def number(name: bytes) -> int:
        text = state.get(name, b"0")
        return int(text) if text.isdigit() and len(text) < 19 else 0

    behind = state.get(b"behind")
    return WebhookStanding(
        waiting=waiting,
        delivered=number(b"delivered"),
        given_up=number(b"given_up"),
        failures=number(b"failures"),
        failing_since_ms=number(b"since") or None,
        behind=behind.decode("utf-8", "replace") if behind else None,
    )
