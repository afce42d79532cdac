"""From a dead letter to the webhook, with a real scheduler; and a webhook that fails."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from streammesh.embedded import free_port
from streammesh.testing.conditions import wait_until

SERVICES = ["tests.probe", "services.scheduler"]
PORT = free_port()
ENVIRONMENT = {"ALERT_WEBHOOK_URL": f"http://127.0.0.1:{PORT}/hook", "ALERT_EVERY": "1s"}


@pytest.fixture
async def heard():
    """What the webhook was told; it is away at first."""
    said = []

    async def hook(request):
        said.append((await request.json())["text"])
        return web.Response(status=500 if len(said) == 1 else 200)

    app = web.Application()
    app.router.add_post("/hook", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    yield said
    await runner.cleanup()


async def test_a_dead_letter_reaches_the_webhook_though_it_fails_at_first(ask, heard):
    async def watching():
        return await ask.redis.get(ask.mesh.keys.alerted())

    await wait_until("somebody watches", watching)
    await asyncio.gather(*(ask.run("probe.rejected") for _ in range(3)))

    async def told_twice():
        return len(heard) >= 2

    await wait_until("the webhook was told, and told again", told_twice, seconds=30)
    assert heard[0] == heard[1]
    assert "3 x probe.rejected: Reject: it can never succeed" in heard[0] or "1 x probe" in heard[0]
    assert (await ask.run("probe.noop")).state == "succeeded"
