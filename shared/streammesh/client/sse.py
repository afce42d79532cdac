"""Reads a stream of server-sent events. Source: WHATWG HTML, section 9.2.6."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass


@dataclass(slots=True)
class ServerSentEvent:
    """One event of the stream; `id` is the last id seen so far."""

    event: str
    data: str
    id: str


class SseParser:
    """Takes bytes as they come and gives events as they become whole.

    `last_id` is where to resume after all that it gave: also a block that has an id and no data moves it.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self._rest = b""
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that this chunk completes."""
        self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        found = []
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if not line:
                self.last_id = self._id
                if self._data:
                    found.append(ServerSentEvent(self._event or "message", "\n".join(self._data), self._id))
                self._data, self._event = [], ""
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "event":
                self._event = value
            elif name == "id" and "\0" not in value:
                self._id = value
        return found


async def events(chunks: AsyncIterator[bytes], parser: SseParser) -> AsyncGenerator[ServerSentEvent, None]:
    """The events of a body that arrives in chunks."""
    async for chunk in chunks:
        for event in parser.feed(chunk):
            yield event
