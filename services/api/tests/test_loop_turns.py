"""No request holds the API's event loop for more than 50 ms, whatever is stored."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import orjson
import pytest
from streammesh.subscriptions.manifest import Manifest, Subscription

MOST_SECONDS = 0.05
SOURCES = 20_000
DIGEST = "0123456789abcdef"


@asynccontextmanager
async def watched():
    """Measures the longest turn of the loop, in processor time of its thread: what else the machine does is no matter."""
    turns = [0.0]

    async def watch():
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - began)

    watching = asyncio.create_task(watch())
    yield turns
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert max(turns) < MOST_SECONDS, f"the loop was held for {max(turns) * 1000:.0f} ms"


def envelope(n, size=0, event_type="order.placed"):
    return orjson.dumps(
        {"specversion": "1.0", "id": f"e{n}", "source": "shop", "type": event_type, "time": "2026-11-22T06:00:00Z",
         "data": {"text": "x" * size, "list": list(range(100 if size else 0))}}
    )  # fmt: skip


@pytest.fixture
async def crowded(mesh_redis, mesh_keys):
    """One event id that 20,000 sources used, each with a task."""
    position = (await mesh_redis.xadd(mesh_keys.events("order"), {"e": envelope(1)})).decode()
    row = {}
    for n in range(SOURCES):
        row[f"at:s{n}"] = f"{position} 1763790000000 {DIGEST} order"
        row[f"want:s{n}"] = row[f"done:s{n}"] = 1
        row[f"notes:s{n}"] = "1763790000000-0"
        row[f"task:{n:032x}"] = f"s{n}"
    key = mesh_keys.event("one")
    items = list(row.items())
    for first in range(0, len(items), 5_000):
        await mesh_redis.hset(key, mapping=dict(items[first : first + 5_000]))
    return "one"


async def test_one_id_of_twenty_thousand_sources_is_answered_in_small_turns(api, crowded):
    async with watched():
        ambiguous = await api.get(f"/v1/events/{crowded}")
        one = await api.get(f"/v1/events/{crowded}", params={"source": "s19999"})
        told = await api.get(f"/v1/events/{crowded}/notifications", params={"source": "nobody"})

    assert (ambiguous.status_code, len(ambiguous.json()["sources"])) == (409, 100)
    assert (one.status_code, one.json()["source"]) == (200, "s19999")
    assert told.status_code == 404


async def test_a_key_that_may_read_nothing_of_it_learns_nothing_and_costs_nothing(
    api, crowded, make_key, mesh_redis
):
    publisher = {"authorization": f"Bearer {await make_key('p', publish=['order.*'])}"}
    stranger = {"authorization": f"Bearer {await make_key('s', subscribe=['user.*'])}"}
    for headers in (publisher, stranger):
        async with watched():
            answer = await api.get(f"/v1/events/{crowded}", headers=headers)
        assert answer.status_code == 404
        assert "sources" not in answer.json()
    await mesh_redis.config_resetstat()
    assert (await api.get(f"/v1/events/{crowded}", headers=publisher)).status_code == 404
    stats = await mesh_redis.info("commandstats")
    assert "cmdstat_hscan" not in stats and "cmdstat_hgetall" not in stats


async def test_of_several_sources_only_those_are_named_that_the_key_may_read(api, make_key, mesh):
    for source, event_type in [("a", "order.placed"), ("b", "order.paid"), ("c", "user.gone")]:
        event = {"id": "same", "source": source, "type": event_type, "data": {}}
        assert (await api.post("/v1/events", json=event)).status_code == 202
    reader = {"authorization": f"Bearer {await make_key('r', subscribe=['order.*'])}"}

    ambiguous = await api.get("/v1/events/same", headers=reader)
    one = {"authorization": f"Bearer {await make_key('u', subscribe=['user.*'])}"}
    found = await api.get("/v1/events/same", headers=one)

    assert (ambiguous.status_code, ambiguous.json()["sources"]) == (409, ["a", "b"])
    assert (found.status_code, found.json()["source"]) == (200, "c")


async def test_a_page_of_large_events_is_cut_where_it_gets_too_long(api, mesh_redis, mesh_keys):
    await mesh_redis.sadd(mesh_keys.domains(), "order")
    for n in range(120):
        await mesh_redis.xadd(mesh_keys.events("order"), {"e": envelope(n, 250_000)})
    seen, cursor = [], None
    async with watched():
        while True:
            params = {"limit": 200} | ({"cursor": cursor} if cursor else {})
            answer = await api.get("/v1/events", params=params)
            assert len(answer.content) < 6_000_000
            page = orjson.loads(answer.content)
            seen += [event["id"] for event in page["events"]]
            cursor = page["next"]
            if cursor is None:
                break

    assert seen == [f"e{n}" for n in reversed(range(120))]


async def test_ten_thousand_dead_letters_that_do_not_fit_are_looked_through_in_small_turns(
    api, mesh_redis, mesh_keys
):
    letter = {"form": "task", "reason": "x" * 500, "kind": "E", "attempts": 1, "detail": "y" * 4_000,
              "event": {"id": "e", "type": "order.placed", "source": "s", "subject": None}}  # fmt: skip
    raw = orjson.dumps(letter)
    for service in ("one", "two"):
        await mesh_redis.sadd(mesh_keys.dead_services(), service)
        for first in range(0, 5_000, 1_000):
            ids = range(first, first + 1_000)
            await mesh_redis.hset(mesh_keys.dead(service), mapping={f"l{n}": raw for n in ids})
            await mesh_redis.zadd(mesh_keys.dead_index(service), {f"l{n}": n for n in ids})
    async with watched():
        none = await api.get("/v1/dead-letters", params={"reason": "there is no such"})
        all_ = await api.get("/v1/dead-letters", params={"limit": 500})

    assert (none.status_code, all_.status_code) == (200, 200)
    assert none.json()["dead_letters"] == []
    assert len(all_.json()["dead_letters"]) == 500


async def test_two_thousand_subscriptions_are_listed_in_small_turns(api, mesh_redis, mesh_keys):
    for s in range(20):
        wants = tuple(
            Subscription(f"service{s}", f"service{s}.h{n}", "order.placed", {"data.n": {">": n}})
            for n in range(100)
        )
        schemas = {one.task: {"type": "object", "properties": {f"p{k}": {"type": "string"} for k in range(20)}}
                   for one in wants}  # fmt: skip
        manifest = Manifest(f"service{s}", "1", wants, schemas)
        await mesh_redis.hset(mesh_keys.manifests(), f"service{s}", manifest.to_json())
    sent = (await api.post("/v1/events", json={"type": "order.placed", "data": {}})).json()
    async with watched():
        listed = await api.get("/v1/subscriptions")
        why = await api.get(f"/v1/events/{sent['id']}")

    assert len(orjson.loads(listed.content)["subscriptions"]) == 2_000
    assert why.status_code == 200
