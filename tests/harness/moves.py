"""The moves of a dispatcher and of a worker, one by one, made with the kit's own scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis.asyncio
from streammesh import lua
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.keys import WORKERS, Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest, Subscription, plan
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.handoff import Encoded, HandedOver, Handover, handoff_call
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.records import Rows, TaskRow
from streammesh.tasks.settlement import Cause, Ending, Settlement
from streammesh.tasks.task import Failure, LedgerAnswer, QueuePlace, TaskRef, Token

SERVICE = "billing"
BILL = Subscription(SERVICE, "billing.bill", "order.placed")


@dataclass
class Moved:
    """One task, and the queue entry that stands for it."""

    ref: TaskRef
    place: QueuePlace


class Moves:
    """One service with one subscription, `billing.bill` to `order.placed`."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        wants: Subscription = BILL,
    ) -> None:
        self.wants = wants
        self.redis, self.keys, self.settings = client, keys, settings
        self.ledger, self.rows = Ledger(keys, settings), Rows(client, keys)
        self.settlement = Settlement(keys, settings)

    async def join(self) -> None:
        """Register the service, and make its queue."""
        await lua.run(self.redis, register_call(self.keys, Manifest(SERVICE, subscriptions=(self.wants,))))
        await self.redis.xgroup_create(self.keys.queue(SERVICE), WORKERS, "0", mkstream=True)

    async def hand_over(self, event_id: str, data: Any = None, paused: frozenset[str] = frozenset()) -> Moved:
        """Publish an event and hand it over."""
        [given] = await self.given((event_id, data or {"n": 1}))
        await self.hand(given, paused=paused)
        return await self.moved(given)

    async def given(self, *events: tuple[str, Any], lane: str = "test") -> list[Handover]:
        """Publish events with these ids and data, and give them to a lane, which has them in hand then."""
        publisher = Publisher(self.redis, self.keys, self.settings, "tests")
        for event_id, data in events:
            await publisher.publish("order.placed", data, id=event_id)
        answer = await self.redis.xreadgroup(SERVICE, lane, {self.keys.events("order"): ">"}, 1000)
        [[_, entries]] = answer
        handovers = []
        for position, fields in entries:
            event = envelope.from_json(fields[b"e"])
            [delivery] = plan(event, [self.wants])
            body = b"[[%b],{},{}]" % fields[b"e"]
            encoded = [Encoded(delivery, self.keys.queue(SERVICE), (b'{"headers":{}}',), body)]
            handovers.append(Handover(position.decode(), event, 1, encoded))
        return handovers

    async def hand(self, *given: Handover, paused: frozenset[str] = frozenset()) -> HandedOver:
        """Hand over what a lane has in hand, in one step."""
        return await lua.run(
            self.redis, handoff_call(self.keys, self.settings, "order", SERVICE, given, paused)
        )

    async def moved(self, given: Handover) -> Moved:
        """The task of what was handed over."""
        [encoded] = given.deliveries
        subscription, task_id = encoded.delivery[:2]
        return Moved(TaskRef(task_id, subscription.task, SERVICE, given.event), await self.place(task_id))

    async def place(self, task_id: str) -> QueuePlace:
        """Where the task's queue entry lies now."""
        entry = await self.redis.hget(self.keys.task(task_id), "entry")
        return QueuePlace(SERVICE, entry=(entry or b"").decode())

    async def row(self, moved: Moved) -> TaskRow:
        """Its ledger row."""
        row = await self.rows.task(moved.ref.task_id)
        assert row is not None
        return row

    async def deliver(self, consumer: str = "w") -> list[str]:
        """Give a worker what is new in the queue; answers the entries."""
        queue = self.keys.queue(SERVICE)
        answer = await self.redis.xreadgroup(WORKERS, consumer, {queue: ">"}, 100)
        return [entry.decode() for _, entries in answer for entry, _ in entries]

    async def claim(self, moved: Moved) -> Any:
        """Start an attempt with the queue entry as it is known."""
        return await lua.run(self.redis, self.ledger.claim(moved.ref, moved.place, "worker@test:1"))

    async def end(self, moved: Moved, token: Token, ending: Ending) -> LedgerAnswer:
        """End it somehow."""
        call = self.settlement.call(moved.ref, moved.place, token, ending)
        return (await lua.run(self.redis, call)).answer

    async def fail(self, moved: Moved, attempt: int, reason: str = "no luck") -> LedgerAnswer:
        """Give up."""
        failure = Failure(reason, "RuntimeError", "Traceback: …")
        return await self.end(moved, attempt, Ending.failed(failure, Cause.GAVE_UP))

    async def succeed(self, moved: Moved, attempt: int, result: Any = None) -> LedgerAnswer:
        """End well."""
        return await self.end(moved, attempt, Ending.success(result, ()))

    async def told(self) -> list[str]:
        """The types of all notifications, in order."""
        return [fields[b"t"].decode() for _, fields in await self.redis.xrange(self.keys.notifications())]
