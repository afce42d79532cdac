"""Receivers of webhooks as they are met in the world: one that works, and those that do not. One port for all."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streammesh.embedded import free_port

DEAD = ("refused", "hanging", "dripping", "endless", "redirecting", "resetting", "nonsense", "failing")
LONGEST_HEAD = 65_536
DRIP_SECONDS = 0.5
ENDLESS = b"x" * 65_536


@dataclass(slots=True)
class Receivers:
    """What came to paths of the living, as webhook-id -> when first; and what should not have come at all."""

    port: int
    closed_port: int
    refuses: float = 0.0  # a part of what comes to the living is answered with 500
    taken: dict[str, dict[str, float]] = field(default_factory=dict)
    repeated: int = 0
    followed: int = 0  # requests to where a redirect led
    dead_asked: int = 0
    open: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def url(self, kind: str, name: str) -> str:
        """Where a webhook of this kind leads to: `living`, or one of `DEAD`."""
        port = self.closed_port if kind == "refused" else self.port
        return f"http://127.0.0.1:{port}/{kind}/{name}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as its path says."""
        self.open[asyncio.current_task()] = writer
        try:
            while await self._answer(reader, writer):
                continue
        except (OSError, EOFError, ValueError):
            pass  # the worker has gone, as it may
        finally:
            del self.open[asyncio.current_task()]
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = {
            line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.split("\r\n")[1:]
        }
        await reader.readexactly(int(fields.get("content-length", 0)))
        _, kind, name, *_ = [*head.split(" ")[1].split("/"), "", ""]
        if kind == "living":
            return await self._living(writer, name, fields["webhook-id"])
        if kind == "followed":
            self.followed += 1
            return False
        self.dead_asked += 1
        match kind:
            case "dripping":  # a byte now and then, and no end
                writer.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
                while True:
                    writer.write(b"z")
                    await writer.drain()
                    await asyncio.sleep(DRIP_SECONDS)
            case "endless":
                writer.write(b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"10000\r\n" + ENDLESS + b"\r\n")
                    await writer.drain()
            case "redirecting":
                to = f"http://127.0.0.1:{self.port}/followed/{name}"
                writer.write(f"HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n".encode())
            case "nonsense":
                writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n" * 100)
            case "failing":
                writer.write(b"HTTP/1.1 503 Later\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n")
            case "hanging":
                await reader.read()  # until the other side gives up
        await writer.drain()
        return kind in ("redirecting", "failing")

    async def _living(self, writer: asyncio.StreamWriter, name: str, delivery: str) -> bool:
        if self.refuses and self.chance.random() < self.refuses:
            writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
        else:
            taken = self.taken.setdefault(name, {})
            self.repeated += delivery in taken
            taken.setdefault(delivery, time.time())
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        return True


@asynccontextmanager
async def receiving(refuses: float = 0.0) -> AsyncIterator[Receivers]:
    """Receivers on a port of 127.0.0.1, and another port on which nobody listens."""
    made = Receivers(0, free_port(), refuses)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=LONGEST_HEAD, backlog=4_096)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in made.open.values():
            writer.transport.abort()
        if made.open:
            await asyncio.wait([task for task in made.open if task is not None], timeout=5)
