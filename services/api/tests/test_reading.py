"""`GET /v1/events...`, `GET /v1/tasks/{id}`: what became of it, and why nothing did."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from streammesh.events import envelope
from streammesh.events.envelope import BATCH

from services.api.cursors import Cursors
from services.api.documents import EventPage, EventState, TaskDocument
from services.api.tests.expectations import assert_problem


async def publish(api, event_type="order.placed", **more):
    answer = await api.post("/v1/events", json={"type": event_type, "data": {"n": 1}, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def read(api, sent, **params):
    answer = await api.get(f"/v1/events/{sent['id']}", params=params)
    assert answer.status_code == 200, answer.text
    EventState.model_validate(answer.json())
    return answer.json()


async def test_an_event_waits_until_a_dispatcher_saw_it(api):
    found = await read(api, await publish(api))

    assert (found["state"], found["deliveries"], found["type"]) == ("waiting", [], "order.placed")
    assert found["event"]["data"] == {"n": 1} and found["published_at"].endswith("Z")


async def test_each_delivery_is_shown_with_its_task_and_follow_up_events(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    sent = await publish(api)
    (task,) = await mesh.dispatch("order", "worker")
    queued = await read(api, sent)
    await mesh.start(task)
    await mesh.progress(task, 0.5, "half way")
    started = await read(api, sent)
    follow_up = envelope.make("invoice.made", {}, source="worker", id="next")
    await mesh.succeed(task, {"total": 3}, [follow_up])
    ended = await read(api, sent)

    states = [found["deliveries"][0]["task"]["state"] for found in (queued, started, ended)]
    assert states == ["queued", "started", "succeeded"]
    assert [found["state"] for found in (queued, started, ended)] == ["running", "running", "completed"]
    assert started["deliveries"][0]["task"]["progress"] == {"progress": 0.5, "text": "half way"}
    shown = ended["deliveries"][0]["task"]
    assert (shown["id"], shown["attempt"], shown["result"]) == (task.ref.task_id, 1, {"total": 3})
    assert [event["id"] for event in shown["events"]] == ["next"]
    assert (await api.get(shown["events"][0]["links"]["self"])).json()["type"] == "invoice.made"
    answer = await api.get(shown["links"]["self"])
    TaskDocument.model_validate(answer.json())
    assert answer.json() == shown


async def test_a_failed_task_says_why(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    sent = await publish(api)
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)
    await mesh.fail(task, "the card was refused")

    found = await read(api, sent)

    assert found["deliveries"][0]["task"]["error"] == {
        "reason": "the card was refused",
        "kind": "Reject",
        "by": None,
    }
    assert found["detail"] == "Its one task ended: 1 without success."


async def test_an_event_of_a_type_that_nobody_subscribes_to_says_so(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    sent = await publish(api, "order.lost")
    await mesh.dispatch("order", "worker")

    found = await read(api, sent)

    assert (found["state"], found["not_delivered"]) == ("unrouted", [])
    assert "no service subscribes" in found["detail"]


async def test_an_event_that_a_filter_keeps_away_says_which(api, mesh):
    await mesh.subscribe("worker", "order.placed", where={"data.n": 2})
    sent = await publish(api)
    await mesh.dispatch("order", "worker")

    found = await read(api, sent)

    assert found["state"] == "unrouted" and "filters it out" in found["detail"]
    assert [missed["subscription"] for missed in found["not_delivered"]] == ["worker.handle"]


async def test_a_held_event_says_until_when(api):
    found = await read(api, await publish(api, deliverat="2999-01-01T00:00:00Z"))

    assert (found["state"], found["held_until"]) == ("held", "2999-01-01T00:00:00Z")
    assert found["event"]["data"] == {"n": 1}


async def test_the_same_id_from_several_sources_has_to_be_told_apart(api):
    for source in ("here", "there"):
        await publish(api, id="same", source=source)

    document = assert_problem(await api.get("/v1/events/same"), 409, "ambiguous-event")
    found = await read(api, {"id": "same"}, source="there")
    nobody = await api.get("/v1/events/same", params={"source": "nowhere"})

    assert document["sources"] == ["here", "there"] and "?source=" in document["detail"]
    assert found["source"] == "there"
    assert_problem(nobody, 404, "not-found")


async def test_an_event_that_was_trimmed_is_still_known_by_its_tasks(api, mesh, mesh_redis, mesh_keys):
    await mesh.subscribe("worker", "order.placed")
    sent = await publish(api)
    await mesh.dispatch("order", "worker")
    await mesh_redis.xtrim(mesh_keys.events("order"), maxlen=0, approximate=False)

    found = await read(api, sent)

    assert (found["event"], found["type"]) == (None, "order.placed")


async def test_a_task_whose_record_was_dropped_is_still_listed(api, mesh, mesh_redis, mesh_keys):
    await mesh.subscribe("worker", "order.placed")
    sent = await publish(api)
    (task,) = await mesh.dispatch("order", "worker")
    await mesh_redis.delete(mesh_keys.task(task.ref.task_id))

    found = await read(api, sent)

    assert found["deliveries"] == [{"task_id": task.ref.task_id, "task": None}]
    assert_problem(await api.get(f"/v1/tasks/{task.ref.task_id}"), 404, "not-found")


@pytest.mark.parametrize("path", ["/v1/events/", "/v1/tasks/"])
@pytest.mark.parametrize(
    "odd", ["nothing", "%00", "a%00b", "x" * 2_000, "%F0%9F%92%A9", "%FF", "..%2F..", "*", "a%0d%0ab:c"]
)
async def test_an_id_that_is_not_known_is_not_found(api, path, odd):
    document = assert_problem(await api.get(path + odd), 404, "not-found")

    assert document["instance"].isascii() and "\n" not in document["instance"]


async def test_a_key_sees_no_task_of_events_that_it_may_not_read(api, mesh, make_key):
    await mesh.subscribe("worker", "order.placed")
    await publish(api)
    (task,) = await mesh.dispatch("order", "worker")
    headers = {"authorization": f"Bearer {await make_key('narrow', subscribe=['user.*'])}"}

    assert_problem(await api.get(f"/v1/tasks/{task.ref.task_id}", headers=headers), 404, "not-found")


class TestRecent:
    @pytest.fixture
    async def published(self, api):
        """100 events over three domains, in order."""
        types = ["order.placed", "user.registered", "order.paid", "stock.low"]
        batch = [
            {"specversion": "1.0", "id": f"{n}", "source": "s", "type": types[n % 4], "data": n}
            for n in range(100)
        ]
        for start in range(0, 100, 10):
            content = json.dumps(batch[start : start + 10])
            await api.post("/v1/events", content=content, headers={"content-type": BATCH})
        return batch

    async def pages(self, api, **params):
        found, cursor, rounds = [], None, 0
        while True:
            answer = await api.get("/v1/events", params={**params, **({"cursor": cursor} if cursor else {})})
            assert answer.status_code == 200, answer.text
            EventPage.model_validate(answer.json())
            found += answer.json()["events"]
            cursor, rounds = answer.json()["next"], rounds + 1
            if cursor is None:
                return found
            assert rounds < 200

    @pytest.mark.parametrize("limit", [1, 7, 50, 200])
    async def test_pages_together_hold_every_event_once(self, api, published, limit):
        found = await self.pages(api, limit=limit)

        assert sorted(event["data"] for event in found) == list(range(100))

    async def test_the_newest_come_first_within_a_domain(self, api, published):
        found = await self.pages(api, limit=9, type="order.*")

        assert [event["data"] for event in found] == [n for n in reversed(range(100)) if n % 2 == 0]

    async def test_a_type_chooses(self, api, published):
        found = await self.pages(api, type="*.placed", limit=10)

        assert {event["type"] for event in found} == {"order.placed"} and len(found) == 25

    async def test_since_leaves_out_what_is_older(self, api, published):
        soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()

        assert await self.pages(api, since=soon) == []
        assert len(await self.pages(api, since="2020-01-01T00:00:00Z")) == 100

    async def test_a_key_sees_what_it_may_read(self, api, published, make_key):
        headers = {"authorization": f"Bearer {await make_key('narrow', subscribe=['user.*'])}"}

        answer = await api.get("/v1/events", headers=headers)

        assert {event["type"] for event in answer.json()["events"]} == {"user.registered"}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"limit": 0},
            {"limit": 201},
            {"limit": "x"},
            {"type": "x" * 257},
            {"since": "yesterday"},
            {"since": "2026-01-01T00:00:00"},
            {"cursor": "x"},
            {"cursor": "1-1~UP"},
            {"cursor": f"{2**64}-0~order"},
        ],
    )
    async def test_wrong_parameters_are_named(self, api, wrong):
        document = assert_problem(await api.get("/v1/events", params=wrong), 422, "invalid-request")

        assert document["errors"][0]["parameter"] == next(iter(wrong))

    async def test_no_events_are_an_empty_page(self, api):
        assert (await api.get("/v1/events")).json() == {
            "events": [],
            "next": None,
            "standings": [],
            "history_away": False,
            "position": "0-0",
        }


async def test_a_cursor_tells_nothing_and_is_good_for_its_own_list_at_every_replica(
    api, make_key, mesh_redis, mesh_keys
):
    for n in range(3):
        await api.post("/v1/events", json={"type": f"secret{n}.made"})
    secret = await make_key("other", subscribe=["secret0.*"])
    page = (await api.get("/v1/events", params={"limit": 1})).json()

    cursor = page["next"]
    again = Cursors(mesh_redis, mesh_keys)

    assert "secret" not in cursor and "secret" not in repr(base64.urlsafe_b64decode(cursor + "=="))
    assert (await again.open("events", cursor)).endswith("~secret2")
    for broken in (cursor[:-2] + "xx", "é", "0-0~secret1"):
        assert_problem(await api.get("/v1/events", params={"cursor": broken}), 422, "invalid-request")
    assert_problem(await api.get("/v1/dead-letters", params={"cursor": cursor}), 422, "invalid-request")
    listed = await api.get(
        "/v1/events", params={"cursor": cursor}, headers={"authorization": f"Bearer {secret}"}
    )
    assert [event["type"] for event in listed.json()["events"]] == ["secret0.made"]


async def test_after_redis_lost_its_data_all_replicas_agree_on_cursors_again(mesh_redis, mesh_keys):
    one, other = Cursors(mesh_redis, mesh_keys), Cursors(mesh_redis, mesh_keys)
    await one.seal("events", "1")
    await mesh_redis.delete(mesh_keys.cursor_secret())

    cursor = await other.seal("events", "2")

    assert await one.open("events", cursor) == "2"


async def test_a_key_that_may_read_nothing_finds_nothing(api, make_key, mesh):
    await api.post("/v1/events", json={"type": "order.placed", "id": "one"})
    headers = {"authorization": f"Bearer {await make_key('writer', publish=['*'])}"}

    for path, name in (("/v1/events", "events"), ("/v1/dead-letters", "dead_letters")):
        page = (await api.get(path, headers=headers)).json()
        assert (page[name], page["next"], page.get("standings", [])) == ([], None, [])
    for path in ("/v1/events/one", "/v1/events/none", "/v1/tasks/none"):
        assert_problem(await api.get(path, headers=headers), 404, "not-found")
