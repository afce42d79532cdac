"""A load generator that costs little itself: keep-alive connections on bare sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

Request = Callable[[int], bytes]


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
        while True:
            head, found, body = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(body) < length:
                return
            self._rest = body[length:]
            self._load.answered(int(head[9:12]))
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
                loop.create_connection(lambda: _Connection(self), where.hostname, where.port)
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
