"""A message as read from a queue's stream."""

from __future__ import annotations

from typing import Any

from streammesh.transport.codec import CONTENT_TYPE
from streammesh.transport.internals import KombuMessage


class StreamMessage(KombuMessage):
    """A virtual message whose body was decoded when it was checked, so that it is not decoded twice.

    `parsed` is that body as plain JSON. Celery gets it typed where something in it may be.
    """

    def __init__(self, payload: dict[str, Any], channel: Any = None, **options: Any) -> None:
        super().__init__(payload, channel=channel, **options)
        self.parsed: Any = payload.get("parsed")

    def body_read(self) -> Any:
        """Its body as it was checked, where that is all that Celery's own decoder would make of it."""
        accepted = self.accept is None or CONTENT_TYPE in self.accept
        if self.parsed is not None and accepted and b'"__type__"' not in self.body:
            return self.parsed
        return super().body_read()
