"""The moves of the dispatcher and of workers, made with the kit's own scripts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.keys import WORKERS, Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest, Subscription, plan
from streammesh.subscriptions.registry import read_manifests, register_call
from streammesh.tasks.handoff import Encoded, Handover, handoff_call
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.settlement import Cause, Ending, Settlement, carry_out_async
from streammesh.tasks.task import Failure, QueuePlace, TaskRef, Token


@dataclass
class Running:
    """A task that was handed over."""

    ref: TaskRef
    place: QueuePlace
    attempt: int = 0


class Mesh:
    """One dispatcher and one worker, step by step."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self.redis, self.keys, self.settings = client, keys, settings
        self.ledger, self.settlement = Ledger(keys, settings), Settlement(keys, settings)

    async def subscribe(self, service: str, event_type: str, **options: Any) -> None:
        wants = Subscription(service=service, task=f"{service}.handle", type=event_type, **options)
        await lua.run(self.redis, register_call(self.keys, Manifest(service, subscriptions=(wants,))))

    async def dispatch(self, domain: str, service: str) -> list[Running]:
        """Hand over everything that is new for a service, counting the deliveries of all of them."""
        manifests = await read_manifests(self.redis, self.keys)
        everything = [s for manifest in manifests for s in manifest.subscriptions]
        stream = self.keys.events(domain)
        answer = await self.redis.xreadgroup(service, "test", {stream: ">"}, 100)
        running, batch = [], []
        for _, entries in answer:
            for position, fields in entries:
                event = envelope.from_json(fields[b"e"])
                planned = plan(event, everything)
                mine = [d for d in planned if d.subscription.service == service]
                queue = self.keys.queue(service)
                encoded = [Encoded(delivery, queue, (b"{}",), b"[]") for delivery in mine]
                batch.append(Handover(position.decode(), event, len(planned), encoded))
                running += [await self._running(d.task_id, d.subscription.task, service, event) for d in mine]
        await lua.run(self.redis, handoff_call(self.keys, self.settings, domain, service, batch))
        for task in running:
            entry = await self.redis.hget(self.keys.task(task.ref.task_id), "entry")
            task.place = QueuePlace(service, entry=(entry or b"").decode())
        return running

    async def _running(self, task_id: str, name: str, service: str, event: Event) -> Running:
        return Running(TaskRef(task_id, name, service, event), QueuePlace(service))

    async def start(self, task: Running) -> None:
        with suppress(ResponseError):  # there is one already
            await self.redis.xgroup_create(self.keys.queue(task.ref.service), WORKERS, "0", mkstream=True)
        claim = await lua.run(self.redis, self.ledger.claim(task.ref, task.place, "worker@test:1"))
        assert claim.verdict == "run"
        task.attempt = claim.attempt

    async def progress(self, task: Running, fraction: float, text: str) -> None:
        await lua.run(self.redis, self.ledger.progress(task.ref, task.attempt, fraction, text))

    async def succeed(self, task: Running, result: Any = None, follow_ups: list[Event] | None = None) -> None:
        await self.end(task, task.attempt, Ending.success(result, follow_ups or []))

    async def end(self, task: Running, token: Token, ending: Ending, attempts: int = 0) -> None:
        steps = self.settlement.settle(task.ref, task.place, token, ending, said={}, attempts=attempts)
        assert await carry_out_async(steps, partial(lua.run, self.redis)) == ending.state.value

    async def retry(self, task: Running) -> None:
        """Let the attempt fail, to be tried again in an hour."""
        failure = Failure("not now", "Retry")
        call = self.ledger.retry_later(task.ref, task.place, task.attempt, timedelta(hours=1), failure)
        assert await lua.run(self.redis, call) == "done"

    async def fail(self, task: Running, reason: str) -> None:
        await self.end(task, task.attempt, Ending.failed(Failure(reason, "Reject"), Cause.GAVE_UP))

    async def tell(
        self, event: str = "e", event_type: str = "a.b", kind: str = "task.started", n: int = 1
    ) -> list[str]:
        """Append notifications as a script would, without an event behind them."""
        body = f'"event":{{"id":"{event}","type":"{event_type}","source":"s","subject":null}},"task":null,"data":{{}}'
        fields = {"t": kind, "e": event, "k": "", "v": "w", "y": event_type, "u": "", "b": body}
        pipeline = self.redis.pipeline(transaction=False)
        for _ in range(n):
            pipeline.xadd(self.keys.notifications(), fields)
        return [position.decode() for position in await pipeline.execute()]
