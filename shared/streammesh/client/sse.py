"""Reads a stream of server-sent events. Source: WHATWG HTML, section 9.2.6."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

LARGEST = 32 << 20  # bytes of one event: what the mesh tells is smaller, a stream without line ends is not
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """What comes has no end: a line or an event of the stream is longer than `LARGEST`."""


@dataclass(slots=True)
class ServerSentEvent:
    """One event of the stream; `id` is the last id seen so far."""

    event: str
    data: str
    id: str


class SseParser:
    """Takes bytes as they come and gives events as they become whole.

    `last_id` is where to resume after all that it gave: also a block that has an id and no data moves it.
    `retry_ms` is how long the server asks to wait before a reconnect, None where it says nothing. What is held
    of an event that is not whole yet is at most `largest` bytes; beyond that `feed` raises EventTooLong.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self._largest = largest
        self._begun = False  # whether the first line, which may begin with a byte order mark, is known
        self._after_cr = False  # a line feed that comes now belongs to the line end before it
        self._rest: list[bytes] = []  # of a line whose end has not come yet
        self._size = 0  # of that line and of the data before it
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that this chunk completes."""
        if not chunk:
            return []
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        found = []
        *whole, unfinished = _LINE_END.split(chunk)
        for part in whole:
            self._keep(part)
            line = b"".join(self._rest)
            self._rest.clear()
            event = self._line(line)
            if event:
                found.append(event)
        self._keep(unfinished)
        return found

    def _keep(self, part: bytes) -> None:
        self._rest.append(part)
        self._size += len(part)
        if self._size > self._largest:
            raise EventTooLong(f"an event of the stream is longer than {self._largest:,} bytes")

    def _line(self, raw: bytes) -> ServerSentEvent | None:
        if not self._begun:
            raw, self._begun = raw.removeprefix(_BOM), True
        if not raw:
            return self._dispatch()
        name, _, value = raw.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            return None
        self._size -= len(raw)  # comments and the like are not kept
        if name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_id = self._id
        event = (
            ServerSentEvent(self._event or "message", "\n".join(self._data), self._id) if self._data else None
        )
        self._data, self._event, self._size = [], "", 0
        return event


async def events(chunks: AsyncIterator[bytes], parser: SseParser) -> AsyncGenerator[ServerSentEvent, None]:
    """Give the events of a body that arrives in chunks."""
    async for chunk in chunks:
        for event in parser.feed(chunk):
            yield event
