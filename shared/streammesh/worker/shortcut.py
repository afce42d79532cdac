"""The short way of a delivery into the async pool: without what Celery prepares for every task and nobody asks for.

Celery's own way has a request with some forty attributes, a tracer with its signals and a thread for each task:
several times what the ledger's calls and the handler of a short task cost. A delivery goes the short way where
nothing asks for more: no ETA, no expiry, no stamps, no rate limit, nobody who listens to Celery's signals or
events about tasks. Anything else goes Celery's way. Remote control (`inspect`, `revoke`, `stats`) sees no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import signals
from celery.worker import state

from streammesh.transport.message import StreamMessage
from streammesh.worker.async_pool import TaskPool
from streammesh.worker.delivery_task import DeliveryTask
from streammesh.worker.fast_request import ShortRequest, know_current_tasks

Taker = Callable[[Any], Any]
SIGNALS = (
    *(signals.task_received, signals.task_prerun, signals.task_postrun),
    *(signals.task_success, signals.task_failure, signals.task_retry, signals.task_rejected),
)
MORE = ("eta", "expires", "shadow", "stamped_headers")  # headers that ask for more


def shortcut(consumer: Any, usual: Taker) -> Taker:
    """What takes the messages of this consumer's queue; `usual` is Celery's own way.

    Without an async pool, or without an event loop to hand tasks over from, that is `usual`.
    """
    pool, hub = consumer.pool, consumer.hub
    if not isinstance(pool, TaskPool) or hub is None:
        return usual
    deliveries = {name: task for name, task in consumer.app.tasks.items() if isinstance(task, DeliveryTask)}
    know_current_tasks(list(deliveries.values()))
    flights, eventer, buckets = pool.flights, consumer.event_dispatcher, consumer.task_buckets
    flights.hand_over()  # what was accepted just before a connection broke, if the event loop forgot it over that

    def asks_for_more(headers: Mapping[str, Any], name: str) -> bool:
        return bool(
            any(headers.get(one) for one in MORE)
            or headers["id"] in state.revoked
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
        state.task_reserved(request)
        if flights.accept(request):
            hub.call_soon(flights.hand_over)  # when all that a read brought is in
        return None

    return take
