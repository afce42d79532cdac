"""No request holds the API's event loop for more than 50 ms, whatever is stored."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from streammesh.events.envelope import BATCH
from streammesh.roles import keep_what_is_loaded
from streammesh.subscriptions.manifest import Manifest, Subscription

MOST_SECONDS = 0.05
WORK_SECONDS = 0.019  # that `slowness` takes on the machine for which the bound stands
NOISE = 1.3  # what else a busy machine does costs processor time, too: caches are shared
MB = 1_000_000
FULL = 250_000  # bytes of data, about as many as an event may have
CROWDED = {
    "lists": b"[" + b",".join([b"[]"] * (FULL // 3)) + b"]",
    "deep lists": b"[" + b",".join([b"[" * 8 + b"]" * 8] * (FULL // 17)) + b"]",
    "nulls": b"[" + b",".join([b"null"] * (FULL // 5)) + b"]",
    "long integers": b"[" + b",".join([b"9" * 30] * (FULL // 31)) + b"]",
    "names": b"{" + b",".join(b'"name%d":0' % n for n in range(FULL // 13)) + b"}",
    "a text": b'"' + b"x" * FULL + b'"',
}
SOURCES = 20_000
DIGEST = "0123456789abcdef"


@pytest.fixture(autouse=True)
def as_in_a_process():
    """The API's process has the garbage collector leave what is loaded alone; this one holds pytest besides."""
    thresholds = gc.get_threshold()
    keep_what_is_loaded()
    gc.disable()  # what thousands of tests before left behind is looked through by no API
    yield
    gc.enable()
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class Unchecked:
    """Comparing answers with the document would be measured with the application: it is the same loop."""

    async def check(self, answer) -> None:
        """As `Conformance` has it."""


@pytest.fixture
def conformance():
    return Unchecked()


@pytest.fixture
def few_routes():
    """All are made at start, as in a process."""


def slowness() -> float:
    """How much slower this machine is, now, than the one for which the bound stands; at least 1."""
    began = time.thread_time()
    for _ in range(40):
        orjson.loads(orjson.dumps([[n, str(n)] for n in range(2_000)]))
    return max(1.0, (time.thread_time() - began) / WORK_SECONDS)


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
    await asyncio.sleep(0)
    yield turns
    for _ in range(2):  # so that the last turn counts, which may be the only one
        await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    longest = max(turns)
    assert longest < MOST_SECONDS or longest < MOST_SECONDS * NOISE * slowness(), (
        f"the loop was held for {longest * 1000:.0f} ms"
    )


def envelope(n, size=0, event_type="order.placed"):
    return orjson.dumps(
        {"specversion": "1.0", "id": f"e{n}", "source": "shop", "type": event_type, "time": "2026-11-22T06:00:00Z",
         "data": {"text": "x" * size, "list": list(range(100 if size else 0))}}
    )  # fmt: skip


@pytest.fixture
async def crowded(mesh_redis, mesh_keys):
    """One event id that 20,000 sources used, each with a task."""
    position = (await mesh_redis.xadd(mesh_keys.events("order"), {"e": envelope(1)})).decode()
    row: dict[str, str | int] = {}
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


@pytest.mark.parametrize("shape", CROWDED)
async def test_an_event_of_any_shape_is_taken_read_and_listed_in_small_turns(api, shape):
    body = b'{"type":"order.placed","source":"shop","id":"one","data":%b}' % CROWDED[shape]
    async with watched():
        taken = await api.post("/v1/events", content=body, headers={"content-type": "application/json"})
        read = await api.get("/v1/events/one")
        listed = await api.get("/v1/events")

    assert (taken.status_code, read.status_code, listed.status_code) == (202, 200, 200)
    assert CROWDED[shape] in read.content
    assert CROWDED[shape] in listed.content


@pytest.mark.parametrize("shape", ["deep lists", "long integers"])
async def test_a_batch_of_four_megabytes_is_taken_in_small_turns(api, shape):
    one = b'{"specversion":"1.0","id":"%d","source":"shop","type":"order.placed","data":%b}'
    events = [one % (n, CROWDED[shape]) for n in range(16)]
    async with watched():
        taken = await api.post(
            "/v1/events", content=b"[" + b", ".join(events) + b"]", headers={"content-type": BATCH}
        )
    read = await api.get("/v1/events/15")

    assert (taken.status_code, len(taken.json()["events"])) == (202, 16)
    assert CROWDED[shape] in read.content


@pytest.mark.parametrize(
    ("last", "status", "said"),
    [
        (b'{"type":"x y"}]', 422, "/30/specversion"),
        (b"7]", 422, "/30"),
        (b'{"specversion":"1.0","id":"\xff","source":"s","type":"a.b"}]', 422, "/30"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","data":1e999}]', 422, "/30"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","data":NaN}]', 400, "NaN"),
        (b"]", 400, "comma"),
        (b'{"a":1}', 400, "JSON"),
        (b'{"a":1}] x', 400, "JSON"),
    ],
)
async def test_what_is_wrong_in_a_large_batch_is_said_and_nothing_is_stored(
    api, mesh_redis, mesh_keys, last, status, said
):
    one = b'{"specversion":"1.0","id":"%d","source":"shop","type":"order.placed","data":%b}'
    events = [one % (n, CROWDED["a text"]) for n in range(30)]
    answer = await api.post(
        "/v1/events", content=b"[" + b",".join([*events, last]), headers={"content-type": BATCH}
    )

    assert answer.status_code == status
    assert said in answer.text
    assert await mesh_redis.exists(mesh_keys.events("order")) == 0


async def test_results_that_fill_a_megabyte_each_are_left_out_of_an_event_and_told_of_a_task(
    api, mesh, mesh_redis, mesh_keys
):
    for n in range(12):
        await mesh.subscribe(f"audit{n}", "order.*")
    sent = (await api.post("/v1/events", json={"type": "order.placed", "data": 1})).json()
    result: list[Any] = [[] for _ in range(150_000)] + ["x" * 500_000]
    ids = []
    for n in range(12):
        [task] = await mesh.dispatch("order", f"audit{n}")
        await mesh.start(task)
        await mesh.succeed(task, result=result)
        ids.append(task.ref.task_id)
    async with watched():
        event = await api.get(f"/v1/events/{sent['id']}")
        task = await api.get(f"/v1/tasks/{ids[-1]}")

    tasks = [delivery["task"] for delivery in orjson.loads(event.content)["deliveries"]]
    assert [one["left_out"] for one in tasks].count(False) >= 3
    assert all(one["result"] == (None if one["left_out"] else result) for one in tasks)
    assert len(event.content) < 6 * MB
    found = orjson.loads(task.content)
    assert (found["left_out"], found["result"] == result) == (False, True)


async def test_what_somebody_wrote_into_a_row_by_hand_is_not_parsed_whatever_its_size(
    api, mesh, mesh_redis, mesh_keys
):
    await mesh.subscribe("audit", "order.*")
    sent = (await api.post("/v1/events", json={"type": "order.placed", "data": 1})).json()
    [task] = await mesh.dispatch("order", "audit")
    await mesh.start(task)
    await mesh.succeed(task, result=1)
    row, told = mesh_keys.task(task.ref.task_id), []
    for outcome in (b'{"result":"%b"}' % (b"x" * 40 * MB), b'{"result":[%b[]]}' % (b"[]," * MB)):
        await mesh_redis.hset(row, "outcome", outcome)
        async with watched():
            told.append((await api.get(f"/v1/tasks/{task.ref.task_id}")).json())
            told.append((await api.get(f"/v1/events/{sent['id']}")).json()["deliveries"][0]["task"])

    assert [(one["state"], one["result"], one["left_out"]) for one in told] == [("succeeded", None, True)] * 4


async def test_notifications_of_a_megabyte_are_told_in_small_turns_and_larger_ones_stepped_over(
    live, mesh_redis, mesh_keys
):
    about = b'"event":{"id":"e","type":"a.b","source":"s","subject":null},"task":null,"data":{"x":%b}'
    data = [b'"' + b"x" * MB + b'"', b"[" + b",".join([b"[]"] * 100_000) + b"]", b"1"]
    large = [b'"' + b"x" * 20 * MB + b'"', b"[" + b",".join([b"[]"] * MB) + b"]"]
    fields = {"t": "task.started", "e": "e", "k": "", "v": "w", "y": "a.b", "u": ""}
    for one in [*data * 5, *large, b'"last"']:
        await mesh_redis.xadd(mesh_keys.notifications(), {**fields, "b": about % one})

    async def heard(after):
        seen = []
        async with live.stream("GET", "/v1/notifications", params={"after": after}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {") and '"x":' in line:
                    seen.append(len(line))
                    if '"last"' in line:
                        break
        return seen

    async with watched():
        seen = await heard("0")

    assert len(seen) == 16


async def test_the_openapi_document_is_made_in_small_turns(api):
    async with watched():
        answer = await api.get("/openapi.json")
    assert answer.json()["info"]["title"] == "streammesh"
