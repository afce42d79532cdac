"""A token is told a part of what its key may be told, for a while, and can do nothing else."""

from __future__ import annotations

import asyncio
import re

import pytest
from streammesh.api_keys import ApiKeys

from services.api.tests.expectations import assert_problem
from services.api.tests.sse import listening


@pytest.fixture
def token(live):
    async def token(**wanted) -> str:
        answer = await live.post("/v1/tokens", json=wanted)
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    return token


@pytest.fixture
async def sent(live, mesh):
    await mesh.subscribe("worker", "order.placed")
    event = {"type": "order.placed", "subject": "order/7", "data": {"n": 1}}
    return (await live.post("/v1/events", json=event)).json()


async def status(live, path: str, token: str, **params: str) -> int:
    request = live.build_request("GET", path, params={"token": token, **params})
    del request.headers["authorization"]
    return (await live.send(request)).status_code


async def test_a_browser_follows_an_event_with_a_token_in_the_address(live, mesh, sent, token):
    narrow = await token(event=sent["id"])
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)
    await mesh.succeed(task, 1)

    request = live.build_request("GET", sent["links"]["notifications"], params={"token": narrow})
    del request.headers["authorization"]
    text = (await live.send(request)).text

    assert "event: event.completed" in text
    assert await status(live, f"/v1/tasks/{task.ref.task_id}", narrow) == 200
    assert await status(live, sent["links"]["self"], narrow) == 200


@pytest.mark.parametrize(
    ("narrowing", "expected"),
    [
        ({"types": ["order.*"]}, 200),
        ({"types": ["user.*"]}, 404),
        ({"subject": "order/7"}, 200),
        ({"subject": "order/8"}, 404),
        ({"source": "other"}, 404),
        ({"event": "another"}, 404),
        ({"task": "another"}, 404),
        ({}, 200),
    ],
    ids=str,
)
async def test_what_it_is_narrowed_to_holds(live, sent, token, narrowing, expected):
    assert await status(live, sent["links"]["self"], await token(**narrowing)) == expected


async def test_its_stream_has_nothing_else(live, mesh, sent, token):
    narrow = await token(subject="order/8")
    request = {"headers": {"authorization": f"Bearer {narrow}"}}
    async with listening(live, "/v1/notifications?after=0", **request) as stream:
        await live.post("/v1/events", json={"type": "order.placed", "subject": "order/8"})
        tasks = await mesh.dispatch("order", "worker")
        assert len(tasks) == 2
        (heard,) = await stream.take(1)
    assert heard.data["event"]["subject"] == "order/8"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/events"),
        ("GET", "/v1/events"),
        ("POST", "/v1/tokens"),
        ("GET", "/v1/key"),
        ("GET", "/v1/status"),
        ("GET", "/v1/services"),
        ("GET", "/v1/dead-letters"),
        ("GET", "/v1/subscriptions"),
        ("POST", "/v1/reports"),
        ("GET", "/metrics"),
    ],
)
async def test_it_does_nothing_but_listen(live, token, method, path):
    everything = await token()
    answer = await live.request(
        method, path, headers={"authorization": f"Bearer {everything}"}, json={"type": "order.placed"}
    )
    assert_problem(answer, 403, "forbidden")


async def test_it_ends_with_its_time_and_with_its_key(live, make_key, sent, mesh_redis, mesh_keys):
    key = await make_key("browser", subscribe=["order.*"])
    as_key = {"authorization": f"Bearer {key}"}
    made = await live.post("/v1/tokens", json={"lifetime": "1s"}, headers=as_key)
    short = made.json()["token"]
    long = (await live.post("/v1/tokens", json={"lifetime": "1h"}, headers=as_key)).json()["token"]
    assert await status(live, sent["links"]["self"], short) == 200
    await asyncio.sleep(1.1)
    assert await status(live, sent["links"]["self"], short) == 401
    assert await status(live, sent["links"]["self"], long) == 200

    await ApiKeys(mesh_redis, mesh_keys).revoke("browser")
    async with asyncio.timeout(6):
        while await status(live, sent["links"]["self"], long) != 401:
            await asyncio.sleep(0.1)


async def test_it_is_no_more_than_its_key(live, make_key, sent):
    key = await make_key("other", subscribe=["user.*"])
    made = await live.post("/v1/tokens", json={}, headers={"authorization": f"Bearer {key}"})
    assert await status(live, sent["links"]["self"], made.json()["token"]) == 404


@pytest.mark.parametrize(
    "change", [lambda t: t[:-2] + "AA", lambda t: "smt_", lambda t: t + "x" * 5000, lambda t: "smt_ü"]
)
async def test_what_was_made_up_is_refused(live, sent, token, change):
    assert await status(live, sent["links"]["self"], change(await token())) in (400, 401, 422)


async def test_a_key_does_not_belong_into_an_address(live, admin, sent):
    request = live.build_request("GET", sent["links"]["self"], params={"token": admin})
    del request.headers["authorization"]
    assert_problem(await live.send(request), 403, "forbidden")


async def test_two_at_once_are_refused(live, sent, token):
    answer = await live.get(sent["links"]["self"], params={"token": await token()})
    assert_problem(answer, 400, "malformed-request")


@pytest.mark.parametrize(
    "wanted",
    [
        {"types": []},
        {"types": ["a\u0000b"]},
        {"types": "order.*"},
        {"lifetime": "25h"},
        {"lifetime": "0s"},
        {"lifetime": "soon"},
        {"event": ""},
        {"scope": "all"},
        ["x"],
    ],
    ids=str,
)
async def test_a_token_that_makes_no_sense_is_refused(live, wanted):
    assert_problem(await live.post("/v1/tokens", json=wanted), 422, "invalid-request")


async def test_a_key_that_may_read_nothing_has_no_tokens(live, make_key):
    key = await make_key("writer", publish=["*"])
    answer = await live.post("/v1/tokens", json={}, headers={"authorization": f"Bearer {key}"})
    assert_problem(answer, 403, "forbidden")


async def test_it_says_nothing_of_what_is_in_it(live, token, sent):
    made = await token(event=sent["id"], subject="order/7")
    assert re.fullmatch(r"smt_[A-Za-z0-9_-]+", made)
    assert sent["id"] not in made
