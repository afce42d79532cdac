"""Celery's own publisher without a socket: messages are made and kept instead of being sent.

So a Celery upgrade changes the bytes for us, and a whole workflow can be queued by one script.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kombu import Connection, Producer
from kombu.transport import virtual

from streammesh.transport.codec import wanted_priority
from streammesh.transport.internals import SendingChannel

Captured = list[tuple[str, dict[str, Any]]]  # (queue name, kombu message) in the order of sending


class _Channel(SendingChannel):
    """A channel that keeps what is sent."""

    do_restore = False
    body_encoding = None  # as the stream transport's channel: no base64

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: Captured = []

    def prepare_message(self, body: Any, priority: int | None = None, *args: Any, **options: Any) -> Any:
        """As the stream transport's channel."""
        message = super().prepare_message(body, None, *args, **options)
        message["properties"]["priority"] = wanted_priority(priority)
        return message

    def keep(self, queue: str, message: dict[str, Any]) -> None:
        """Send a message to a queue."""
        self.kept.append((queue, message))


class _Transport(virtual.Transport):
    Channel = _Channel
    driver_type = driver_name = "capture"

    def driver_version(self) -> str:
        return "1"


class CapturingProducer(Producer):
    """A producer that keeps what it is asked to send; `take` empties it."""

    def __init__(self) -> None:
        self._channel_kept = Connection(transport=_Transport).channel()
        super().__init__(self._channel_kept, auto_declare=False)

    def take(self) -> Captured:
        """What was sent since the last call."""
        kept, self._channel_kept.kept = self._channel_kept.kept, []
        return kept

    def release(self) -> None:
        """Stays open: Celery releases producers it took from a pool; this one came from none."""


_capturing: ContextVar[CapturingProducer | None] = ContextVar("capturing", default=None)


def current() -> CapturingProducer | None:
    """The producer that this context sends to, if it captures."""
    return _capturing.get()


@contextmanager
def capturing() -> Iterator[CapturingProducer]:
    """Within, every task sent by a `MeshCelery` app is kept instead."""
    producer = CapturingProducer()
    token = _capturing.set(producer)
    try:
        yield producer
    finally:
        _capturing.reset(token)
