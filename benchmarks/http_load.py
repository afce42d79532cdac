"""A load generator that costs little itself: keep-alive connections on bare sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

Request = Callable[[int], bytes]


def whole(received: bytes) -> int | None:
    """The length of the first answer if all of it is there."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return None
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return len(head) + 4 + length if len(body) >= length else None


class _Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is whole."""

    def __init__(self, load: Load) -> None:
        self._load, self._rest = load, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = self._load.next_request()
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (length := whole(self._rest)) is not None:
            status, self._rest = int(self._rest[9:12]), self._rest[length:]
            self._load.answered(status)
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.closed()


class Load:
    """`total` requests over `connections` connections; `make(n)` is the whole n-th request."""

    def __init__(self, total: int, connections: int, make: Request) -> None:
        self._total, self._connections, self._make = total, connections, make
        self._sent = self._open = 0
        self.statuses: dict[int, int] = {}
        self._done: asyncio.Future[None] | None = None

    def next_request(self) -> bytes | None:
        """The next request to send; None when there is none."""
        if self._sent >= self._total:
            return None
        self._sent += 1
        return self._make(self._sent - 1)

    def answered(self, status: int) -> None:
        """Count an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def closed(self) -> None:
        """A connection has ended."""
        self._open -= 1
        if self._open == 0 and self._done and not self._done.done():
            self._done.set_result(None)

    async def run(self, url: str) -> float:
        """Send everything; answers the seconds it took. Raises RuntimeError unless every answer was 202."""
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        self._open = self._connections
        where = urlsplit(url)
        began = time.perf_counter()
        await asyncio.gather(
            *(
                loop.create_connection(lambda: _Connection(self), where.hostname or "", where.port or 80)
                for _ in range(self._connections)
            )
        )
        await self._done
        took = time.perf_counter() - began
        if self.statuses != {202: self._total}:
            raise RuntimeError(f"not every request was accepted: {self.statuses}")
        return took


def post(path: str, host: str, key: str, content_type: str, body: bytes) -> bytes:
    """One whole POST request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Post(asyncio.Protocol):
    """A connection that answers one request at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[int] | None = None
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes) -> asyncio.Future[int]:
        self._answer, self._got = asyncio.get_running_loop().create_future(), b""
        self.transport.write(request)  # type: ignore[attr-defined]
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._answer and not self._answer.done() and whole(self._got) is not None:
            self._answer.set_result(int(self._got[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed by the server"))


class Poster:
    """Keep-alive connections for requests that come one by one; a context manager."""

    def __init__(self, url: str, connections: int) -> None:
        self._where, self._connections = urlsplit(url), connections
        self._free: asyncio.LifoQueue[_Post] = asyncio.LifoQueue()

    async def __aenter__(self) -> Poster:
        loop = asyncio.get_running_loop()
        for _ in range(self._connections):
            _, post = await loop.create_connection(_Post, self._where.hostname or "", self._where.port or 80)
            self._free.put_nowait(post)
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._free.empty():
            self._free.get_nowait().transport.close()

    async def send(self, request: bytes) -> None:
        """Send it when a connection is free, and wait for the answer. Raises RuntimeError unless that is 202."""
        connection = await self._free.get()
        status = await connection.send(request)
        self._free.put_nowait(connection)
        if status != 202:
            raise RuntimeError(f"answered {status}")
