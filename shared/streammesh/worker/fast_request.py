"""How a delivery comes into the async pool or the threads pool: past what Celery prepares for every task.

All are run the same way, on the pool's loop; see `flights.py`. Celery's own acceptance makes a request of some forty
attributes for each task, and costs several times what the ledger's calls and the handler of a short one do. So a
delivery is accepted here where nothing asks for more: no ETA, no expiry, no stamps, no rate limit, nobody who listens to
Celery's signals or events about tasks. Remote control (`inspect`, `revoke`, `stats`) sees no difference: what Celery's
request and `current_task.request` hold besides is made when somebody asks for it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from celery import signals
from celery.app.task import Context
from celery.utils.threads import get_ident
from celery.worker import state as worker_state
from vine import promise

from streammesh.tasks.task import AttemptOutcome
from streammesh.transport.internals import is_acknowledged
from streammesh.transport.message import StreamMessage
from streammesh.worker.delivery_task import DeliveryTask
from streammesh.worker.internals import KnownByJob, current_tasks, keep_stack_in
from streammesh.worker.request import MeshRequest

_PID = os.getpid
_filling = threading.RLock()
Taker = Callable[[Any], Any]
SIGNALS = (
    *(signals.task_received, signals.task_prerun, signals.task_postrun),
    *(signals.task_success, signals.task_failure, signals.task_retry, signals.task_rejected),
)
MORE = ("eta", "expires", "shadow", "stamped_headers")  # headers that ask for more
_current: ContextVar[MeshRequest | None] = ContextVar("mesh_request", default=None)


class ShortRequest(KnownByJob, MeshRequest):
    """Begun as soon as it is made; `job` is what the pool knows of it."""

    def __init__(self, message: StreamMessage, task: Any, consumer: Any) -> None:
        self.is_of(message, task)
        self._consumer = consumer
        self.id: str = message.headers["id"]
        self.time_start, self.worker_pid = time.time(), _PID()
        self.time_limits = message.headers.get("timelimit") or (None, None)

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
    def tag(self) -> str | None:
        """Its message's delivery tag."""
        return str(self.message.delivery_tag)

    @property
    def envelope(self) -> Any:
        """The event, in the JSON event format; None where there is none."""
        args = self.message.parsed[0]
        return args[0] if args else None

    def tell_begin(self) -> None:
        """Nobody listens."""

    def ended(self, outcome: AttemptOutcome) -> bool:
        """The attempt is over. Answers whether its queue entry is gone, so that it is only to be let go of."""
        worker_state.task_ready(self)
        if self.acknowledged:
            return False
        if outcome.leaves_entry:
            is_acknowledged(self.message)
            self.acknowledged = True
            return True
        self.acknowledge()
        return False


class _Storage(dict[Any, Any]):
    """Where Celery looks up what runs, by who asks. A request has its part with it: nothing is put in before it
    begins, nothing is to be cleared after it."""

    def __init__(self, begin: Callable[[MeshRequest], list[Any]]) -> None:
        super().__init__()
        self._begin = begin

    def __missing__(self, asking: Any) -> dict[str, list[Any]]:
        if not isinstance(asking, MeshRequest):
            raise KeyError(asking)
        stacks: dict[int, dict[str, list[Any]]] = asking.__dict__.setdefault("_stacks", {})
        if id(self) not in stacks:
            stacks[id(self)] = {"stack": self._begin(asking)}
        return stacks[id(self)]


def _asking() -> Any:
    """Who asks: a request, else this thread."""
    return _current.get() or get_ident()


def current_task_id() -> str | None:
    """The id of the delivery in whose context this is, None outside of any."""
    request = _current.get()
    return None if request is None else str(request.id)


def _context(request: MeshRequest) -> Context:
    about = request.request_dict
    return Context(about, args=request.args, kwargs=request.kwargs, called_directly=False)


def know_current_tasks(tasks: list[Any]) -> None:
    """From now on `celery.current_task` and `task.request` are right in deliveries on the short way.

    They go by the context of the asyncio task and not by the thread, so in what a handler starts besides (asyncio
    tasks, threads by `to_thread`) as well.
    """
    keep_stack_in(current_tasks(), _Storage(lambda request: [request.task]), _asking)
    for task in tasks:
        keep_stack_in(task.request_stack, _Storage(_context_where(task)), _asking)


def _context_where(task: Any) -> Callable[[MeshRequest], list[Any]]:
    return lambda request: [_context(request)] * (request.task is task)


def becomes_current(request: MeshRequest) -> None:
    """What runs in this context from now on belongs to this request."""
    _current.set(request)


def fast_path(consumer: Any, usual: Taker) -> Taker:
    """What takes the messages of this consumer's queue; `usual` is Celery's own acceptance.

    In another pool, or where the broker's transport has no event loop to hand tasks over from, that is `usual`.
    """
    flights, hub = getattr(consumer.pool, "flights", None), consumer.hub
    if flights is None:
        return usual
    deliveries = {name: task for name, task in consumer.app.tasks.items() if isinstance(task, DeliveryTask)}
    know_current_tasks(list(deliveries.values()))
    if hub is None:
        return usual
    eventer, buckets = consumer.event_dispatcher, consumer.task_buckets
    flights.hand_over()  # what was accepted just before a connection broke, if the event loop forgot it over that

    def asks_for_more(headers: Mapping[str, Any], name: str) -> bool:
        return bool(
            any(headers.get(one) for one in MORE)
            or headers["id"] in worker_state.revoked
            or buckets[name]
            or consumer.on_task_message
            or (eventer and eventer.enabled and (not eventer.groups or "task" in eventer.groups))
            or any(signal.receivers for signal in SIGNALS)
        )

    def take(message: Any) -> Any:
        headers = message.headers
        task = deliveries.get(headers.get("task"))
        if task is None or not isinstance(message, StreamMessage) or asks_for_more(headers, task.name):
            return usual(message)
        request = ShortRequest(message, task, consumer)
        worker_state.task_reserved(request)
        if flights.accept(request):
            hub.call_soon(flights.hand_over)  # when all that a read brought is in
        return None

    return take
