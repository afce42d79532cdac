"""Webhooks: deliveries a second of one webhook worker, beside a plain aiohttp loop that only POSTs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from streammesh.api_keys import ApiKeys
from streammesh.webhooks.definition import Secret, Webhook
from streammesh.webhooks.signature import new_secret
from streammesh.webhooks.store import WebhookStore

from benchmarks.arena import arena
from benchmarks.measuring import Results

URLS = 4
AT_ONCE = 16 * URLS
BODY = '"event":{"id":"e","type":"bench.noop","source":"s","subject":null},"task":null,"data":{"n":1}'
PLAIN = """
import asyncio, sys, aiohttp, uvloop
url, count, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
body, left = b"x" * 250, iter(range(count))
async def loop(session):
    for _ in left:
        async with session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
            await answer.read()
async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(loop(session) for _ in range(at_once)))
uvloop.run(main())
"""


class Receiver(asyncio.Protocol):
    """Answers each POST at once, and counts it; costs little itself."""

    count = 0
    changed: asyncio.Event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._transport, self._rest = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._rest += data
        while True:
            head, found, body = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(body) < length:
                return
            self._rest = body[length:]
            type(self).count += 1
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            type(self).changed.set()


@asynccontextmanager
async def receiving() -> AsyncIterator[str]:
    """A receiver on a port of its own."""
    Receiver.count, Receiver.changed = 0, asyncio.Event()
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def came(count: int) -> None:
    """Wait until so many came."""
    async with asyncio.timeout(300):
        while Receiver.count < count:
            Receiver.changed.clear()
            await Receiver.changed.wait()


async def webhooks(results: Results, size: int) -> None:
    """`webhooks`: what waits for four URLs is delivered, signed, by one process; and the same by a plain loop."""
    async with arena() as mesh, receiving() as url:
        await ApiKeys(mesh.redis, mesh.keys).create("bench-hooks", admin=True)
        store = WebhookStore(mesh.redis, mesh.keys)
        for n in range(URLS):
            await store.put(Webhook(f"w{n}", f"{url}/{n}", "bench-hooks", secrets=(Secret(new_secret()),)))
        worker = "services.webhook_worker"
        await mesh.start(worker, role="webhook_worker", WEBHOOK_ALLOW_PRIVATE='["127.0.0.0/8"]')
        fields = {"t": "task.started", "e": "e", "k": "", "v": "w", "y": "bench.noop", "u": "", "b": BODY}
        each = size // URLS

        async def tell(count: int) -> None:
            for _ in range(0, count, 100):
                pipeline = mesh.redis.pipeline(transaction=False)
                for _ in range(100):
                    pipeline.xadd(mesh.keys.notifications(), fields)
                await pipeline.execute()

        await tell(100)
        await came(100 * URLS)
        began, before = time.perf_counter(), Receiver.count
        await tell(each)
        told = -(-each // 100) * 100 * URLS
        await came(before + told)
        results.add("webhooks", "deliveries/s", told / (time.perf_counter() - began))
    async with receiving() as url:
        plain = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PLAIN, url, str(size), str(AT_ONCE)
        )
        await came(AT_ONCE)
        began, before = time.perf_counter(), Receiver.count
        await came(size)
        results.add("webhooks", "deliveries/s", (size - before) / (time.perf_counter() - began), "aiohttp")
        await plain.wait()
