"""Celery's view of one queue entry in the worker, with what the mesh adds.

It tells the task where its queue entry lies, and it tells the ledger of ends that no handler sees: a
hard time limit, a worker child that died, a task that was revoked. In the async pool and the threads pool a delivery
is run on the pool's loop (`flights.py`), in others by Celery's tracer.
"""

from __future__ import annotations

import os
import time
from functools import cached_property
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.exceptions import TaskRevokedError
from celery.worker.request import Request
from celery.worker.state import task_ready

from streammesh.brokers.copies import tag_of
from streammesh.lua import Call
from streammesh.names import TaskState
from streammesh.redisio.retry import insist_sync, until_back
from streammesh.tasks.settlement import Cause, Ending, Steps, attempt_failed, carry_out
from streammesh.tasks.task import AttemptOutcome, Holder, QueuePlace, TaskRef
from streammesh.telemetry import catalogue
from streammesh.transport import wire_json
from streammesh.transport.internals import decoded, is_acknowledged
from streammesh.worker import measures
from streammesh.worker.celery_listeners import tell_begin, tell_end
from streammesh.worker.internals import CeleryRequest
from streammesh.worker.lost_tasks import tell_of_failure
from streammesh.worker.refs import queue_place, task_ref, untyped_payload
from streammesh.worker.running_handlers import Job

log = structlog.get_logger(__name__)


class HardLimit(Exception):
    """The handler went on after its time limit and was stopped."""


class _OwnRequest(CeleryRequest):
    """What both kinds share. `shares_memory`: the pool runs tasks in this process; it says so when it starts."""

    shares_memory = False

    def __init_subclass__(cls) -> None:
        """Celery makes a class of this one for each task; its methods stay what they are here."""
        for name in ("on_success", "execute_using_pool"):
            made = cls.__dict__.get(name)
            if made is not None and made.__module__ == Request.__module__:
                delattr(cls, name)

    def on_success(self, failed__retval__runtime: Any, **options: Any) -> Any:
        """Pools that run tasks in this process bring SystemExit and the like here, as no result but what happened."""
        if isinstance(failed__retval__runtime, ExceptionInfo):
            return self.on_failure(failed__retval__runtime)
        return super().on_success(failed__retval__runtime, **options)


class PlainRequest(_OwnRequest):
    """A request for any task that is no delivery."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """A task that asked for the end of its process, where that lives on, has failed: once, and for its caller."""
        error = exc_info.exception
        error = getattr(error, "exc", error)
        ended = isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)
        if not (ended and self.shares_memory):
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        task_ready(self)
        if not isinstance(error, WorkerLostError):
            error = WorkerLostError(f"the task raised what would end the worker: {error!r}")
        tell_of_failure(self.task, self.context, error, self.store_errors)
        self.acknowledge()
        self.send_event("task-failed", exception=repr(error), traceback=exc_info.traceback)
        log.error("task.failed", task_id=self.id, task=self.name, reason=str(error))
        return None

    def success_was_stored(self) -> bool:
        """Not when something follows from the success.

        Celery stores a result and then sends what follows: the next of a chain, the body of a chord. A child that
        died in between had not sent it, so its task runs again; what was counted or stored already counts once.
        """
        headers = self.request_dict
        if headers.get("group") or any(self.embedded.get(name) for name in ("chain", "chord", "callbacks")):
            return False
        return super().success_was_stored()


class MeshRequest(_OwnRequest):
    """A request for a delivery."""

    _removed = False
    acknowledged: bool

    def __init__(self, message: Any, **options: Any) -> None:
        # The event as its JSON says it: to Celery's own decoder some data would be typed values.
        options.update(body=decoded(message) or untyped_payload(message), decoded=True)
        super().__init__(message, **options)
        self.request_dict["mesh_tag"] = tag_of(message)
        if not self.shares_memory:  # the pool's child reads it from the bytes
            self.read_from_bytes(message.body, wire_json.EVENT_TYPE, "utf-8")

    def execute_using_pool(self, pool: Any, **options: Any) -> Any:
        """Run it: on the loop of a pool that has one, as all its deliveries; else as Celery does.

        Raises TaskRevokedError.
        """
        flights = getattr(pool, "flights", None)
        if flights is None:
            return super().execute_using_pool(pool, **options)
        if self.revoked():
            raise TaskRevokedError(self.id)
        self.time_start, self.worker_pid = time.time(), os.getpid()
        self.runs_as(self.job)
        flights.accept(self)
        flights.hand_over()
        return self.job

    @cached_property
    def job(self) -> Job:
        """What a pool with a loop knows of it."""
        return Job()

    @property
    def worker(self) -> str:
        """Who runs it, as the ledger notes it."""
        return str(self.hostname)

    @property
    def tag(self) -> str | None:
        """The delivery tag, which says where its queue entry lies; None where no stream does."""
        tag: str | None = self.request_dict["mesh_tag"]
        return tag

    @property
    def envelope(self) -> Any:
        """The event, in the JSON event format; None where there is none."""
        return self.args[0] if self.args else None

    def tell_begin(self) -> None:
        """Tell whoever listens to Celery that an attempt begins."""
        tell_begin(self)

    def ended(self, outcome: AttemptOutcome) -> bool:
        """The attempt is over. Answers whether its queue entry is gone and its tag is still to be let go of."""
        task_ready(self)
        if not self.acknowledged:
            self._removed = outcome.leaves_entry and hasattr(self.message.channel, "keeper")
            self.acknowledge()
        tell_end(self, outcome)
        return False

    def give_up(self) -> None:
        """Its queue entry goes back to the end of its queue."""
        task_ready(self)
        self.reject(requeue=True)

    def broke_off(self, error: BaseException) -> None:
        """The handler raised what would end the worker, which it may not: the attempt failed, and counts."""
        self._fail(HardLimit(f"its handler raised what would end the worker: {error!r}"), Cause.CHILD_DIED)
        task_ready(self)
        self.acknowledge()

    def acknowledge(self) -> None:
        """What a ledger script has removed from its queue is only let go of; anything else as Celery does it."""
        if self._removed and not self.acknowledged:
            self.message.channel.qos.settled(self.message.delivery_tag)
            is_acknowledged(self.message)
            self.acknowledged = True
        else:
            super().acknowledge()

    def on_success(self, failed__retval__runtime: Any, **options: Any) -> Any:
        """The task says what became of the delivery, and so whether its queue entry is still there."""
        if isinstance(failed__retval__runtime, ExceptionInfo):
            return super().on_success(failed__retval__runtime)
        failed, shown, seconds = failed__retval__runtime
        outcome = None if failed else _outcome(shown)
        if not self.shares_memory:
            if seconds is None:  # Celery's tracer does not say how long one took that failed
                seconds = time.time() - self.time_start if self.time_start else 0.0
            measures.told(self.task.subscription.task, outcome, shown, seconds)
        taken = outcome is not None and outcome.leaves_entry
        self._removed = taken and hasattr(self.message.channel, "keeper")
        return super().on_success(failed__retval__runtime, **options)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A prefork child begins."""
        if not self.shares_memory:
            place = queue_place(self.request_dict["mesh_tag"], self.task.subscription.service)
            measures.began(self.task.subscription.task, place.entry)
        super().on_accepted(pid, time_accepted)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Before Celery acknowledges a task that overran its hard limit, the ledger decides what follows."""
        error = HardLimit(f"it ran longer than {timeout} s and was stopped")
        if not soft and not self._fail(error, Cause.HARD_LIMIT):
            self.reject(requeue=True)
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """A child that died mid-task: the attempt failed, and counts. One that had not begun goes back to its queue."""
        error = exc_info.exception
        error = getattr(error, "exc", error)
        # Of a handler that called for the end of its process the pool may tell before that has ended.
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            task_ready(self)
            if self._fail(HardLimit(f"its worker process died: {error!r}"), Cause.CHILD_DIED):
                self.acknowledge()
            else:
                self.reject(requeue=True)
            return None
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def revoked_now(self, *, expired: bool) -> None:
        """Revoked, by whomever: the delivery ends in the ledger before its queue entry goes."""
        self._end(Ending.expired() if expired else Ending.cancelled())

    def cancel_delivery(self) -> None:
        """End the delivery in the ledger, where its handler cannot be stopped: what that comes to is refused."""
        self._end(Ending.cancelled())

    def drain_call(self) -> Call[bool]:
        """Says in the ledger that this worker gives the task back."""
        ref, place = self._about()
        call: Call[bool] = self.task.terms.ledger.drain(ref.task_id, place)
        return call

    def _about(self) -> tuple[TaskRef, QueuePlace]:
        ref = task_ref(self.id, self.task.subscription, self.args[0] if self.args else None)
        return ref, queue_place(self.request_dict["mesh_tag"], ref.service)

    def _end(self, ending: Ending) -> None:
        ref, place = self._about()
        self._carry_out(self.task.terms.settle(ref, place, Holder.THIS_ENTRY, ending, {}))

    def _fail(self, error: Exception, cause: Cause) -> bool:
        """End the current attempt in the ledger: another one later, or a dead letter.

        Answers whether there was one through this queue entry. If not, it has ended, or its process had not come to
        the claim: its queue entry must not be acknowledged then, and putting back one that is gone does no harm.
        """
        terms, client = self.task.terms, self.task.plumbing.connections.sync()
        ref, place = self._about()
        key = terms.ledger.keys.task(ref.task_id)
        stored = until_back("task", lambda: client.hmget(key, "attempt", "state", "entry"))
        attempt, state, entry = (value.decode() if value else "" for value in stored)
        if state != TaskState.STARTED or entry != place.entry:
            return False
        catalogue.ATTEMPTS.inc(ref.name, measures.STOPPED)
        self._carry_out(attempt_failed(terms, ref, place, int(attempt), error, cause))
        return True

    def _carry_out(self, steps: Steps) -> AttemptOutcome:
        client = self.task.plumbing.connections.sync()
        return carry_out(steps, lambda call: insist_sync(client, call))


def _outcome(shown: str) -> AttemptOutcome | None:
    """What a task returned, as Celery's tracer shows it: text in quotes. None for what is no outcome."""
    try:
        return AttemptOutcome(shown.strip("'"))
    except (ValueError, AttributeError):
        return None
