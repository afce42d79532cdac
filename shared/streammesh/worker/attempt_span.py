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
    if not spans.is_on():
        return _NO_SPAN
    event = ref.event
    own = event.extensions.get("traceparent")
    parent = own if isinstance(own, str) and own.count("-") == 3 else ""
    trace, span = spans.ids_of(event.source, event.id)
    if ids := spans.unsampled(parent, trace, span):
        return _UnsampledAttempt(ids)
    return _span(ref, place, context, parent, trace)


class _UnsampledAttempt:
    """Most attempts, where few are sampled: nothing is made for them but what the log and the handler see."""

    __slots__ = ("_log", "_span")

    def __init__(self, ids: spans.SpanIds) -> None:
        self._span = spans.Unsampled(ids)
        self._log = logs.also(trace_id=ids.trace, span_id=ids.span)

    def __enter__(self) -> None:
        self._span.__enter__()
        self._log.__enter__()

    def __exit__(self, *_: object) -> None:
        self._log.__exit__(None, None, None)
        self._span.__exit__()


@contextmanager
def _span(ref: TaskRef, place: QueuePlace, context: Context, parent: str, trace: str) -> Iterator[None]:
    event, attempt = ref.event, context.attempt
    trace_of_links = parent.split("-")[1] if parent else trace
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
