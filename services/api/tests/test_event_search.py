"""`GET /v1/events` by source, subject, text and state, and where each event stands."""

from __future__ import annotations

import pytest

from services.api.documents import EventPage
from services.api.tests.expectations import assert_problem


async def publish(api, event_type="order.placed", **more):
    answer = await api.post("/v1/events", json={"type": event_type, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def found(api, **params):
    answer = await api.get("/v1/events", params=params)
    assert answer.status_code == 200, answer.text
    EventPage.model_validate(answer.json())
    return [event["id"] for event in answer.json()["events"]]


async def test_events_are_found_by_source_subject_and_text(api):
    first = await publish(api, source="till", subject="order/1", data={"note": 'say "Grüße"'})
    second = await publish(api, source="web", subject="order/2", data={"note": "nothing"})

    assert await found(api, source="till") == [first]
    assert await found(api, subject="order/2") == [second]
    assert await found(api, text='SAY "grÜße"') == [first]
    assert await found(api, text="o", source="nobody") == []
    assert await found(api, type="order.*", text="note") == [second, first]


async def test_each_state_is_told_and_can_be_asked_for(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    done, failed, running = [await publish(api) for _ in range(3)]
    tasks = {task.ref.event.id: task for task in await mesh.dispatch("order", "worker")}
    for one in (done, failed):
        await mesh.start(tasks[one])
    await mesh.succeed(tasks[done])
    await mesh.fail(tasks[failed], "no luck")
    waiting = await publish(api)

    answer = (await api.get("/v1/events", params={"standing": True})).json()
    EventPage.model_validate(answer)
    told = {event["id"]: where for event, where in zip(answer["events"], answer["standings"], strict=True)}
    assert {one: told[one]["state"] for one in told} == {
        done: "completed", failed: "failed", running: "running", waiting: "waiting",
    }  # fmt: skip
    assert (told[failed]["tasks"], told[failed]["done"], told[failed]["failed"]) == (1, 1, 1)
    assert told[waiting]["tasks"] is None and told[waiting]["published_at"].endswith("Z")
    for one in told:
        assert await found(api, state=told[one]["state"]) == [one]


async def test_events_without_a_row_and_rows_of_another_type_do_not_hide_the_others(
    api, mesh_redis, mesh_keys
):
    first, second, third = [await publish(api) for _ in range(3)]
    await mesh_redis.delete(mesh_keys.event(first))
    await mesh_redis.delete(mesh_keys.event(second))
    await mesh_redis.set(mesh_keys.event(second), "garbage")

    answer = (await api.get("/v1/events", params={"standing": True})).json()

    assert [event["id"] for event in answer["events"]] == [third, second, first]
    assert [one["state"] for one in answer["standings"]] == ["waiting", "completed", "completed"]


async def test_a_key_finds_only_what_it_may_read(api, make_key):
    await publish(api, "user.registered", data={"word": "secret"})
    seen = await publish(api, "order.placed", data={"word": "secret"})
    secret = await make_key("reader", subscribe=["order.*"])
    answer = await api.get(
        "/v1/events", params={"text": "secret"}, headers={"authorization": f"Bearer {secret}"}
    )

    assert [event["id"] for event in answer.json()["events"]] == [seen]


@pytest.mark.parametrize("params", [{"state": "gone"}, {"text": "x" * 201}, {"standing": "perhaps"}])
async def test_what_cannot_be_asked_is_refused(api, params):
    assert_problem(await api.get("/v1/events", params=params), 422, "invalid-request")


async def test_the_status_tells_of_each_stream_and_the_totals(api, mesh_redis, mesh_keys):
    for _ in range(3):
        await publish(api)
    await mesh_redis.xtrim(mesh_keys.events("order"), maxlen=1, approximate=False)
    status = (await api.get("/v1/status")).json()

    (stream,) = status["streams"]
    assert (stream["domain"], stream["kept"], stream["published"]) == ("order", 1, 3)
    assert stream["last_at"].endswith("Z") and status["totals"]["published"] == 3


async def test_a_stream_and_counters_of_another_type_do_not_take_the_status_away(api, mesh_redis, mesh_keys):
    await publish(api)
    for name in (mesh_keys.counters(), mesh_keys.events("order")):
        await mesh_redis.delete(name)
        await mesh_redis.set(name, "garbage")
    answer = await api.get("/v1/status")

    assert answer.status_code == 200, answer.text
    assert answer.json()["streams"][0]["kept"] == 0 and answer.json()["totals"]["published"] == 0


@pytest.mark.parametrize("moment", ["0321-01-12T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"])
async def test_moments_that_redis_has_no_positions_for_are_taken_for_the_nearest(api, moment):
    event = await publish(api)
    later = moment.startswith("9999")
    assert await found(api, until=moment) == ([event] if later else [])
    assert await found(api, since=moment) == ([] if later else [event])
