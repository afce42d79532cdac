"""Spans of OpenTelemetry: one trace from the publisher over the stream and the attempts to what follows.

Off, and nothing of OpenTelemetry loaded, until `begin` was called with an address; then each span costs what the SDK
takes. Traces of events that bring none have ids made of the event's identity, so that all processes choose the same ones
to be sampled without telling each other.

Sources: W3C Trace Context, the CloudEvents extension of Distributed Tracing, and OpenTelemetry's semantic conventions of
messaging (https://opentelemetry.io/docs/specs/semconv/messaging/).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

Kind = Literal["producer", "consumer", "internal"]
SECONDS = 1.0  # between two exports
MOST_WAITING = 8_192  # spans that wait to be exported; further ones are dropped
EXPORT_SECONDS = 5.0  # that one export may take


@dataclass(frozen=True, slots=True)
class _Begun:
    url: str
    share: float
    service: str


class SpanIds(NamedTuple):
    """A span by its ids, as hexadecimal digits; `traceparent` is its context as W3C writes it."""

    trace: str
    span: str
    is_sampled: bool

    @property
    def traceparent(self) -> str:
        """For who goes on with the trace."""
        return f"00-{self.trace}-{self.span}-{'01' if self.is_sampled else '00'}"


_TRACEPARENT = re.compile("00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_begun: _Begun | None = None
_made: tuple[int, TracerProvider, Tracer] | None = None  # by which process
_next_ids: ContextVar[tuple[int, int] | None] = ContextVar("next_ids", default=None)
remote_parent: ContextVar[str] = ContextVar(
    "remote_parent", default=""
)  # `traceparent` of the request that is served


def begin(url: str, share: float, service: str) -> None:
    """Make spans from now on, and send them to the OTLP receiver at `url`, over HTTP; nothing where it is empty.

    Of the traces that begin here, `share` (0 to 1) are sampled. Raises ImportError, saying what to install.
    """
    global _begun
    if not url:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401 - whether they are there is asked at start
    except ImportError as error:
        raise ImportError("MESH_TRACES_URL is set: install streammesh[tracing]") from error
    _begun = _Begun(url.rstrip("/"), share, service)


def is_on() -> bool:
    """Whether spans are made."""
    return _begun is not None


def end() -> None:
    """Send what waits, for some seconds at most."""
    if _made is not None and _made[0] == os.getpid():
        _made[1].force_flush(int(EXPORT_SECONDS * 1000))


def ids_of(*identity: str) -> tuple[str, str]:
    """The ids of a trace and of a span that are made of texts: the same in every process."""
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()
    return digest[:32], digest[32:48]


def is_sampled(parent: str, trace: str) -> bool:
    """Whether a span of this parent, or without one of the trace of this id, would be sampled; as the SDK decides."""
    assert _begun is not None
    parts = parent.split("-") if parent else ()
    if len(parts) == 4 and len(parts[1]) == 32 and len(parts[3]) == 2:
        return parts[3][1] in "13579bdfBDF"
    return int(trace[16:], 16) < round(_begun.share * 2**64)


def span(
    name: str,
    kind: Kind,
    *,
    parent: str = "",
    trace: str = "",
    id: str = "",
    attributes: Mapping[str, Any] | None = None,
    links: Sequence[SpanIds] = (),
    start_ns: int | None = None,
) -> AbstractContextManager[tuple[SpanIds, Any]]:
    """A span that is open within, the current one for who uses OpenTelemetry there; gives its ids, and the span itself.

    `parent` is a traceparent; without one that can be read, the trace has the id `trace`. `id` is the span's own. An
    exception that leaves it is recorded. It began at `start_ns`, else now. Only to be called where `is_on`.

    Of one that is not sampled nothing is kept, and the SDK, which takes twice as long for it, is not asked.
    """
    if trace and (ids := unsampled(parent, trace, id)):
        return Unsampled(ids)
    return _recorded(name, kind, parent, trace, id, attributes or {}, links, start_ns)


class Unsampled:
    """Stands for a span that is not sampled: the current one within, so that what users begin there is not sampled either."""

    __slots__ = ("_ids", "_token")

    def __init__(self, ids: SpanIds) -> None:
        self._ids = ids

    def __enter__(self) -> tuple[SpanIds, Any]:
        api, contexts = _modules()
        nothing = _unrecorded()(self._ids)
        self._token = contexts.attach(api.set_span_in_context(nothing))
        return self._ids, nothing

    def __exit__(self, *_: object) -> None:
        _, contexts = _modules()
        contexts.detach(self._token)


def unsampled(parent: str, trace: str, id: str) -> SpanIds | None:
    """The ids of a span of this parent, or without one that can be read of this trace, where it is not sampled; else None."""
    read = _TRACEPARENT.fullmatch(parent) if parent else None
    if is_sampled(parent if read else "", trace):
        return None
    return SpanIds(read[1] if read else trace, id or os.urandom(8).hex(), False)


@contextmanager
def _recorded(
    name: str,
    kind: Kind,
    parent: str,
    trace: str,
    id: str,
    attributes: Mapping[str, Any],
    links: Sequence[SpanIds],
    start_ns: int | None,
) -> Iterator[tuple[SpanIds, Any]]:
    api, _ = _modules()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    kinds = {
        "producer": api.SpanKind.PRODUCER,
        "consumer": api.SpanKind.CONSUMER,
        "internal": api.SpanKind.INTERNAL,
    }
    context = TraceContextTextMapPropagator().extract({"traceparent": parent} if parent else {})
    token = _next_ids.set((int(trace or "0", 16), int(id or "0", 16)))
    try:
        made = _tracer().start_span(
            name,
            context,
            kinds[kind],
            attributes=dict(attributes),
            links=[api.Link(_context_of(one)) for one in links],
            start_time=start_ns,
        )
    finally:
        _next_ids.reset(token)
    found = made.get_span_context()
    ids = SpanIds(f"{found.trace_id:032x}", f"{found.span_id:016x}", bool(found.trace_flags.sampled))
    with api.use_span(made, end_on_exit=True):
        yield ids, made


@cache
def _modules() -> tuple[Any, Any]:
    """OpenTelemetry's API, which is loaded only where spans are made."""
    from opentelemetry import context, trace

    return trace, context


@cache
def _unrecorded() -> Any:
    """A class of spans that keep nothing, whose context is made when somebody asks for it: hardly any handler does."""
    api, _ = _modules()

    class Unrecorded(api.NonRecordingSpan):  # type: ignore[misc, name-defined]
        def __init__(self, ids: SpanIds) -> None:
            self._ids = ids

        def get_span_context(self) -> Any:
            return _context_of(self._ids)

        def __repr__(self) -> str:
            return f"Unrecorded({self._ids!r})"

    return Unrecorded


def _context_of(ids: SpanIds) -> Any:
    api, _ = _modules()
    flags = _flags(ids.is_sampled)
    return api.SpanContext(int(ids.trace, 16), int(ids.span, 16), is_remote=True, trace_flags=flags)


@cache
def _flags(is_sampled: bool) -> Any:
    api, _ = _modules()
    return api.TraceFlags(is_sampled)


def _tracer() -> Tracer:
    """This process's; a forked child makes its own, since threads do not come along."""
    global _made
    if _made is not None and _made[0] == os.getpid():
        return _made[2]
    assert _begun is not None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    class ChosenIds(RandomIdGenerator):
        """Random ids, but where the caller has said which."""

        def generate_trace_id(self) -> int:
            chosen = _next_ids.get()
            return (chosen and chosen[0]) or super().generate_trace_id()

        def generate_span_id(self) -> int:
            chosen = _next_ids.get()
            return (chosen and chosen[1]) or super().generate_span_id()

    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(_begun.share),
        resource=Resource.create({"service.name": _begun.service, "service.namespace": "streammesh"}),
        id_generator=ChosenIds(),
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            OTLPSpanExporter(f"{_begun.url}/v1/traces", timeout=EXPORT_SECONDS),
            max_queue_size=MOST_WAITING,
            schedule_delay_millis=int(SECONDS * 1000),
            export_timeout_millis=int(EXPORT_SECONDS * 1000),
        )
    )
    _made = (os.getpid(), provider, provider.get_tracer("streammesh"))
    return _made[2]
