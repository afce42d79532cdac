"""Brings events that were published in this shard and belong to another one there. Any number may run.

Each is published there as by anybody, once by its identity, and leaves the outbox then: whoever is killed in between
has it published again, which changes nothing. What only has to be told of an event goes the same way (`foreign_events.py`). Where the other shard is away or full its events wait, and no others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

import redis.asyncio
import structlog
from redis.exceptions import RedisError
from streammesh import lua
from streammesh.errors import EventConflict, EventTooLarge, InvalidEvent, MeshError
from streammesh.events.encoded import Sealed, seal
from streammesh.events.envelope import from_json
from streammesh.events.publisher import publish_call, unavailable
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.roles import keep_on, woken
from streammesh.settings import MeshSettings
from streammesh.shards import other_shards

from services.dispatcher.foreign_events import Awaited, Cancelling, ForeignEvents, parse

log = structlog.get_logger(__name__)
LONGEST_SLEEP = 5.0  # seconds; what was told in a moment of no connection is seen then
AWAY_WAIT = 1.0  # seconds until a shard that was away is tried again
PAGE = 100  # events at once
PAGE_BYTES = 4_194_304  # of them together, the first one apart
TELL_EVERY = 60.0  # seconds between two lines about the same wait

Page = dict[bytes, Sealed]  # by the entry's place in the outbox


class OutboxRelay:
    """Relays to every other shard of the mesh; with one shard there is nothing to do."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self._client, self._keys = client, keys
        whole = settings.whole
        self._others = {n: whole.of_shard(n) for n in other_shards(settings)}
        self._bells = {number: asyncio.Event() for number in self._others}

    def changed(self) -> None:
        """Have it look: something was laid into an outbox that was empty."""
        for bell in self._bells.values():
            bell.set()

    async def run(self) -> None:
        """Relay for ever."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for number, settings in self._others.items():
                other = open_async(settings, "dispatcher-outbox")
                stack.push_async_callback(other.aclose)
                target = Target(self._client, self._keys, other, settings, number)
                # Each begins anew by itself: a group would hide that it is Redis that is away.
                role = partial(target.run, self._bells[number])
                group.create_task(keep_on(f"outbox to shard {number}", role))
            if not self._others:
                await asyncio.Event().wait()


class Target:
    """One other shard, and what waits for it."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        other: redis.asyncio.Redis,
        settings: MeshSettings,
        number: int,
    ) -> None:
        self._client, self._outbox, self._other, self._settings = client, keys.outbox(number), other, settings
        self._keys, self._number = Keys(settings.namespace), number
        self._foreign = ForeignEvents(client, other, settings, number)
        self._said: str | None = None
        self._said_at = 0.0

    async def run(self, changed: asyncio.Event) -> None:
        """Relay until it is cancelled; `changed` is set when there may be something new."""
        own = asyncio.current_task()
        while (
            own is None or not own.cancelling()
        ):  # Python 3.11 may lose what is raised while a command is sent
            changed.clear()
            if await self.relay():
                continue
            if self._said is not None:
                await asyncio.sleep(AWAY_WAIT)
                continue
            await woken(changed, LONGEST_SLEEP)

    async def relay(self) -> bool:
        """Relay what comes next; answers whether there may be more that can go now.

        Raises redis-py's errors where the own shard is away.
        """
        entries = await self._client.xrange(self._outbox, count=PAGE)
        page, told, done, size = Page(), dict[bytes, Awaited | Cancelling](), list[bytes](), 0
        for place, fields in entries:
            size += sum(map(len, fields.values()))
            if (page or told) and size > PAGE_BYTES:
                break
            if b"e" not in fields and (news := parse(fields)) is not None:
                told[place] = news
            elif (event := self._event(place, fields)) is not None:
                page[place] = event
            else:
                done.append(place)
        try:
            await self._publish(page)
            done += page
            await self._foreign.tell(list(told.values()))
            done += told
        except (MeshError, RedisError) as error:
            await self._waits(str(error))
        else:
            self._said = None
        if done:
            await self._client.xdel(self._outbox, *done)
        return bool(done)

    async def _publish(self, page: Page) -> None:
        """Publish a page; what cannot be is said and passed over, and the rest is published."""
        left = dict(page)
        while left:
            batch = list(left.values())
            try:
                with unavailable():
                    await lua.run(self._other, publish_call(self._keys, self._settings, batch))
                return
            except EventConflict as error:
                reason = "an event with the identity of a follow-up but other content exists"
                event = batch[error.index]
                log.error("event.conflict", reason=reason, event_id=event.id, source=event.source)
                del left[list(left)[error.index]]
            except EventTooLarge as error:
                place = max(left, key=lambda one: len(left[one].json))
                log.error("outbox.broken", shard=self._number, event_id=left[place].id, reason=str(error))
                del left[place]

    def _event(self, place: bytes, fields: Mapping[bytes, bytes]) -> Sealed | None:
        try:
            return seal(from_json(fields[b"e"]))
        except (KeyError, InvalidEvent, MeshError, ValueError) as error:
            reason = repr(error)[:300]
            log.error("outbox.broken", shard=self._number, entry=place.decode(), reason=reason)
            return None

    async def _waits(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._said == reason and now < self._said_at + TELL_EVERY:
            return
        self._said, self._said_at = reason, now
        waiting = await self._client.xlen(self._outbox)
        log.warning("outbox.waits", shard=self._number, events=waiting, reason=reason[:300])
