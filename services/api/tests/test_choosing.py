"""Several types at once, subjects by their beginning, history by time, and a page that one can follow from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from streammesh.clock import to_ms

from services.api.tests.expectations import assert_problem
from services.api.tests.sse import listening


async def _tell(mesh_redis, mesh_keys, about: dict[str, str], at: str = "*") -> str:
    body = f'"event":{{"id":"e","type":"{about["y"]}","source":"s","subject":null}},"task":null,"data":{{}}'
    said = {"t": "task.started", "e": "e", "b": body, **about}
    return (await mesh_redis.xadd(mesh_keys.notifications(), said, id=at)).decode()


async def test_one_stream_has_several_types_and_subjects_with_one_beginning(live, mesh_redis, mesh_keys):
    query = [("type", "order.*"), ("type", "user.left"), ("subject_prefix", "eu/")]
    told = []
    async with listening(live, "/v1/notifications", params=query) as stream:
        for kind in ("order.placed", "user.left", "user.came"):
            for subject in ("eu/1", "us/1"):
                told.append(await _tell(mesh_redis, mesh_keys, {"y": kind, "u": subject}))
        last = await _tell(mesh_redis, mesh_keys, {"y": "order.placed", "u": "eu/2"})
        heard = [one.last_event_id for one in await stream.take(3)]
    async with listening(live, "/v1/notifications", params=[*query, ("after", "0")]) as stream:
        past = [one.last_event_id for one in await stream.take(3)]

    assert heard == past == [told[0], told[2], last]


async def test_there_is_a_bound_to_the_types_of_one_stream(api):
    many = [("type", f"a.{n}") for n in range(21)]

    assert_problem(await api.get("/v1/notifications", params=many), 422, "invalid-request")


async def test_history_begins_at_a_time_and_one_without_news_begins_now(live, mesh_redis, mesh_keys):
    now = datetime.now(UTC)
    ages = [timedelta(hours=3), timedelta(hours=2), timedelta(hours=1)]
    told = [await _tell(mesh_redis, mesh_keys, {"y": "a.b"}, f"{to_ms(now - age)}-5") for age in ages]
    since = {"since": (now - ages[1]).isoformat()}
    async with listening(live, "/v1/notifications", params=since) as stream:
        heard = [one.last_event_id for one in await stream.take(2)]
    async with listening(live, "/v1/notifications", params={"since": now.isoformat()}) as stream:
        told.append(await _tell(mesh_redis, mesh_keys, {"y": "a.b"}))
        first = await stream.next()
    position = {"last-event-id": told[2]}  # of a browser that comes back to the same address
    async with listening(live, "/v1/notifications", params=since, headers=position) as stream:
        resumed = await stream.next()

    assert heard == told[1:3]
    assert (first.type, first.last_event_id) == ("task.started", told[3])
    assert resumed.last_event_id == told[3]


async def test_a_page_of_events_says_from_where_to_follow(live, mesh):
    await mesh.subscribe("worker", "order.placed")
    before = (await live.post("/v1/events", json={"type": "order.placed"})).json()["id"]
    await mesh.dispatch("order", "worker")
    page = (await live.get("/v1/events", params={"type": "order.*"})).json()
    after = (await live.post("/v1/events", json={"type": "order.placed"})).json()["id"]
    await mesh.dispatch("order", "worker")

    async with listening(live, "/v1/notifications", params={"after": page["position"]}) as stream:
        first = await stream.next()

    assert [event["id"] for event in page["events"]] == [before]
    assert (first.type, first.data["event"]["id"]) == ("task.queued", after)


async def test_a_stream_takes_an_expression_over_what_is_sent(live, mesh_redis, mesh_keys):
    async def told(n: int) -> str:
        about = '"event":{"id":"e","type":"a.b","source":"s","subject":null}'
        body = f'{about},"task":{{"id":"t","name":"w.x","service":"w","attempt":{n}}},"data":{{"result":{{"n":{n}}}}}'
        fields = {"t": "task.succeeded", "e": "e", "k": "t", "v": "w", "y": "a.b", "u": "", "b": body}
        return (await mesh_redis.xadd(mesh_keys.notifications(), fields)).decode()

    where = {"where": "data.result.n > 1 && task.attempt != 3 && event.type == 'a.b'"}
    async with listening(live, "/v1/notifications", params=where) as stream:
        positions = [await told(n) for n in range(5)]
        heard = [one.last_event_id for one in await stream.take(2)]
    async with listening(live, "/v1/notifications", params={**where, "after": "0"}) as stream:
        past = [one.last_event_id for one in await stream.take(2)]
    assert heard == past == [positions[2], positions[4]]


async def test_a_wrong_expression_is_refused_with_its_place(api):
    answer = await api.get("/v1/notifications", params={"where": "data.n = 1"})
    assert_problem(answer, 400, "malformed-request")
    assert "character 8" in answer.json()["detail"] and answer.json()["errors"][0]["parameter"] == "where"
    long = {"where": "data.n == 1 || " * 100 + "data.n == 2"}
    assert_problem(await api.get("/v1/notifications", params=long), 422, "invalid-request")


async def test_one_key_has_some_streams_with_expressions_and_no_more(live, monkeypatch):
    monkeypatch.setattr("services.api.push.hub.MOST_ASKING", 1)
    where = {"where": "data.n == 1"}
    async with listening(live, "/v1/notifications", params=where):
        assert_problem(await live.get("/v1/notifications", params=where), 429, "too-many-requests")
        async with listening(live, "/v1/notifications"):
            pass
    async with listening(live, "/v1/notifications", params=where):
        pass
