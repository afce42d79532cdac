"""A TCP proxy that breaks connections: between a part of the mesh and Redis, or before the API as a balancer.

It runs on the event loop of the run. What it can do to a connection:

- `cut_all`: all of them, now, in the middle of whatever they carry;
- `cut_requests`: a part of all requests goes through to a random byte, then the connection ends;
- `cut_replies`: each connection ends after a random number of bytes of what it was answered, at most so many;
- `lose_replies`: a part of the script calls is carried out by Redis, and the reply never comes back;
- `silence`: nothing goes through any more, in either direction, and nothing is closed: as where a machine has
  vanished or a firewall has forgotten the connection. New ones work.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Self

SCRIPT = (b"EVALSHA", b"EVAL\r\n")
CHUNK = 65536


class Proxy:
    """Listens on a free port of 127.0.0.1 and connects to the first of `targets` (ports) that answers."""

    def __init__(self, targets: Sequence[int], seed: int, *, in_turn: bool = False) -> None:
        self.targets, self.port = list(targets), 0
        self.lose_replies = self.cut_requests = 0.0
        self.cut_replies = self.scripts_lost = self.cuts = self.silenced = 0
        self._random, self._in_turn = random.Random(seed), in_turn
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._next = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        self.cut_all()
        if self._links:
            await asyncio.wait(list(self._links), timeout=5)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """As a Redis address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut_all(self) -> int:
        """End every connection at once, without a goodbye; answers how many there were."""
        count = len(self._links)
        for link in self._links.values():
            link.abort()
        self.cuts += count
        return count

    def silence(self) -> int:
        """Swallow all that comes over the connections there are; answers how many that are."""
        talking = [link for link in self._links.values() if not link.silent]
        for link in talking:
            link.silent = True
        self.silenced += len(talking)
        return len(talking)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        try:
            there, back = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, back)
        link.left = self._random.randrange(self.cut_replies) if self.cut_replies else None
        self._links[task] = link
        pumps = [
            asyncio.create_task(self._requests(reader, link)),
            asyncio.create_task(self._replies(there, link)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._links[task]
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            link.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._next += 1
        turn = self._next % len(self.targets) if self._in_turn else 0
        for port in self.targets[turn:] + self.targets[:turn]:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
        raise ConnectionRefusedError

    async def _requests(self, reader: asyncio.StreamReader, link: _Link) -> None:
        while data := await reader.read(CHUNK):
            if link.silent:
                continue
            if self.cut_requests and self._random.random() < self.cut_requests:
                self.cuts += 1
                link.to_server.write(data[: self._random.randrange(len(data))])
                await link.to_server.drain()
                return
            if self.lose_replies and any(word in data for word in SCRIPT):
                link.loses = self._random.random() < self.lose_replies
            link.to_server.write(data)
            await link.to_server.drain()

    async def _replies(self, reader: asyncio.StreamReader, link: _Link) -> None:
        while data := await reader.read(CHUNK):
            if link.silent:
                continue
            if link.loses:
                self.scripts_lost += 1
                return
            if link.left is not None:
                data, link.left = data[: link.left], link.left - len(data)
                if link.left <= 0:
                    self.cuts += 1
                    link.to_client.write(data)
                    await link.to_client.drain()
                    return
            link.to_client.write(data)
            await link.to_client.drain()


class _Link:
    """The two ends of one connection."""

    def __init__(self, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter) -> None:
        self.to_client, self.to_server = to_client, to_server
        self.loses = self.silent = False
        self.left: int | None = None  # bytes of answers until it ends

    def abort(self) -> None:
        """End both without a goodbye."""
        self.to_client.transport.abort()
        self.to_server.transport.abort()
