"""The span of one attempt, within which its handler runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from streammesh import logs
from streammesh.tasks.context import Context
from streammesh.tasks.suspension import Suspended
from streammesh.tasks.task import QueuePlace, TaskRef
from streammesh.telemetry import spans

_NO_SPAN = nullcontext()


def attempt_span(ref: TaskRef, place: QueuePlace, context: Context) -> AbstractContextManager[None]:
    """A span of the attempt, where traces are made: a child of the event's, linked to that of the attempt before it.

    What the handler publishes carries it on, and the log its ids.
    """
    return _span(ref, place, context) if spans.is_on() else _NO_SPAN


@contextmanager
def _span(ref: TaskRef, place: QueuePlace, context: Context) -> Iterator[None]:
    event, attempt = ref.event, context.attempt
    parent = event.extensions.get("traceparent")
    trace, _ = spans.ids_of(event.source, event.id)
    if isinstance(parent, str) and parent.count("-") == 3:
        trace_of_links = parent.split("-")[1]
    else:
        parent, trace_of_links = "", trace
    links = [spans.SpanIds(trace_of_links, _span_id(ref, attempt - 1), True)] if attempt > 1 else []
    about = {
        "messaging.system": "streammesh",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": event.type,
        "messaging.destination.subscription.name": ref.name,
        "messaging.message.id": event.id,
        "cloudevents.event_id": event.id,
        "cloudevents.event_source": event.source,
        "cloudevents.event_type": event.type,
        "streammesh.task.id": ref.task_id,
        "streammesh.task.attempt": attempt,
        "streammesh.queue": place.queue,
    }
    suspended = None
    with spans.span(
        f"process {ref.name}",
        "consumer",
        parent=parent,
        trace=trace,
        id=_span_id(ref, attempt),
        attributes=about,
        links=links,
    ) as (ids, span):
        if ids.is_sampled:
            context.traceparent = ids.traceparent
        with logs.also(trace_id=ids.trace, span_id=ids.span):
            try:
                yield
            except Suspended as waits:  # no error of the handler's: it goes on later
                span.add_event("waits")
                suspended = waits
    if suspended is not None:
        raise suspended


def _span_id(ref: TaskRef, attempt: int) -> str:
    return spans.ids_of(ref.task_id, str(attempt))[1]
