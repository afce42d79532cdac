"""Webhooks of a mesh of any number of shards: each is in the first, with a copy in every other one.

Each shard tells its copy what happens there. A change is made in the first shard, and brought to the others; where one
of them is away the change is refused with 503, and the same request does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from streammesh.errors import InvalidWebhook
from streammesh.notifications import position_key
from streammesh.webhooks.definition import Webhook
from streammesh.webhooks.store import AttemptPage, StoredWebhook, WebhookStanding, WebhookStore

from services.api.problems import Problem
from services.api.shards.joined_answers import AT_ITS_END, joined_cursor, joined_position, split_cursor
from services.api.state import Wiring

TRIES = 5  # of bringing a change to the others, while somebody else makes another
T = TypeVar("T")


class WebhookCopies:
    """As `WebhookStore`, over all shards; with one shard it is that one's."""

    def __init__(self, wirings: Sequence[Wiring]) -> None:
        self._wirings = wirings
        self._stores = [WebhookStore(wiring.redis, wiring.keys) for wiring in wirings]

    async def _each(self, ask: Callable[[int], Awaitable[T]], first: int = 0) -> list[T]:
        async def asked(number: int) -> T:
            async with self._wirings[number].reading():
                return await ask(number)

        return list(await asyncio.gather(*map(asked, range(first, len(self._stores)))))

    async def all(self) -> list[Webhook]:
        """Return every webhook that can be read; disabled where any shard has disabled it."""
        async with self._wirings[0].reading():
            _, stored = await self._stores[0].all()
        found = [one.webhook for one in stored]
        if len(self._stores) == 1:
            return found
        others = await self._each(lambda n: self._stores[n].all(), first=1)
        disabled = {
            one.webhook.id: one.webhook.disabled_why
            for _, copies in others
            for one in copies
            if not one.webhook.enabled
        }
        return [
            replace(one, enabled=False, disabled_why=disabled[one.id])
            if one.enabled and one.id in disabled
            else one
            for one in found
        ]

    async def one(self, webhook: str) -> StoredWebhook | None:
        """Return one webhook, and what the first shard has stored of it. Raises InvalidWebhook."""
        stored, *copies = await self._each(lambda n: self._readable(n, webhook))
        if stored is None:
            async with self._wirings[0].reading():
                return await self._stores[0].one(webhook)
        off = next((copy.webhook for copy in copies if copy and not copy.webhook.enabled), None)
        if off is None or not stored.webhook.enabled:
            return stored
        shown = replace(stored.webhook, enabled=False, disabled_why=off.disabled_why)
        return StoredWebhook(shown, stored.raw)

    async def make(self, webhook: Webhook) -> str:
        """Store a new one, which begins now: `stored` or `full`."""
        starts = await self._each(
            lambda n: self._wirings[n].log.last()
        )  # so that one that is away refuses it
        async with self._wirings[0].reading():
            stored = await self._stores[0].put(webhook, start=starts[0])
        if stored == "stored" and len(self._stores) > 1:
            try:
                await self._bring(webhook.id, starts)
            except BaseException:
                await asyncio.shield(asyncio.gather(*self._removals(webhook.id), return_exceptions=True))
                raise
        return stored

    async def change(self, webhook: Webhook, expected: bytes) -> str:
        """Store a change of one, if it still is what was read: `stored` or `moved`."""
        async with self._wirings[0].reading():
            stored = await self._stores[0].put(webhook, expected)
        if stored == "stored" and len(self._stores) > 1:
            await self._bring(webhook.id, await self._each(lambda n: self._wirings[n].log.last()))
        return stored

    async def remove(self, webhook: str) -> None:
        """Remove it, in the first shard last: while one is away it is still there to be removed."""
        for number in reversed(range(len(self._stores))):
            async with self._wirings[number].reading():
                await self._stores[number].remove(webhook)

    async def seek(self, webhook: str, places: Sequence[str]) -> str | None:
        """Have it told again all after a place in each shard; answers where it reads now, None for no such webhook."""
        reads = await self._each(lambda n: self._stores[n].seek(webhook, places[n]))
        known = [one for one in reads if one is not None]
        return joined_position(known) if len(known) == len(reads) else None

    async def newest(self) -> list[str]:
        """Return the last position of each shard."""
        return await self._each(lambda n: self._wirings[n].log.last())

    async def queue(self, webhook: Webhook, bodies: Mapping[int, Mapping[str, bytes]]) -> bool | None:
        """Queue deliveries, by shard; False where one has no room, None where one knows no such webhook."""
        for number, some in bodies.items():
            async with self._wirings[number].reading():
                queued = await self._stores[number].queue(self.copy(webhook, number), some) if some else True
            if not queued:
                return queued
        return True

    async def standings(self, webhooks: Sequence[str]) -> list[WebhookStanding]:
        """Return where these stand: what is counted is added up."""
        each = await self._each(lambda n: self._stores[n].standings(webhooks))
        return [_added(some) for some in zip(*each, strict=True)] if webhooks else []

    async def attempts(self, webhook: str, before: str | None, limit: int) -> AttemptPage:
        """Return the last attempts, of each shard its share, and where to go on. Raises ValueError for a wrong place."""
        places = split_cursor(before, len(self._stores))
        share = -(-limit // max(1, sum(place != AT_ITS_END for place in places)))

        async def page(number: int) -> AttemptPage:
            place = places[number]
            if place == AT_ITS_END:
                return AttemptPage([], None)
            return await self._stores[number].attempts(webhook, place, share)

        pages = await self._each(page)
        found = [one for page in pages for one in page.attempts]
        if len(pages) > 1:
            found.sort(key=lambda one: str(one.get("at")), reverse=True)
        return AttemptPage(found, joined_cursor([page.next for page in pages]))

    @staticmethod
    def copy(webhook: Webhook, number: int) -> Webhook:
        """Return what a shard has of a webhook."""
        return replace(webhook, shard=number)

    async def _bring(self, webhook: str, starts: Sequence[str]) -> None:
        """Make the copies as the first shard has it now. Raises Problem where others go on changing it."""
        for _ in range(TRIES):
            async with self._wirings[0].reading():
                stored = await self._stores[0].one(webhook)
            for number in range(1, len(self._stores)):
                async with self._wirings[number].reading():
                    await self._bring_to(number, webhook, stored, starts[number])
            async with self._wirings[0].reading():
                now = await self._stores[0].one(webhook)
            if (now and now.raw) == (stored and stored.raw):
                return
        raise Problem("webhook-changed", f"{webhook} is being changed by somebody else.")

    async def _bring_to(self, number: int, webhook: str, stored: StoredWebhook | None, start: str) -> None:
        if stored is None:
            await self._stores[number].remove(webhook)
            return
        wanted = self.copy(stored.webhook, number)
        for _ in range(TRIES):
            raw = await self._wirings[number].redis.hget(self._wirings[number].keys.webhooks(), webhook)
            if raw == wanted.to_json():
                return
            said = await self._stores[number].put(wanted, raw or b"", start=start)
            if said == "stored":
                return
            if said == "full":
                raise Problem("quota-exceeded", f"Shard {number} has as many webhooks as it may.")
        raise Problem("webhook-changed", f"{webhook} is being changed by somebody else.")

    async def _readable(self, number: int, webhook: str) -> StoredWebhook | None:
        try:
            return await self._stores[number].one(webhook)
        except InvalidWebhook:
            return None

    def _removals(self, webhook: str) -> list[Awaitable[bool]]:
        return [store.remove(webhook) for store in self._stores]


def _added(some: Sequence[WebhookStanding]) -> WebhookStanding:
    if len(some) == 1:
        return some[0]
    behind = [one.behind for one in some if one.behind]
    return WebhookStanding(
        waiting=sum(one.waiting for one in some),
        delivered=sum(one.delivered for one in some),
        given_up=sum(one.given_up for one in some),
        failures=max(one.failures for one in some),
        failing_since_ms=min((one.failing_since_ms for one in some if one.failing_since_ms), default=None),
        behind=min(behind, key=position_key) if behind else None,
    )
