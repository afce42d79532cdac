"""The Celery task behind every subscription: acts out the steps of `attempt.py`, async or sync."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from functools import cached_property, partial
from typing import Any

import structlog
from celery import Task
from celery.canvas import Signature
from celery.exceptions import Reject as CeleryReject

from streammesh import logs
from streammesh.batches.list_handler import BatchBinding
from streammesh.batches.steps import batch_steps
from streammesh.durable.drive import async_driver, sync_driver
from streammesh.durable.run import Run
from streammesh.edition import digest_of_schema
from streammesh.events.envelope import Event
from streammesh.lua import Call
from streammesh.redisio.retry import insist, insist_sync, mention, mention_from_thread, mention_sync
from streammesh.rollout.beside import kept_for_another
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.attempt import NOT_HANDED_OVER, Handle, Step, Steps, attempt_steps
from streammesh.tasks.context import Context
from streammesh.tasks.dead_letter import park_carried_call
from streammesh.tasks.handler import Binding
from streammesh.tasks.settlement import Ask, Terms
from streammesh.tasks.suspension import OpenRun, Suspended
from streammesh.tasks.task import AttemptOutcome, LedgerAnswer, QueuePlace, TaskRef
from streammesh.tasks.verdict import RetryPolicy
from streammesh.telemetry import catalogue
from streammesh.transport.codec import encode
from streammesh.worker import measures, message_capture, workflow
from streammesh.worker.attempt_span import attempt_span
from streammesh.worker.celery_listeners import DeliveryFailed, begins_again
from streammesh.worker.handler_call import call_async, call_sync
from streammesh.worker.handler_versions import HandlerVersion
from streammesh.worker.refs import entry_ref, queue_place, task_ref
from streammesh.worker.resources import Plumbing

log = structlog.get_logger(__name__)
PAUSE_SECONDS = 1.0  # before a queue entry goes back that could not be dealt with


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
    older: Mapping[int, HandlerVersion] = {}  # for runs that began with them
    plumbing: Plumbing

    @cached_property
    def terms(self) -> Terms:
        """What all attempts share; made at the first one, when the settings are known."""
        keep = self.subscription.keep
        return Terms(
            policy=self.policy,
            ledger=self.plumbing.ledger,
            settlement=self.plumbing.settlement,
            keep=None if keep is None else timedelta(seconds=keep),
            breaker=self.breaker,
            random=random.random,
            is_workflow=is_workflow,
            kept_for_another=partial(
                kept_for_another,
                self.plumbing.ledger,
                self.plumbing.edition(),
                digest_of_schema(self.binding.schema()),
                random.random,
            ),
        )

    def run(self, raw: Any = None, *_: Any, **__: Any) -> AttemptOutcome:
        """Run one attempt, called by Celery's tracer (prefork, solo); `raw` is the envelope in the JSON event format.

        What nobody handed over is parked.
        """
        request = self.request
        ref = task_ref(request.id, self.subscription, raw)
        place = queue_place(request.get("mesh_tag"), self.subscription.service)
        worker = f"{request.hostname}"
        with logs.working_on(
            task_id=ref.task_id, task=ref.name, event_id=ref.event.id, event_type=ref.event.type
        ):
            try:
                outcome = self._attempt(ref, place, worker)
                if outcome is AttemptOutcome.NOT_HANDED_OVER:
                    outcome = self.park_carried(ref, raw)
            except Exception as error:
                # A ledger call broke in a way that waiting does not mend. Acknowledging would lose the task.
                log.exception("ledger.broke")
                time.sleep(PAUSE_SECONDS)
                raise CeleryReject(f"the ledger call broke: {error}", requeue=True) from error
        if outcome is AttemptOutcome.FAILED:
            raise DeliveryFailed(ref.task_id)
        if outcome is AttemptOutcome.RETRYING:
            raise begins_again(outcome)
        return outcome

    def _attempt(self, ref: TaskRef, place: QueuePlace, worker: str) -> AttemptOutcome:
        if self.binding.is_async:
            return self.plumbing.connections.run(self.deliver(ref, place, worker))
        return self._run_sync(ref, place, worker)

    def park_carried(self, ref: TaskRef, raw: Any) -> AttemptOutcome:
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
        )
        insist_sync(self.plumbing.connections.sync(), call)
        log.error("task.not_handed_over")
        return AttemptOutcome.PARKED

    async def deliver(self, ref: TaskRef, place: QueuePlace, worker: str) -> AttemptOutcome:
        """Run one attempt on this event loop; answers what became of it."""
        calls = self.plumbing.connections.calls()
        binding, timeout = self.binding, self.subscription.timeout
        act: Callable[[Call[LedgerAnswer]], Any] = partial(mention, calls, LedgerAnswer.DONE)
        if not binding.is_async:  # it runs in a thread, which has to wait for what it asks
            act = partial(mention_from_thread, asyncio.get_running_loop(), calls, LedgerAnswer.DONE)
        insisting = partial(insist, calls)
        ask = insisting if binding.is_async else partial(_ask_loop, asyncio.get_running_loop(), insisting)
        steps = self._steps(ref, place, worker, act, ask)
        plumbing = self.plumbing

        async def handle(context: Context, event: Event) -> Any:
            return await call_async(self._binding_of(context), plumbing, timeout, context, event)

        return await self._drive(
            steps,
            ref,
            place,
            insisting,
            handle if self.older else partial(call_async, binding, plumbing, timeout),
        )

    def _run_sync(self, ref: TaskRef, place: QueuePlace, worker: str) -> AttemptOutcome:
        client = self.plumbing.connections.blocking()
        timeout, plumbing = self.subscription.timeout, self.plumbing
        act = partial(mention_sync, client, LedgerAnswer.DONE)
        steps = self._steps(ref, place, worker, act, partial(insist_sync, client))

        async def ask(call: Call[Any]) -> Any:
            return insist_sync(client, call)

        async def handle(context: Context, event: Event) -> Any:
            return call_sync(self._binding_of(context), plumbing, timeout, context, event)

        return _without_loop(self._drive(steps, ref, place, ask, handle))

    def _steps(
        self,
        ref: TaskRef,
        place: QueuePlace,
        worker: str,
        act: Callable[[Call[LedgerAnswer]], Any],
        ask: Callable[[Call[Any]], Any],
    ) -> Steps:
        if isinstance(self.binding, BatchBinding):
            read = partial(entry_ref, self.subscription)
            return batch_steps(self.terms, ref, place, worker, act, self.binding, read)
        return attempt_steps(self.terms, ref, place, worker, act, self._runs(ask))

    def _runs(self, ask: Callable[[Call[Any]], Any]) -> OpenRun | None:
        """Make what an attempt knows of its run; `ask` makes its calls. None for a handler that is given no Context."""
        if self.binding.context_name is None and not self.older:
            return None
        older = {version: one.subscription for version, one in self.older.items()}
        driver = async_driver(ask) if self.binding.is_async else sync_driver(ask)
        return partial(
            Run, self.plumbing.durable, driver, self.subscription, is_async=self.binding.is_async, older=older
        )

    def _binding_of(self, context: Context) -> Binding:
        """The handler of the version that a run goes on with."""
        older = self.older.get(context.version) if self.older else None
        return older.binding if older else self.binding

    async def _drive(
        self,
        steps: Steps,
        ref: TaskRef,
        place: QueuePlace,
        ask: Callable[[Call[Any]], Awaitable[Any]],
        handle: Callable[[Context, Event], Awaitable[Any]],
    ) -> AttemptOutcome:
        """Act out an attempt's steps, one after the other; answers what became of it."""
        forward: Callable[[Any], Step] = steps.send
        answer: Any = None
        while True:
            try:
                step = forward(answer)
            except StopIteration as stop:
                outcome = AttemptOutcome(stop.value)
                catalogue.ATTEMPTS.inc(ref.name, outcome.value)
                return outcome
            try:
                if isinstance(step, Ask):
                    answer = await ask(step.call)
                elif isinstance(step, Handle):
                    with (
                        measures.running(ref.name, place.entry),
                        attempt_span(ref, place, step.context),
                    ):
                        answer = await handle(step.context, ref.event)
                        await step.context.flush()
                else:
                    answer = await ask(workflow.start_call(self, ref, place, step))
                forward = steps.send
            except (Exception, Suspended) as error:
                forward, answer = steps.throw, error
                if isinstance(step, Handle):
                    answer = await _flushed(step.context, error)
            except asyncio.CancelledError:
                if isinstance(step, Handle):
                    step.context.drop()
                raise


async def _flushed(context: Context, error: BaseException) -> BaseException:
    """What an attempt failed with, when what its handler has streamed is written: it may have been cut off meanwhile."""
    try:
        await context.flush()
    except (Exception, Suspended) as worse:
        return worse
    return error


def _ask_loop(
    loop: asyncio.AbstractEventLoop, ask: Callable[[Call[Any]], Coroutine[Any, Any, Any]], call: Call[Any]
) -> Any:
    """Make a call from a handler's thread on the loop beside it, however long Redis is away."""
    return asyncio.run_coroutine_threadsafe(ask(call), loop).result()


def _without_loop(coroutine: Coroutine[Any, Any, AttemptOutcome]) -> AttemptOutcome:
    """What a coroutine that never waits comes to."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return AttemptOutcome(stop.value)
    raise RuntimeError("a blocking attempt waited for an event loop")


def is_workflow(result: Any) -> bool:
    """Whether a handler's result is a Celery signature."""
    return isinstance(result, Signature)
