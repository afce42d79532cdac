"""The whole webhook worker in this process, and a receiver on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import web
from streammesh.api_keys import ApiKeys
from streammesh.redisio.channel_watch import watch
from streammesh.redisio.client import open_async
from streammesh.webhooks.definition import Secret, Webhook
from streammesh.webhooks.signature import new_secret
from streammesh.webhooks.store import WebhookStore

from services.webhook_worker.__main__ import LOOK_EVERY
from services.webhook_worker.crew import Crew
from services.webhook_worker.settings import WebhookSettings

LOOPBACK = {"allow_private": ["127.0.0.0/8", "::1/128"]}


@dataclass
class Receiver:
    """What came, and how it is answered: `answer` may be changed by a test."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[web.Request], Any] = lambda _: web.Response(status=204)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.path, {k.lower(): v for k, v in request.headers.items()}, body))
        answer = self.answer(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    def bodies(self, path: str | None = None) -> list[dict[str, Any]]:
        return [orjson.loads(body) for at, _, body in self.requests if path in (None, at)]

    def ids(self, path: str | None = None) -> list[str]:
        return [headers["webhook-id"] for at, headers, _ in self.requests if path in (None, at)]


async def until(fits: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not (await got if asyncio.iscoroutine(got := fits()) else got):
            await asyncio.sleep(0.005)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def store(mesh_redis, mesh_keys) -> WebhookStore:
    return WebhookStore(mesh_redis, mesh_keys)


@pytest.fixture
async def owner(mesh_redis, mesh_keys) -> str:
    await ApiKeys(mesh_redis, mesh_keys).create("shop", admin=True)
    return "shop"


@pytest.fixture
def add(store, owner, receiver) -> Callable[..., Any]:
    async def add(name: str = "wh1", start: str = "0-0", **about: Any) -> Webhook:
        about = {"url": f"{receiver.url}/{name}", "owner": owner, "secrets": (Secret(new_secret()),), **about}
        webhook = Webhook(name, **about)
        assert await store.put(webhook, start=start) == "stored"
        return webhook

    return add


@pytest.fixture
def tell(mesh_redis, mesh_keys) -> Callable[..., Any]:
    async def tell(
        n: int = 1,
        event: str = "e",
        event_type: str = "order.placed",
        kind: str = "task.started",
        subject: str = "",
    ):
        about = f'{{"id":"{event}","type":"{event_type}","source":"s","subject":null}}'
        fields = {"t": kind, "e": event, "k": "", "v": "w", "y": event_type, "u": subject}
        pipeline = mesh_redis.pipeline(transaction=False)
        for i in range(n):
            body = f'"event":{about},"task":null,"data":{{"n":{i}}}'
            pipeline.xadd(mesh_keys.notifications(), {**fields, "b": body})
        return [position.decode() for position in await pipeline.execute()]

    return tell


@pytest.fixture
def crew(mesh_settings, mesh_keys) -> Callable[..., Any]:
    """`async with crew(retry_first=…)`: a webhook worker at work."""

    @asynccontextmanager
    async def crew(**settings: Any) -> AsyncIterator[Crew]:
        own = WebhookSettings(_env_file=None, **{**LOOPBACK, **settings})
        clients = [open_async(mesh_settings, "hooks", blocking=blocking) for blocking in (False, True, True)]
        made = Crew(clients[0], clients[1], mesh_keys, own)
        roles = [
            *made.roles(),
            watch(
                clients[2],
                mesh_keys.webhooks_changed(),
                made.changed,
                LOOK_EVERY,
                mesh_settings.redis_timeout,
            ),
        ]
        tasks = [asyncio.create_task(role) for role in roles]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await made.stop(2)
            for client in clients:
                await client.aclose()

    return crew
