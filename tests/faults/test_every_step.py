"""A worker stopped before and after any step of an attempt: another takes over, and everything comes out once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import redis.asyncio
from streammesh import Context, Reject
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.keys import WORKERS, Keys
from streammesh.lua import Call, run
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest, Subscription, plan
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.attempt import Handle, attempt_steps
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.handoff import Encoded, Handover, handoff_call
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.records import Rows
from streammesh.tasks.settlement import Ask, Settlement, Terms
from streammesh.tasks.task import LedgerAnswer, QueuePlace, TaskRef
from streammesh.tasks.verdict import RetryPolicy

pytestmark = pytest.mark.faults
WANTS = Subscription("mail", "mail.welcome", "user.registered")
MOST = 20  # steps


def succeed(ctx: Context) -> int:
    """Publish what follows, and be done."""
    ctx.publish("user.welcomed", {"n": 1})
    return ctx.attempt


def fail_once(ctx: Context) -> int:
    """Be done at the second try."""
    ctx.publish("user.welcomed", {"n": 1})
    if ctx.attempt == 1:
        raise RuntimeError("not yet")
    return ctx.attempt


def reject(ctx: Context) -> int:
    """Never be done."""
    ctx.publish("user.welcomed", {"n": 1})
    raise Reject("never")


@dataclass
class Stop(Exception):
    """The worker is killed here."""

    at: int
    after: bool  # the step is carried out, and nobody hears of it


@dataclass
class Workshop:
    """One task on its queue, and workers that may be stopped."""

    client: redis.asyncio.Redis
    settings: MeshSettings
    handler: Callable[[Context], int]
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = Keys(self.settings.namespace)
        self.ledger = Ledger(self.keys, self.settings)
        settlement = Settlement(self.keys, self.settings)
        self.terms = Terms(RetryPolicy(3), self.ledger, settlement, None, True, lambda: 0.5, lambda _: False)

    async def fill(self) -> None:
        client, keys = self.client, self.keys
        await run(client, register_call(keys, Manifest("mail", subscriptions=(WANTS,))))
        publisher = Publisher(client, keys, self.settings, "tests")
        sent = await publisher.publish("user.registered", {}, id="one")
        event = envelope.make("user.registered", {}, source="tests", id="one")
        [delivery] = plan(event, [WANTS])
        await client.xreadgroup("mail", "d", {keys.events("user"): ">"})
        encoded = Encoded(delivery, keys.queue("mail"), (b"{}",), b"[]")
        await run(
            client,
            handoff_call(keys, self.settings, "user", "mail", [Handover(sent.entry, event, 1, [encoded])]),
        )
        await client.xgroup_create(keys.queue("mail"), WORKERS, "0")
        self.ref = TaskRef(delivery.task_id, WANTS.task, "mail", event)

    async def entry(self, worker: Any) -> Any:
        """The task's queue entry for a worker, new or taken from a dead one; None when there is none."""
        queue = self.keys.queue("mail")
        answer = await self.client.xautoclaim(queue, WORKERS, worker, 0, count=1)
        entries = answer[1]
        if not entries:
            read = await self.client.xreadgroup(WORKERS, worker, {queue: ">"}, count=1)
            streams = read.values() if isinstance(read, dict) else [found for _, found in read]
            entries = [
                entry for found in streams for entry in (found[0] if isinstance(read, dict) else found)
            ]
        return entries[0][0].decode() if entries else None

    async def attempt(self, worker: Any, stop: Any = None) -> Any:
        """One attempt from its queue entry on; answers how many steps it had. Raises Stop."""
        entry = await self.entry(worker)
        assert entry, "the task is on no queue"

        def act(call: Call[LedgerAnswer]) -> Any:
            raise AssertionError("no handler here tells of its progress")

        steps = attempt_steps(self.terms, self.ref, QueuePlace("mail", entry=entry), worker, act)
        forward: Callable[[Any], Any] = steps.send
        answer: Any = None
        number = 0
        while True:
            try:
                step = forward(answer)
            except StopIteration:
                return number
            if stop and stop.at == number and not stop.after:
                raise stop
            try:
                forward, answer = steps.send, await self._do(step)
            except Exception as error:
                forward, answer = steps.throw, error
            if stop and stop.at == number:
                raise stop
            number += 1

    async def _do(self, step: Any) -> Any:
        if isinstance(step, Ask):
            return await run(self.client, step.call)
        assert isinstance(step, Handle)
        return self.handler(step.context)

    async def finish(self) -> None:
        """Work until the task has ended, retries included."""
        rows, due = Rows(self.client, self.keys), DueSet(self.client, self.keys)
        for number in range(10):
            [event] = await rows.events("one")
            if event.completed and not await self.client.xlen(self.keys.queue("mail")):
                return
            await due.promote(await due.now_ms() + 3_600_000)
            await self.attempt(f"worker-{number}")
        raise AssertionError("the task never ended")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("handler", "end", "follow_ups"), [(succeed, "succeeded", 1), (fail_once, "succeeded", 1), (reject, "failed", 0)]
)  # fmt: skip
async def test_an_attempt_stopped_at_any_step_ends_once_with_what_it_published(
    mesh_redis: redis.asyncio.Redis,
    mesh_settings: MeshSettings,
    handler: Any,
    end: Any,
    follow_ups: Any,
    after: Any,
) -> None:
    for at in range(MOST):
        settings = mesh_settings.model_copy(update={"namespace": f"{mesh_settings.namespace}-{at}"})
        shop = Workshop(mesh_redis, settings, handler)
        await shop.fill()
        stopped = False
        try:
            steps = await shop.attempt("doomed", Stop(at, after))
        except Stop:
            stopped = True
        await shop.finish()

        keys = shop.keys
        notes = Counter(f[b"t"].decode() for _, f in await mesh_redis.xrange(keys.notifications()))
        ended = [f[b"s"].decode() for _, f in await mesh_redis.xrange(keys.tasks_recent())]
        after_events = [
            orjson.loads(f[b"e"])["type"] for _, f in await mesh_redis.xrange(keys.events("user"), "(0-1")
        ]
        assert ended == [end], f"stopped at step {at}"
        assert (notes[f"task.{end}"], notes["event.completed"]) == (1, 1)
        assert after_events.count("user.welcomed") == follow_ups
        assert await mesh_redis.hlen(keys.dead("mail")) == (end == "failed")
        assert await mesh_redis.zcard(keys.due()) == 0
        if not stopped:
            assert steps == at == 3
            return
    raise AssertionError(f"it had more than {MOST} steps")
