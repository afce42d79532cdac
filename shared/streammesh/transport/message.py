"""A message as read from a queue's stream."""

from __future__ import annotations

from typing import Any

from kombu.transport import virtual

from streammesh.transport.codec import CONTENT_TYPE


class StreamMessage(virtual.Message):
    """A virtual message whose body was decoded when it was checked, so that it is not decoded twice."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **options: Any) -> None:
        super().__init__(payload, channel=channel, **options)
        self.parsed: Any = payload.get("parsed")

    def _decode(self) -> Any:
        if self.parsed is not None and (self.accept is None or CONTENT_TYPE in self.accept):
            return self.parsed
        return super()._decode()
