"""Reads server-sent events as WHATWG HTML 9.2.6 says, and no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
from streammesh.notification_types import NOTIFICATIONS

PATIENCE = 10  # seconds; a test that waits longer has failed


@dataclass
class Heard:
    """One dispatched event."""

    type: str
    data: Any
    last_event_id: str


def assert_described(kind: str, told: Any) -> None:
    """A notification has the members that its type has in the catalogue, and no others."""
    known = NOTIFICATIONS.get(kind)
    if known is None:
        return
    assert set(told) <= {"id", "type", "time", "event", "task", "data"} and told["type"] == kind, told
    assert set(told["data"]) <= set(known.data), f"{kind} tells {sorted(told['data'])}"


class Stream:
    """An open stream. `position` is what a browser would send as Last-Event-ID."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.heard: list[Heard] = []
        self.position = ""
        self.comments: list[str] = []
        self.retry: int | None = None
        self.ended = False
        self._taken = 0
        self._changed = asyncio.Condition()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        kind = ""
        data: list[str] = []
        try:
            async for line in self.response.aiter_lines():
                if not line:
                    if data:
                        assert_described(kind, json.loads("\n".join(data)))
                        self.heard.append(
                            Heard(kind or "message", json.loads("\n".join(data)), self.position)
                        )
                    kind, data = "", []
                    await self._tell()
                    continue
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if not name:
                    self.comments.append(value)
                elif name == "event":
                    kind = value
                elif name == "data":
                    data.append(value)
                elif name == "id":
                    self.position = value
                elif name == "retry":
                    self.retry = int(value)
                else:
                    raise AssertionError(f"unknown field {line!r}")
        finally:
            self.ended = True
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(condition)

    async def take(self, n: int) -> list[Heard]:
        """The next n events."""
        await self.until(lambda: len(self.heard) >= self._taken + n or self.ended)
        taken = self.heard[self._taken : self._taken + n]
        assert len(taken) == n, f"the stream ended after {len(taken)} of {n}"
        self._taken += n
        return taken

    async def next(self) -> Heard:
        return (await self.take(1))[0]

    async def rest(self) -> list[Heard]:
        """All until the stream ends."""
        await self.until(lambda: self.ended)
        await self.reader
        taken, self._taken = self.heard[self._taken :], len(self.heard)
        return taken


@asynccontextmanager
async def listening(client: httpx.AsyncClient, path: str, **options: Any) -> AsyncIterator[Stream]:
    """A stream that is open: its first block has come."""
    async with client.stream("GET", path, **options) as response:
        if response.status_code != 200:
            raise AssertionError((await response.aread()).decode())
        assert response.headers["content-type"] == "text/event-stream"
        stream = Stream(response)
        try:
            await stream.until(lambda: stream.retry is not None or stream.ended)
            yield stream
        finally:
            stream.reader.cancel()
            with suppress(asyncio.CancelledError):
                await stream.reader
