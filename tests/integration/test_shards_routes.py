"""Every route of the API answers with three shards as it does with one; webhooks, backfills and limits are joined."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from aiohttp import web
from streammesh.api_keys import ApiKeys
from streammesh.embedded import EmbeddedServer
from streammesh.flow.limits import Flow
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.shards import shard_of
from streammesh.status.whole import WholeMesh, findings_of_all, joined

from services.api.app import create_app
from services.api.settings import ApiSettings, StoreSettings
from services.api.tests.mesh import Mesh as Moves
from services.api.tests.mesh import Running
from services.report_worker.operations_source import read_all_operations
from services.scheduler.alert_watch import AlertWatch
from services.webhook_worker.crew import Crew
from services.webhook_worker.owners import Owners
from services.webhook_worker.settings import WebhookSettings

COUNT = 3
BATCH = {"content-type": "application/cloudevents-batch+json"}
KEY = "k-" + "s" * 30
PARTS = [next(k for k in map(str, range(99)) if shard_of(k, "", "", COUNT) == n) for n in range(COUNT)]
OWNED = ("/healthz", "/livez", "/readyz", "/metrics", "/problems/{name}")  # of the process, and no mesh's
STREAMS = ("/v1/notifications", "/v1/events/{event_id}/notifications", "/v1/tasks/{task_id}/streams/{name}")
DEEDS = (  # that real processes are needed for, or a task that runs: left to the tests of each
    *(("post", "/v1/reports"), ("get", "/v1/reports/{report_id}"), ("get", "/v1/reports/{report_id}.pdf")),
    *(("post", "/v1/tasks/{task_id}/result"), ("post", "/v1/tasks/{task_id}/signal")),
    *(("post", "/v1/tokens"), ("post", "/v1/users/{user_id}/welcome-email")),
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EmbeddedServer]]:
    folder: Path = tmp_path_factory.mktemp("routes")
    made = [EmbeddedServer(folder / str(n)) for n in range(COUNT)]
    for one in made:
        one.start()
    yield made
    for one in made:
        one.stop()


@dataclass
class World:
    """A mesh: its API in this process, and what dispatchers and workers would do in each shard."""

    client: httpx.AsyncClient
    shards: list[Moves]
    app: Any

    async def ask(self, method: str, path: str, status: int = 200, **how: Any) -> Any:
        answer = await self.client.request(method, path, **how)
        assert answer.status_code == status, (method, path, answer.text)
        return answer.json()

    async def publish(self, *ids: str, **more: Any) -> None:
        """One event for each id; its partition key is that of the shards in turn."""
        events = [
            {"specversion": "1.0", "type": "user.made", "source": "tests", "id": id, "data": {}, **more}
            | {"partitionkey": PARTS[n % COUNT]}
            for n, id in enumerate(ids)
        ]
        await self.ask("POST", "/v1/events", 202, content=json.dumps(events), headers=BATCH)

    async def hand_over(self) -> list[tuple[Moves, Running]]:
        return [(shard, task) for shard in self.shards for task in await shard.dispatch("user", "mail")]


@asynccontextmanager
async def world(servers: list[EmbeddedServer], count: int, name: str, folder: Path) -> AsyncIterator[World]:
    urls = " ".join(one.url for one in servers[:count])
    settings = MeshSettings(
        _env_file=None, redis_url=urls, shards=count, namespace=name, redis_timeout=timedelta(seconds=10)
    )
    api = ApiSettings(_env_file=None, port=0, allow_private=["127.0.0.0/8"])
    async with AsyncExitStack() as stack:
        shards = []
        for shard in map(settings.of_shard, range(count)):
            client = open_async(shard, "test")
            stack.push_async_callback(client.aclose)
            shards.append(Moves(client, Keys(shard.namespace), shard))
        await ApiKeys(shards[0].redis, shards[0].keys).create("ops", admin=True, secret=KEY)
        for one in shards:
            await one.subscribe("mail", "user.made", flow=Flow(key="partitionkey", total=100))
        door = create_app(settings, api, StoreSettings(_env_file=None, store_url=str(folder / name)))
        await stack.enter_async_context(door.app.router.lifespan_context(door.app))
        asked = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(door),
                base_url="http://api.test",
                headers={"authorization": f"Bearer {KEY}"},
                timeout=30,
            )
        )
        yield World(asked, shards, door.app)


def shape(value: Any) -> Any:
    """Which fields there are, of all elements of a list together; no values."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        merged: dict[str, Any] = {}
        for one in map(shape, value):
            if isinstance(one, dict):
                merged |= {name: kind for name, kind in one.items() if kind is not None or name not in merged}
        return [merged]
    return None


async def every_route(mesh: World) -> dict[tuple[str, str], Any]:
    """Ask each route once; the answers by method and path as the document has it."""
    said: dict[tuple[str, str], Any] = {}

    async def ask(method: str, path: str, status: int = 200, route: str = "", **how: Any) -> Any:
        answer = await mesh.ask(method.upper(), path, status, **how)
        said[method, route or path.partition("?")[0]] = answer
        return answer

    ids = [f"e-{n}" for n in range(9)]
    await mesh.publish(*ids)
    tasks = await mesh.hand_over()
    assert len(tasks) == 9
    for n, (shard, task) in enumerate(tasks):
        await shard.start(task)
        if n % 3 == 1:
            await shard.fail(task, "no luck")
        elif n % 3 == 2:
            await shard.succeed(task, {"n": n})
    open_task = next(task.ref.task_id for n, (_, task) in enumerate(tasks) if n % 3 == 0)
    said["post", "/v1/events"] = None
    await ask("get", "/v1/events?limit=20")
    await ask("get", "/v1/events/e-4", route="/v1/events/{event_id}")
    await ask("get", "/v1/tasks?limit=20")
    await ask("get", f"/v1/tasks/{open_task}", route="/v1/tasks/{task_id}")
    letters = (await ask("get", "/v1/dead-letters?service=mail"))["dead_letters"]
    await ask("get", f"/v1/dead-letters/{letters[0]['id']}", route="/v1/dead-letters/{letter_id}")
    await ask("get", "/v1/failures")
    for path in ("status", "services", "subscriptions", "manifests", "types", "audit", "key", "schedules"):
        await ask("get", f"/v1/{path}")
    await ask("get", "/v1/services/mail", route="/v1/services/{service}")
    await ask("get", "/v1/types/user.made", route="/v1/types/{type}")
    await ask("get", "/v1/subscriptions/mail.handle/keys", route="/v1/subscriptions/{task}/keys")
    limited = "/v1/subscriptions/mail.handle"
    await ask("patch", limited, json={"total": 50}, route="/v1/subscriptions/{task}")
    await ask("post", f"{limited}/pause", json={"reason": "t"}, route="/v1/subscriptions/{task}/pause")
    await ask("post", f"{limited}/resume", route="/v1/subscriptions/{task}/resume")
    await ask("post", f"/v1/tasks/{open_task}/cancel", 202, route="/v1/tasks/{task_id}/cancel")
    some = {"filter": {"service": "mail"}, "dry_run": True}
    await ask("post", "/v1/dead-letters/replay", 202, json=some)
    await ask("post", "/v1/dead-letters/drop", json=some)
    since = {"service": "mail", "since": "2020-01-01T00:00:00Z"}
    again = {**since, "states": ["failed"]}
    await ask("post", "/v1/replays", 202, json={**again, "dry_run": True})
    begun = await ask("post", "/v1/backfills", 202, json={**since, "rate": 30})
    await mesh.ask("POST", "/v1/backfills", 409, json=since)
    await ask("get", "/v1/backfills")
    one = f"/v1/backfills/{begun['id']}"
    await ask("get", one, route="/v1/backfills/{backfill_id}")
    await ask("delete", one, route="/v1/backfills/{backfill_id}")
    hook = await ask("post", "/v1/webhooks", 201, json={"url": "http://127.0.0.1:9/x", "types": ["task.*"]})
    path, route = f"/v1/webhooks/{hook['id']}", "/v1/webhooks/{webhook_id}"
    await ask("get", "/v1/webhooks")
    await ask("get", path, route=route)
    await ask("patch", path, json={"description": "d"}, route=route)
    await ask("post", f"{path}/test", 202, route=f"{route}/test")
    await ask("get", f"{path}/attempts", route=f"{route}/attempts")
    since_then = {"since": "2020-01-01T00:00:00Z"}
    await ask("post", f"{path}/replay", 202, json=since_then, route=f"{route}/replay")
    await ask("post", f"{path}/secret", json={}, route=f"{route}/secret")
    await ask("delete", path, route=route)
    url = {"url": "http://127.0.0.1:9/y", "subscriptions": [{"type": "user.gone"}]}
    await ask("put", "/v1/services/urls", json=url, route="/v1/services/{service}")
    await ask("delete", "/v1/services/urls", route="/v1/services/{service}")
    await ask("post", "/v1/keys", 201, json={"name": "shop", "publish": ["user.*"]})
    await ask("get", "/v1/keys")
    await ask("delete", "/v1/keys/shop", route="/v1/keys/{name}")
    entry, named = {"event": {"type": "user.made"}, "every": "1h"}, "/v1/schedules/{name}"
    await ask("put", "/v1/schedules/s", json=entry, route=named)
    await ask("get", "/v1/schedules/s", route=named)
    await ask("post", "/v1/schedules/s/disable", route=f"{named}/disable")
    await ask("post", "/v1/schedules/s/enable", route=f"{named}/enable")
    await ask("post", "/v1/schedules/s/trigger", 202, route=f"{named}/trigger")
    await ask("delete", "/v1/schedules/s", route=named)
    keyed = {"event": {"type": "user.made", "partitionkey": PARTS[-1]}, "every": "1h"}
    await mesh.ask("PUT", "/v1/schedules/keyed", json=keyed)
    tick = await mesh.ask("POST", "/v1/schedules/keyed/trigger", 202)
    last = mesh.shards[-1]  # the same moment is published once: there, where Beat has it brought
    assert await last.redis.exists(last.keys.event(tick["id"]))
    await mesh.ask("DELETE", "/v1/schedules/keyed")
    return said


async def test_every_route_answers_with_three_shards_as_with_one(servers, tmp_path):
    async with world(servers, 1, "one", tmp_path) as single, world(servers, 3, "three", tmp_path) as mesh:
        expected, found = await every_route(single), await every_route(mesh)
        routes = {(method, path) for path, some in mesh.app.openapi()["paths"].items() for method in some}

    asked = {(method, path) for method, path in routes if path not in (*OWNED, *STREAMS)} - set(DEEDS)
    assert set(found) == asked
    for route, answer in expected.items():
        assert shape(found[route]) == shape(answer), route
    for route, field in (
        *((("get", "/v1/failures"), "counted"), (("post", "/v1/dead-letters/replay"), "matched")),
        *((("post", "/v1/replays"), "tasks"), (("get", "/v1/subscriptions/{task}/keys"), "running")),
        *((("post", "/v1/backfills"), "rate"), (("get", "/v1/subscriptions/{task}/keys"), "waiting")),
    ):
        assert found[route][field] == expected[route][field], (route, field)
    assert found["get", "/v1/failures"]["failures"][0]["count"] == 3
    assert {one["key"] for one in found["get", "/v1/subscriptions/{task}/keys"]["keys"]} == set(PARTS)
    assert len(found["get", "/v1/types"]["types"]) == len(expected["get", "/v1/types"]["types"])
    for name in ("published", "handed_over"):
        assert found["get", "/v1/status"]["totals"][name] == 9
    [listed] = found["get", "/v1/backfills"]["backfills"]
    assert listed["id"] == found["post", "/v1/backfills"]["id"]


async def test_who_looks_at_the_mesh_beside_the_api_sees_all_shards(servers, tmp_path):
    async with world(servers, 3, "looks", tmp_path) as mesh:
        await mesh.publish(*(f"g-{n}" for n in range(6)))
        for n, (shard, task) in enumerate(await mesh.hand_over()):
            await shard.start(task)
            if n in (1, 5):
                await shard.fail(task, "no luck")
        whole = WholeMesh(mesh.shards[0].settings, "test")
        each = await whole.look()
        await whole.aclose()
        first, *others = mesh.shards
        pairs = [(one.redis, one.keys) for one in others]
        watch = AlertWatch(first.redis, first.keys, first.settings, timedelta(seconds=1), pairs)
        found = await watch._find(0, 10**13)
        clients = [redis.Redis.from_url(one.settings.redis_url) for one in mesh.shards]
        read = [(client, one.keys, None) for client, one in zip(clients, mesh.shards, strict=True)]
        now = datetime.now(UTC)
        period = (now - timedelta(hours=1), now + timedelta(hours=1))
        tasks, events, cut_short = read_all_operations(read, period, 100)
        for client in clients:
            client.close()

    state = joined(each).services[0]
    assert (state.queued, state.dead_letters) == (4, 2)
    said = findings_of_all(each, mesh.shards[0].settings)
    assert sum(one.code == "no-dispatcher" for one in said) == 3
    assert sum(one.code == "no-beat" for one in said) == 1
    assert {one.text[:9] for one in said} == {"shard 0: ", "shard 1: ", "shard 2: "}
    assert found.dead_letters == 2
    assert (len(tasks), len(events), cut_short) == (2, 6, False)
    assert {task.reason for task in tasks} == {"no luck"}


async def test_a_webhook_is_told_of_every_shard_under_ids_of_its_own(servers, tmp_path):
    came: dict[str, dict[str, Any]] = {}

    async def take(request: web.Request) -> web.Response:
        came[request.headers["webhook-id"]] = await request.json()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    own = WebhookSettings(_env_file=None, allow_private=["127.0.0.0/8"])
    async with AsyncExitStack() as stack, world(servers, 3, "hooks", tmp_path) as mesh:
        stack.push_async_callback(runner.cleanup)
        made = await mesh.ask("POST", "/v1/webhooks", 201, json={"url": url, "types": ["task.succeeded"]})
        owners = Owners(ApiKeys(mesh.shards[0].redis, mesh.shards[0].keys))
        crews, roles = [], []
        for shard in mesh.shards:
            ears = open_async(shard.settings, "ears", blocking=True)
            stack.push_async_callback(ears.aclose)
            crews.append(Crew(shard.redis, ears, shard.keys, own, api_keys=owners))
            roles += [asyncio.create_task(role) for role in crews[-1].roles()]
        await mesh.publish(*(f"h-{n}" for n in range(6)))
        for shard, task in await mesh.hand_over():
            await shard.start(task)
            await shard.succeed(task)
        async with asyncio.timeout(20):
            while len(came) < 6:
                await asyncio.sleep(0.02)
        path = f"/v1/webhooks/{made['id']}"
        async with asyncio.timeout(20):
            while (shown := await mesh.ask("GET", path))["delivered"] < 6:
                await asyncio.sleep(0.05)
        page = await mesh.ask("GET", f"{path}/attempts?limit=4")
        rest = await mesh.ask("GET", f"{path}/attempts?limit=4&cursor={page['next']}")
        for role in roles:
            role.cancel()
        await asyncio.gather(*roles, return_exceptions=True)
        for crew in crews:
            await crew.stop(1)
        await mesh.ask("PATCH", path, json={"enabled": False})
        raw = [await shard.redis.hget(shard.keys.webhooks(), made["id"]) for shard in mesh.shards]
        await mesh.ask("DELETE", path)
        left = [await shard.redis.hlen(shard.keys.webhooks()) for shard in mesh.shards]

    assert {one["event"]["id"] for one in came.values()} == {f"h-{n}" for n in range(6)}
    assert {re.sub(r"^[^.]*\.?", "", id) for id in came} == {"", "1", "2"}
    assert shown["waiting"] == 0
    assert {one["delivery"] for one in page["attempts"] + rest["attempts"]} == set(came)
    assert [json.loads(one)["enabled"] for one in raw] == [False] * 3
    assert left == [0, 0, 0]
