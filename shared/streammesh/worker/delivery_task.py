"""The Celery task behind every subscription: acts out the steps of `attempt.py`, async or sync."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property, partial
from typing import Any

import structlog
from celery import Task
from celery.canvas import Signature
from celery.exceptions import Reject as CeleryReject
from celery.exceptions import Retry as CeleryRetry
from celery.exceptions import SoftTimeLimitExceeded

from streammesh import logs, names
from streammesh.events.envelope import Event
from streammesh.lua import Call
from streammesh.redisio.retrying import insist, insist_sync, mention, mention_from_thread, mention_sync
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.attempt import (
    NOT_HANDED_OVER,
    REASON,
    Ask,
    Delivering,
    Handle,
    Step,
    Steps,
    attempt_steps,
)
from streammesh.tasks.context import Context
from streammesh.tasks.handler import Binding
from streammesh.tasks.ledger import QueuePlace, TaskRef
from streammesh.tasks.parking import park_carried_call
from streammesh.tasks.retry_policy import RetryPolicy
from streammesh.transport.codec import encode
from streammesh.worker import greenlets, message_capture, workflow
from streammesh.worker.refs import queue_place, task_ref
from streammesh.worker.resources import Plumbing

log = structlog.get_logger(__name__)
PAUSE_SECONDS = 1.0  # before a queue entry goes back that could not be dealt with


class DeliveryFailed(Exception):
    """Tells Celery (its log, Flower) that a delivery gave up; the reason is in the ledger."""


class TookTooLong(Exception):
    """The handler did not end within its `timeout`."""


class WaitedInVain(Exception):
    """The handler waited for something that was cancelled, and did not catch that."""


class DeliveryTask(Task):
    """One subscription as a Celery task. Its outcome is in the ledger, not in the result backend."""

    abstract = True
    Request = "streammesh.worker.request:MeshRequest"
    acks_late = True
    reject_on_worker_lost = True
    ignore_result = True
    max_retries = None
    typing = False
    throws = (DeliveryFailed,)
    subscription: Subscription
    binding: Binding
    policy: RetryPolicy
    breaker: bool
    plumbing: Plumbing

    @cached_property
    def kind(self) -> Delivering:
        """What all attempts share; made at the first one, when the settings are known."""
        keep = self.subscription.keep
        return Delivering(
            binding=self.binding,
            policy=self.policy,
            ledger=self.plumbing.ledger,
            keep=None if keep is None else timedelta(seconds=keep),
            breaker=self.breaker,
            is_workflow=is_workflow,
            random=random.random,
            clock=self.plumbing.clock,
        )

    def run(self, raw: Any = None, *_: Any, **__: Any) -> str:
        """Run one attempt; `raw` is the envelope in the JSON event format. What nobody handed over is parked."""
        request = self.request
        ref = task_ref(request.id, self.subscription, raw)
        place = queue_place(request.get("mesh_tag"), self.subscription.service)
        worker = f"{request.hostname}"
        with logs.working_on(
            task_id=ref.task_id, task=ref.name, event_id=ref.event.id, event_type=ref.event.type
        ):
            try:
                state = self._attempt(ref, place, worker)
                if state == "not handed over":
                    state = self._park_carried(ref, raw)
            except Exception as error:
                # A ledger call broke in a way that waiting does not mend. Acknowledging would lose the task.
                log.exception("ledger.broke")
                self._pause(PAUSE_SECONDS)
                raise CeleryReject(f"the ledger call broke: {error}", requeue=True) from error
        if state == names.FAILED:
            raise DeliveryFailed(ref.task_id)
        if state == names.RETRYING:
            raise CeleryRetry("the ledger holds the next attempt")
        return state

    def _attempt(self, ref: TaskRef, place: QueuePlace, worker: str) -> str:
        if greenlets.in_greenlet():
            return greenlets.wait_for(self.deliver(ref, place, worker))
        if self.kind.binding.is_async:
            return self.plumbing.connections.run(self.deliver(ref, place, worker))
        return self._run_sync(ref, place, worker)

    def _park_carried(self, ref: TaskRef, raw: Any) -> str:
        """A delivery that somebody sent past the mesh, over another broker: no queue entry stands for it."""
        with message_capture.capturing() as producer:
            self.apply_async(() if raw is None else (raw,), task_id=ref.task_id)
            [(_, message)] = producer.take()
        kept = self.plumbing.settings.dead_letters_kept
        call = park_carried_call(
            self.plumbing.ledger.keys,
            kept,
            ref.service,
            ref.task_id,
            encode(message),
            NOT_HANDED_OVER,
            REASON,
        )
        insist_sync(self.plumbing.connections.sync(), call)
        log.error("task.not_handed_over")
        return "parked"

    def _pause(self, seconds: float) -> None:
        if greenlets.in_greenlet():
            greenlets.wait_for(asyncio.sleep(seconds))
        else:
            time.sleep(seconds)

    async def deliver(self, ref: TaskRef, place: QueuePlace, worker: str) -> str:
        """Run one attempt on this event loop; answers what became of it."""
        calls = self.plumbing.connections.calls()
        act: Callable[[Call[str]], Any] = partial(mention, calls)
        if not self.kind.binding.is_async:  # it runs in a thread, which has to wait for what it asks
            act = partial(mention_from_thread, asyncio.get_running_loop(), calls)
        steps = attempt_steps(self.kind, ref, place, worker, act)
        forward: Callable[[Any], Step] = steps.send
        answer: Any = None
        while True:
            try:
                step = forward(answer)
            except StopIteration as stop:
                return str(stop.value)
            try:
                if isinstance(step, Ask):
                    answer = await insist(calls, step.call)
                elif isinstance(step, Handle):
                    answer = await self._call_async(step.context, ref.event)
                else:
                    call = workflow.start_call(self, ref, place, step)
                    answer = await insist(calls, call)
                forward = steps.send
            except Exception as error:
                forward, answer = steps.throw, error

    async def _call_async(self, context: Context, event: Event) -> Any:
        binding, timeout = self.kind.binding, self.subscription.timeout
        args, kwargs = binding.arguments(event, context)
        with self.plumbing.running.handler(context.task_id):
            try:
                if timeout is None and binding.is_async:
                    return await binding.handler(*args, **kwargs)
                async with asyncio.timeout(timeout) as limit:
                    if binding.is_async:
                        return await binding.handler(*args, **kwargs)
                    return await self.plumbing.threads.run(binding.handler, *args, **kwargs)
            except TimeoutError as error:
                if timeout is None or not limit.expired():
                    raise  # the handler's own
                raise TookTooLong(f"the handler did not end within {timeout} s") from error
            except asyncio.CancelledError as error:
                if _was_cancelled():
                    raise
                # Nobody stopped the handler: passed on, this would end the attempt without anybody being told.
                raise WaitedInVain("something that the handler waited for was cancelled") from error

    def _run_sync(self, ref: TaskRef, place: QueuePlace, worker: str) -> str:
        client = self.plumbing.connections.blocking()
        steps: Steps = attempt_steps(self.kind, ref, place, worker, partial(mention_sync, client))
        forward: Callable[[Any], Step] = steps.send
        answer: Any = None
        while True:
            try:
                step = forward(answer)
            except StopIteration as stop:
                return str(stop.value)
            try:
                if isinstance(step, Ask):
                    answer = insist_sync(client, step.call)
                elif isinstance(step, Handle):
                    answer = self._call_sync(step.context, ref.event)
                else:
                    answer = insist_sync(client, workflow.start_call(self, ref, place, step))
                forward = steps.send
            except Exception as error:
                forward, answer = steps.throw, error

    def _call_sync(self, context: Context, event: Event) -> Any:
        args, kwargs = self.kind.binding.arguments(event, context)
        try:
            return self.kind.binding.handler(*args, **kwargs)
        except SoftTimeLimitExceeded:
            raise TookTooLong(f"the handler did not end within {self.subscription.timeout} s") from None
        except (Exception, SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            # With it the process would end as if nothing had been running there, and nobody would be told.
            raise RuntimeError(f"the handler raised what would end the worker: {error!r}") from error


def _was_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def is_workflow(result: Any) -> bool:
    """Whether a handler's result is a Celery signature."""
    return isinstance(result, Signature)
