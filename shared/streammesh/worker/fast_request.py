"""A delivery's request on the short way: of what Celery prepares for every task, only what every task needs.

Celery's request has some forty attributes, and a task's `current_task.request` as many again. Here they are made
when somebody asks for them: remote control, a time limit, a revocation, the handler itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from celery.app.task import Context
from celery.utils.threads import get_ident
from celery.worker import state as worker_state
from vine import promise

from streammesh.tasks.settlement import Cause
from streammesh.tasks.task import AttemptOutcome
from streammesh.transport.internals import is_acknowledged
from streammesh.transport.message import StreamMessage
from streammesh.worker.async_job import Job
from streammesh.worker.internals import current_tasks, keep_stack_in
from streammesh.worker.request import HardLimit, MeshRequest
from streammesh.worker.task_threads import current_job

_PID = os.getpid
_filling = threading.RLock()
_current: ContextVar[ShortRequest | None] = ContextVar("short_request", default=None)


class ShortRequest(MeshRequest):
    """Begun as soon as it is made; `job` is what the pool knows of it."""

    def __init__(self, message: StreamMessage, task: Any, consumer: Any) -> None:
        self.is_of(message, task)
        self._consumer = consumer
        self.id: str = message.headers["id"]
        self.time_start, self.worker_pid = time.time(), _PID()
        self.time_limits = message.headers.get("timelimit") or (None, None)
        self.job = Job()
        self.runs_as(self.job)

    def __getattr__(self, name: str) -> Any:
        """What Celery's own constructor sets."""
        if name.startswith("__"):
            raise AttributeError(name)
        with _filling:
            if "_filled" in self.__dict__:
                return object.__getattribute__(self, name)
            self._filled = True
            self._fill()
        return getattr(self, name)

    def _fill(self) -> None:
        message, consumer = self.message, self._consumer
        super().__init__(
            message,
            on_ack=promise(consumer.call_soon_ack, (message.ack_log_error,)),
            on_reject=promise(consumer.call_soon_ack, (message.reject_log_error,)),
            app=consumer.app,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            task=self.task,
            connection_errors=consumer.connection_errors,
            body=message.body,
            headers=message.headers,
        )

    @property
    def worker(self) -> str:
        """Who runs it, as the ledger notes it."""
        return str(self._consumer.hostname)

    @property
    def envelope(self) -> Any:
        """The event, in the JSON event format; None where there is none."""
        args = self.message.parsed[0]
        return args[0] if args else None

    def give_up(self) -> None:
        """Its queue entry goes back to the end of its queue."""
        worker_state.task_ready(self)
        self.reject(requeue=True)

    def broke_off(self, error: BaseException) -> None:
        """The handler raised what would end the worker, which it may not: the attempt failed, and counts."""
        self._fail(HardLimit(f"its handler raised what would end the worker: {error!r}"), Cause.CHILD_DIED)
        worker_state.task_ready(self)
        self.acknowledge()

    def ended(self, outcome: AttemptOutcome) -> bool:
        """The attempt is over. Answers whether its queue entry is gone, so that it is only to be let go of."""
        worker_state.task_ready(self)
        if self.acknowledged:
            return False
        if outcome.took_entry:
            is_acknowledged(self.message)
            self.acknowledged = True
            return True
        self.acknowledge()
        return False


class _Storage(dict[Any, Any]):
    """Where Celery looks up what runs, by who asks. A request has its part with it: nothing is put in before it
    begins, nothing is to be cleared after it."""

    def __init__(self, begin: Callable[[ShortRequest], list[Any]]) -> None:
        super().__init__()
        self._begin = begin

    def __missing__(self, asking: Any) -> dict[str, list[Any]]:
        if not isinstance(asking, ShortRequest):
            raise KeyError(asking)
        stacks: dict[int, dict[str, list[Any]]] = asking.__dict__.setdefault("_stacks", {})
        if id(self) not in stacks:
            stacks[id(self)] = {"stack": self._begin(asking)}
        return stacks[id(self)]


def _asking() -> Any:
    """Who asks: a request; else a thread of the pool, also on the loop that it waits for; else this thread."""
    request = _current.get()
    if request is not None:
        return request
    job = current_job()
    return get_ident() if job is None else job.ident


def current_task_id() -> str | None:
    """The id of the delivery in whose context this is, None outside of any."""
    request = _current.get()
    if request is not None:
        return request.id
    job = current_job()
    return None if job is None else job.task_id


def _context(request: ShortRequest) -> Context:
    about = request.request_dict
    return Context(about, args=request.args, kwargs=request.kwargs, called_directly=False)


def know_current_tasks(tasks: list[Any]) -> None:
    """From now on `celery.current_task` and `task.request` are right in deliveries on the short way.

    They go by the context of the asyncio task and not by the thread, so in what a handler starts besides (asyncio
    tasks, threads by `to_thread`) as well.
    """
    keep_stack_in(current_tasks(), _Storage(lambda request: [request.task]), _asking)
    for task in tasks:
        begin = _context_where(task)
        keep_stack_in(task.request_stack, _Storage(begin), _asking)


def _context_where(task: Any) -> Callable[[ShortRequest], list[Any]]:
    return lambda request: [_context(request)] * (request.task is task)


def becomes_current(request: ShortRequest) -> None:
    """What runs in this context from now on belongs to this request."""
    _current.set(request)
