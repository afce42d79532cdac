"""A mesh of three shards, each on a server of its own: real processes, asked by its one API."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.keys import Keys
from streammesh.shards import shard_of
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess

SHARDS = 3
PARTS = [
    next(key for key in map(str, range(99)) if shard_of(key, "", "", SHARDS) == n) for n in range(SHARDS)
]
KEY = "k-" + "s" * 30
SERVICE = "tests.harness.sharded_worker"
pytestmark = pytest.mark.timeout(120)


@dataclass
class Mesh:
    """Three servers and the processes over them."""

    servers: list[EmbeddedServer]
    url: str
    processes: dict[str, MeshProcess]

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20)

    def redis(self, number: int) -> redis.Redis:
        return redis.Redis.from_url(self.servers[number].url)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder: Path = tmp_path_factory.mktemp("shards")
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer(folder / f"redis-{n}")) for n in range(SHARDS)]
        port = free_port()
        env = {
            "MESH_REDIS_URL": " ".join(server.url for server in servers),
            "MESH_SHARDS": str(SHARDS),
            "API_PORT": str(port),
            "API_ADMIN_KEY": KEY,
            "MESH_DRAIN": "3s",
        }
        processes = {}
        for module in ("services.api", "services.dispatcher", SERVICE):
            processes[module] = MeshProcess(module, module, env, folder).start()
            stack.callback(processes[module].kill)
        made = Mesh(servers, f"http://127.0.0.1:{port}", processes)

        def ready() -> bool:
            with httpx.Client(base_url=made.url, headers={"authorization": f"Bearer {KEY}"}) as client:
                try:
                    found = client.get("/v1/services").json()["services"]
                except (httpx.HTTPError, KeyError):
                    return False
            return any(one["service"] == "sharded" and one["workers"] == SHARDS for one in found)

        asyncio.run(_until("all shards have workers", ready))
        yield made


async def _until(what: str, ready) -> None:
    async def asked() -> bool:
        return await asyncio.to_thread(ready)

    await wait_until(what, asked, seconds=100)


def events(count: int, **attributes: str) -> list[dict[str, Any]]:
    return [
        {
            "specversion": "1.0",
            "type": "sharded.noop",
            "source": "tests",
            "id": f"{attributes.get('name', 'e')}-{n}",
            "data": {"n": n},
        }
        for n in range(count)
    ]


async def told_by(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The blocks of a stream of server-sent events, each as its fields."""
    block: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            block[name] = value
        elif block:
            yield block
            block = {}


async def publish(client: httpx.AsyncClient, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    headers = {"content-type": "application/cloudevents-batch+json"}
    answer = await client.post("/v1/events", content=json.dumps(batch), headers=headers)
    assert answer.status_code == 202, answer.text
    return list(answer.json()["events"])


async def ended(client: httpx.AsyncClient, id: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/events/{id}", params={"wait": "15s"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_events_are_spread_over_all_shards_and_each_is_found_by_its_id(mesh: Mesh):
    batch = events(30, name="spread")
    async with mesh.client() as client:
        first = await publish(client, batch)
        again = await publish(client, batch)
        for one in batch:
            state = await ended(client, str(one["id"]))
            [task] = state["deliveries"]
            assert task["task"]["state"] == "succeeded"
            assert (await client.get(f"/v1/tasks/{task['task_id']}")).json()["state"] == "succeeded"

    assert [one["id"] for one in first] == [one["id"] for one in batch]
    assert all(one["duplicate"] for one in again)
    for number in range(SHARDS):
        mine = [one for one in batch if shard_of(None, "tests", str(one["id"]), SHARDS) == number]
        keys = Keys(f"mesh.{number}")
        assert mine
        assert all(mesh.redis(number).exists(keys.event(str(one["id"]))) for one in mine)


async def test_events_of_one_partition_key_are_in_one_shard(mesh: Mesh):
    batch = [{**one, "partitionkey": "customer-7"} for one in events(9, name="parted")]
    async with mesh.client() as client:
        await publish(client, batch)

    number = shard_of("customer-7", "tests", "", SHARDS)
    assert all(mesh.redis(number).exists(Keys(f"mesh.{number}").event(str(one["id"]))) for one in batch)


async def test_pages_leave_nothing_out_and_tell_nothing_twice(mesh: Mesh):
    async with mesh.client() as client:
        await publish(client, events(40, name="paged"))
        seen: Counter[str] = Counter()
        cursor = None
        while True:
            query: dict[str, Any] = {
                "limit": 7,
                "type": "sharded.noop",
                **({"cursor": cursor} if cursor else {}),
            }
            page = (await client.get("/v1/events", params=query)).json()
            assert len(page["events"]) <= 7 + SHARDS
            seen.update(one["id"] for one in page["events"] if one["id"].startswith("paged-"))
            cursor = page["next"]
            if cursor is None:
                break
        refused = await client.get("/v1/events", params={"cursor": "a,b"})
        for wrong in ("limit=abc", "limit=0", "limit=7&limit=8", "nonsense=1"):
            assert (await client.get(f"/v1/events?{wrong}")).status_code in (400, 422), wrong

    assert seen == Counter(f"paged-{n}" for n in range(40))
    assert refused.status_code == 400


async def test_a_stream_tells_of_all_shards_and_goes_on_where_it_was_cut(mesh: Mesh):
    told: Counter[str] = Counter()
    async with mesh.client() as client:
        position = (await client.get("/v1/events", params={"limit": 1})).json()["position"]
        await publish(client, events(60, name="pushed"))
        while len(told) < 60:
            query = {"type": "task.succeeded"}
            async with client.stream(
                "GET", "/v1/notifications", params=query, headers={"last-event-id": position}
            ) as answer:
                cut_after = 11
                async for block in told_by(answer):
                    position = block.get("id", position)
                    if block.get("event") != "task.succeeded":
                        continue
                    note = json.loads(block["data"])
                    assert note["id"] == block["id"]
                    if note["event"]["id"].startswith("pushed-"):
                        told[note["event"]["id"]] += 1
                        cut_after -= 1
                    if not cut_after or len(told) == 60:
                        break

    assert told == Counter(f"pushed-{n}" for n in range(60))


async def test_the_stream_of_one_event_and_its_cancellation_find_its_shard(mesh: Mesh):
    async with mesh.client() as client:
        [one] = await publish(client, [{**events(1, name="slow")[0], "type": "sharded.slow"}])

        async def running() -> bool:
            tasks = (await client.get(f"/v1/events/{one['id']}")).json()["deliveries"]
            return bool(tasks) and tasks[0]["task"]["state"] == "started"

        await wait_until("it runs", running, seconds=20)
        listed = (await client.get("/v1/tasks", params={"name": "sharded.slow"})).json()["tasks"]
        answer = await client.post(f"/v1/tasks/{listed[0]['id']}/cancel")
        assert answer.status_code == 202, answer.text
        async with client.stream("GET", f"/v1/events/{one['id']}/notifications") as stream:
            kinds = [block.get("event") async for block in told_by(stream)]

    assert kinds[-1] == "event.completed"
    assert "task.cancelled" in kinds


async def test_a_pause_holds_in_every_shard(mesh: Mesh):
    async with mesh.client() as client:
        path = "/v1/subscriptions/sharded.noop"
        assert (await client.post(f"{path}/pause", json={"reason": "test"})).status_code == 200
        await publish(client, events(12, name="held"))

        async def held() -> bool:
            found = (await client.get("/v1/subscriptions")).json()["subscriptions"]
            return any(one["task"] == "sharded.noop" and one["held"] == 12 for one in found)

        await wait_until("all wait", held, seconds=20)
        assert (await client.post(f"{path}/resume")).status_code == 200
        for n in range(12):
            assert (await ended(client, f"held-{n}"))["deliveries"][0]["task"]["state"] == "succeeded"


async def test_a_shard_that_is_away_is_named_and_the_others_go_on(mesh: Mesh):
    batch = events(30, name="away")
    async with mesh.client() as client:
        mesh.servers[1].stop(kill=True)
        try:

            async def said() -> bool:
                answer = await client.get("/readyz")
                ill = [name for name, part in answer.json()["parts"].items() if not part["ok"]]
                return answer.status_code == 200 and ill == ["redis of shard 1"]

            await wait_until("readiness says which", said, seconds=20)
            headers = {"content-type": "application/cloudevents-batch+json"}
            answer = await client.post("/v1/events", content=json.dumps(batch), headers=headers)
            there = [one for one in batch if shard_of(None, "tests", str(one["id"]), SHARDS) != 1]
            assert answer.status_code == 503
            assert {one["id"] for one in answer.json()["stored"]} == {one["id"] for one in there}
            for one in there[:5]:
                assert (await ended(client, str(one["id"])))["deliveries"][0]["task"]["state"] == "succeeded"
        finally:
            mesh.servers[1].start()

        async def taken() -> bool:
            return (
                await client.post("/v1/events", content=json.dumps(batch), headers=headers)
            ).status_code == 202

        await wait_until("all is taken again", taken, seconds=20)
        for one in batch:
            assert (await ended(client, str(one["id"])))["deliveries"][0]["task"]["state"] == "succeeded"


async def test_follow_ups_go_to_the_shard_of_their_partitionkey_once(mesh: Mesh):
    keys = [next(key for key in map(str, range(99)) if shard_of(key, "", "", SHARDS) == n) for n in range(3)]
    batch = [
        {**one, "type": "sharded.hop", "partitionkey": key, "data": {"id": f"hopped-{n}", "key": other}}
        for n, (one, key, other) in enumerate(
            zip(events(9, name="hop"), keys * 3, [*keys[1:], keys[0]] * 3, strict=True)
        )
    ]
    async with mesh.client() as client:
        await publish(client, batch)
        for n in range(9):

            async def arrived(id: str = f"hopped-{n}") -> bool:
                return (await client.get(f"/v1/events/{id}")).status_code == 200

            await wait_until("it is in its shard", arrived, seconds=20)
            state = await ended(client, f"hopped-{n}")
            assert state["deliveries"][0]["task"]["state"] == "succeeded"
            assert state["event"]["causationid"] == f"hop-{n}"
            there = Keys(f"mesh.{(n % 3 + 1) % 3}")
            assert mesh.redis((n % 3 + 1) % 3).exists(there.event(f"hopped-{n}"))
    for number in range(SHARDS):
        own = Keys(f"mesh.{number}")
        assert not any(mesh.redis(number).xlen(own.outbox(other)) for other in range(SHARDS))


def about(kind: str, order: str, number: int) -> dict[str, Any]:
    """An event about an order, in the shard of that number."""
    one = {**events(1)[0], "type": f"sharded.{kind}", "id": f"{kind}-of-{order}", "data": {"order": order}}
    return one | {"partitionkey": PARTS[number]}


async def test_a_run_is_woken_by_an_event_of_another_shard_whichever_comes_first(mesh: Mesh):
    async with mesh.client() as client:
        # In one request: the payment is there before its run has come to its wait, or is brought after it.
        pairs = [(mine, other) for mine in range(SHARDS) for other in range(SHARDS)]
        batch = [about("order", f"o-{mine}{other}", mine) for mine, other in pairs]
        paid = [about("paid", f"o-{mine}{other}", other) for mine, other in pairs]
        await publish(client, [*batch, about("order", "late", 0)])
        await publish(client, paid)
        for one in batch:
            [task] = (await ended(client, str(one["id"])))["deliveries"]
            assert task["task"]["result"] == f"paid-of-{one['data']['order']}"

        async def waits() -> bool:
            [task] = (await client.get("/v1/events/order-of-late")).json()["deliveries"]
            return bool(task["task"]["state"] == "waiting")

        await wait_until("it waits", waits, seconds=20)
        await publish(client, [about("paid", "late", 1)])
        [task] = (await ended(client, "order-of-late"))["deliveries"]
        assert task["task"]["result"] == "paid-of-late"
        assert [step["kind"] for step in task["task"]["steps"]] == ["event"]


async def test_an_event_that_is_expected_counts_in_whichever_shard_it_came_in_time(mesh: Mesh):
    async with mesh.client() as client:
        orders = [f"{mine}{other}" for mine in range(SHARDS) for other in range(SHARDS)]
        await publish(client, [about("bought", order, int(order[0])) for order in (*orders, "0-absent")])
        await publish(client, [about("shipped", order, int(order[1])) for order in orders])
        for order in orders:
            [task] = (await ended(client, f"bought-of-{order}"))["deliveries"]
            assert task["task"]["result"]["came"]["id"] == f"shipped-of-{order}"
        [task] = (await ended(client, "bought-of-0-absent"))["deliveries"]
        assert task["task"]["result"] == "absent"


async def test_an_event_cancels_the_tasks_of_all_shards_that_were_published_before_it(mesh: Mesh):
    async with mesh.client() as client:
        await publish(client, [{**about("parcel", "x", n), "id": f"parcel-{n}"} for n in range(SHARDS)])
        await publish(client, [about("gone", "x", 2)])
        await publish(client, [about("parcel", "other", 0)])
        for n in range(SHARDS):
            [task] = (await ended(client, f"parcel-{n}"))["deliveries"]
            assert task["task"]["state"] == "cancelled"
            assert task["task"]["error"]["by"]["id"] == "gone-of-x"
        [task] = (await client.get("/v1/events/parcel-of-other")).json()["deliveries"] or [None]
        assert task is None or task["task"]["state"] != "cancelled"
    for number in range(SHARDS):
        own = Keys(f"mesh.{number}")
        assert not any(mesh.redis(number).xlen(own.outbox(other)) for other in range(SHARDS))


def test_a_dispatcher_that_is_told_to_stop_ends_with_all_its_children(mesh: Mesh):
    dispatcher = mesh.processes["services.dispatcher"]
    dispatcher.signal(signal.SIGTERM)

    assert dispatcher.stop() == 0
