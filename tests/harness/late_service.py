"""A mesh with a service that comes late, moved step by step with the kit's own parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.backfill.record import Backfill, Backfills, BackfillState
from streammesh.clock import SystemClock
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.events.publisher import Publisher
from streammesh.history.store import HistoryStore
from streammesh.keys import WORKERS, Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Delivery, Manifest, Subscription
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.handoff import Encoded
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.records import Rows
from streammesh.tasks.settlement import Cause, Ending, Settlement
from streammesh.tasks.task import Failure, QueuePlace, TaskRef

from services.archiver.archiver import Archiver
from services.archiver.settings import ArchiverSettings
from services.archiver.stream_group import StreamGroup
from services.dispatcher.backfiller import Backfiller
from services.dispatcher.lanes import Lanes
from services.dispatcher.settings import DispatcherSettings

OWN = DispatcherSettings(_env_file=None, block="200ms", reclaim_idle="100ms", reclaim_every="100ms", batch=20)
QUICK = ArchiverSettings(_env_file=None, linger="0s", reclaim_idle="100ms", look_every="1h")


class Late:
    """A mesh with a service `early`, which had all, and one that comes later."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self.redis, self.keys, self.settings = client, keys, settings
        self.publisher = Publisher(client, keys, settings, "tests")
        self.backfills, self.rows = Backfills(client, keys), Rows(client, keys)
        self.ledger, self.settlement = Ledger(keys, settings), Settlement(keys, settings)
        self.made: list[Backfiller] = []

    def encode(self, delivery: Delivery, raw: bytes, priority: int) -> Encoded:
        """In place of Celery's encoder."""
        queue = self.keys.queue(delivery.subscription.queue_name)
        return Encoded(delivery, queue, (b'{"id":"', b'"}'), raw)

    async def register(self, service: str, event_type: str = "order.placed", *more: Subscription) -> None:
        """Have a service subscribe, with one handler and more."""
        wants = (Subscription(service, f"{service}.handle", event_type), *more)
        await lua.run(self.redis, register_call(self.keys, Manifest(service, subscriptions=wants)))

    async def publish(self, *ids: object, event_type: str = "order.placed") -> None:
        """Publish events with these ids."""
        made = [envelope.make(event_type, {"n": 1}, source="tests", id=str(one)) for one in ids]
        await self.publisher.publish_events(made)

    def lanes(self) -> Lanes:
        """What comes live."""
        return Lanes(self.redis, self.keys, self.settings, OWN, self.encode, SystemClock())

    def backfiller(self, name: str = "d1", own: DispatcherSettings = OWN, **settings: Any) -> Backfiller:
        """A dispatcher's role."""
        changed = self.settings.model_copy(update=settings)
        turn = timedelta(milliseconds=100)
        made = Backfiller(self.redis, self.keys, changed, own, self.encode, name, turn)
        self.made.append(made)
        return made

    def close(self) -> None:
        """Let go of the history."""
        for made in self.made:
            made.close()

    async def queued(self, service: str) -> list[tuple[str, Event, str]]:
        """What waits in a service's queue: entry, event, task id."""
        entries = await self.redis.xrange(self.keys.queue(service))
        return [(at.decode(), envelope.from_json(f[b"b"]), f[b"h"][7:-2].decode()) for at, f in entries]

    async def ids(self, service: str) -> list[str]:
        """The ids of those events."""
        return [event.id for _, event, _ in await self.queued(service)]

    async def work_off(self, service: str, fail: Sequence[str] = ()) -> None:
        """Run what is queued for a service, and succeed."""
        queue = self.keys.queue(service)
        with contextlib.suppress(ResponseError):  # it is there
            await self.redis.xgroup_create(queue, WORKERS, "0", mkstream=True)
        await self.redis.xreadgroup(WORKERS, "w", {queue: ">"}, 10_000)
        for entry, event, task in await self.queued(service):
            row = await self.rows.task(task)
            assert row is not None
            ref, place = TaskRef(task, row.name, service, event), QueuePlace(service, entry=entry)
            claimed = await lua.run(self.redis, self.ledger.claim(ref, place, "worker@test:1"))
            ending = Ending.success({}, ())
            if event.id in fail:
                ending = Ending.failed(Failure("no luck", "RuntimeError"), Cause.GAVE_UP)
            await lua.run(self.redis, self.settlement.call(ref, place, claimed.attempt, ending))

    async def run(self, backfiller: Backfiller, backfill_id: str) -> Backfill:
        """Go on until the backfill has ended; answers its record."""
        while (found := await self.backfills.get(backfill_id)) and found.state is BackfillState.RUNNING:
            await backfiller.run_once()
            await asyncio.sleep(0.005)
        assert found is not None
        return found

    async def archive(self, store: HistoryStore) -> None:
        """Archive all there is."""
        group = StreamGroup(self.redis, self.redis, "archiver@test:1", timedelta(seconds=3))
        own = Archiver(self.redis, group, self.keys, self.settings, QUICK, store)
        while await own.run_once():
            pass

    async def forget(self) -> None:
        """As if all that was archived had been hot for long."""
        for pattern in (self.keys.event("*"), self.keys.task("*")):
            async for key in self.redis.scan_iter(pattern):
                if 0 < await self.redis.pttl(key) <= 60_000:
                    await self.redis.delete(key)
        async for key in self.redis.scan_iter(self.keys.events("*")):
            await self.redis.xtrim(key, maxlen=0, approximate=False)
