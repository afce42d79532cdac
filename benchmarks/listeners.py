"""Thousands of clients of notification streams that cost little themselves: bare sockets that count and note times."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import redis.asyncio

OPENING_AT_ONCE = 100
OPEN_SECONDS = 120
SEQUENCE = b'"seq":'


class Listener(asyncio.Protocol):
    """One stream: `heard` counts notifications; each tells when it came."""

    def __init__(self, request: bytes, crowd: Crowd) -> None:
        self._request, self._crowd = request, crowd
        self._rest = b""
        self.heard = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            if not data.startswith(b"HTTP/1.1 200"):
                self.opened.set_exception(RuntimeError(data[:200].decode("latin-1")))
                return
            self.opened.set_result(None)
        data = self._rest + data
        self._rest = data[1 - len(SEQUENCE) :]  # what is looked for may come in two pieces
        count = data.count(SEQUENCE)
        if count:
            self.heard += count
            self._crowd.note(data, count)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("closed before an answer"))


@dataclass
class Crowd:
    """Clients of one server."""

    host: str
    port: int
    listeners: list[Listener] = field(default_factory=list)
    heard: int = 0
    came: dict[int, float] = field(default_factory=dict)  # by the number of the notification: when

    def note(self, data: bytes, count: int) -> None:
        """Count, and note when a single one came."""
        self.heard += count
        if count == 1:
            at = data.index(SEQUENCE) + len(SEQUENCE)
            self.came[int(data[at:].split(b"}", 1)[0] or b"-1")] = time.perf_counter()

    async def open(self, requests: Sequence[bytes]) -> list[Listener]:
        """Open a stream for each request; all have their first block then."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
        loop, limit = asyncio.get_running_loop(), asyncio.Semaphore(OPENING_AT_ONCE)

        async def one(request: bytes) -> Listener:
            async with limit:
                _, made = await loop.create_connection(lambda: Listener(request, self), self.host, self.port)
                await made.opened
                return made

        async with asyncio.timeout(OPEN_SECONDS):
            opened = await asyncio.gather(*(one(request) for request in requests))
        self.listeners += opened
        return opened

    def close(self) -> None:
        """Go, all of them."""
        for listener in self.listeners:
            if listener.transport is not None:
                listener.transport.abort()
        self.listeners = []


def get(path: str, host: str, key: str, *lines: str) -> bytes:
    """A request for a stream."""
    head = [f"GET {path} HTTP/1.1", f"host: {host}", f"authorization: Bearer {key}", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def fields_of(n: int, sequence: int) -> dict[str, str]:
    """A notification about the n-th of many, as the mesh's scripts write it."""
    about = f'"id":"event-{n}","type":"order.k{n}.placed","source":"shop","subject":"user/{n}"'
    task = f'"id":"task-{n}","name":"s{n}.work","service":"s{n}","attempt":1'
    return {
        "t": "task.started", "e": f"event-{n}", "k": f"task-{n}", "v": f"s{n}", "y": f"order.k{n}.placed",
        "u": f"user/{n}", "b": f'"event":{{{about}}},"task":{{{task}}},"data":{{"seq":{sequence}}}',
    }  # fmt: skip


async def tell_at_rate(
    client: redis.asyncio.Redis,
    stream: str,
    crowd: Crowd,
    whom: Callable[[int], int],
    count: int,
    rate: float,
) -> list[float]:
    """Write `count` notifications, `rate` a second, each for one; answers the milliseconds until it was heard."""
    crowd.came.clear()
    sent: dict[int, float] = {}
    began = time.perf_counter()
    for sequence in range(count):
        await asyncio.sleep(max(0.0, began + sequence / rate - time.perf_counter()))
        sent[sequence] = time.perf_counter()
        await client.xadd(stream, fields_of(whom(sequence), sequence))
    until = time.perf_counter() + 30
    while len(crowd.came) < count and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    never = (time.perf_counter() - began) * 1000
    return [(crowd.came[n] - at) * 1000 if n in crowd.came else never for n, at in sent.items()]
