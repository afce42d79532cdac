"""Webhook workers are killed at any point: what was said reaches each URL at least once, and nothing is forgotten.

The witness is the receiver, which knows nothing of Redis; what should have come is the positions that were told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from subprocess import Popen

import pytest
from aiohttp import web
from redis.asyncio import Redis
from streammesh.api_keys import ApiKeys
from streammesh.keys import Keys
from streammesh.webhooks.definition import Secret, Webhook
from streammesh.webhooks.signature import new_secret
from streammesh.webhooks.store import WebhookStore

KILLS = 3
TOLD = 600


@pytest.fixture
async def witness() -> AsyncIterator[tuple[str, dict[str, list[str]]]]:
    """A receiver that refuses some, and remembers what it took."""
    taken: dict[str, list[str]] = {}
    chance = random.Random(7)

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        if chance.random() < 0.05:
            return web.Response(status=500)
        taken.setdefault(request.path, []).append(request.headers["webhook-id"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/{tail:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", taken
    await runner.cleanup()


async def test_killed_workers_forget_no_delivery(
    witness: tuple[str, dict[str, list[str]]],
    mesh_redis: Redis,
    mesh_keys: Keys,
    mesh_start: Callable[..., Popen[bytes]],
) -> None:
    url, taken = witness
    await ApiKeys(mesh_redis, mesh_keys).create("shop", admin=True)
    store = WebhookStore(mesh_redis, mesh_keys)
    for name, ordered in (("a", False), ("b", False), ("c", True)):
        webhook = Webhook(name, f"{url}/{name}", "shop", ordered=ordered, secrets=(Secret(new_secret()),))
        await store.put(webhook)
    settings = {
        "WEBHOOK_ALLOW_PRIVATE": '["127.0.0.0/8"]',
        "WEBHOOK_TIMEOUT": "100ms",  # its lease goes by this
        "WEBHOOK_RETRY_FIRST": "50ms",
    }

    def start() -> Popen[bytes]:
        return mesh_start("services.webhook_worker", **settings)

    fields = {"t": "task.started", "e": "e", "k": "", "v": "w", "y": "a.b", "u": ""}
    fields["b"] = '"event":{"id":"e","type":"a.b","source":"s","subject":null},"task":null,"data":{}'
    told: list[str] = []
    worker = start()
    for _ in range(KILLS):
        for _ in range(TOLD // KILLS):
            told.append((await mesh_redis.xadd(mesh_keys.notifications(), fields)).decode())
        before = sum(map(len, taken.values()))
        async with asyncio.timeout(30):
            while sum(map(len, taken.values())) <= before + 20:
                await asyncio.sleep(0.01)
        worker.kill()
        worker.wait()
        worker = start()

    def all_there() -> bool:
        return all({f"{name}_{at}" for at in told} <= set(taken.get(f"/{name}", ())) for name in "abc")

    async with asyncio.timeout(90):
        while not all_there():
            await asyncio.sleep(0.05)
    first_time = list(dict.fromkeys(taken["/c"]))
    assert first_time == [f"c_{position}" for position in told]  # in order, but for what was sent once more
