"""`GET /v1/audit`: each thing that an operator does is noted, before it is done."""

from __future__ import annotations

import json
from importlib import import_module
from pkgutil import iter_modules

import pytest
from redis.exceptions import ConnectionError as RedisAway
from streammesh import lua
from streammesh.audit import KEPT, Action, note_call, read_actions

from services.api import routes
from services.api.audit_trail import AuditedRoute
from services.api.routes.audit import ActionList
from services.api.tests.expectations import assert_problem

PUBLISHES = {"publish", "welcome_email", "ask"}  # what the events themselves tell of
BY_LINK = {"answer"}  # by somebody without a key; the task tells of it
STORES_NOTHING = {"make_token"}  # asked for with each browser that comes; its answer is a secret


async def noted(api, **params):
    answer = await api.get("/v1/audit", params=params)
    assert answer.status_code == 200, answer.text
    ActionList.model_validate(answer.json())
    return answer.json()["actions"]


def test_every_route_that_changes_something_is_audited_but_for_publishing_and_tokens():
    modules = [import_module(f"{routes.__name__}.{found.name}") for found in iter_modules(routes.__path__)]
    changing = {
        route.name: route
        for module in modules
        for route in getattr(getattr(module, "router", None), "routes", ())
        if getattr(route, "methods", set()) - {"GET", "HEAD"}  # a WebSocket has none
    }
    assert set(changing) > PUBLISHES
    for name, route in changing.items():
        assert isinstance(route, AuditedRoute) or name in PUBLISHES | STORES_NOTHING | BY_LINK, (
            f"{name} leaves no note"
        )


async def test_what_was_asked_for_and_what_came_of_it_is_told_newest_first(api, mesh):
    await mesh.subscribe("worker", "a.b")
    await api.post(
        "/v1/subscriptions/worker.handle/pause", json={"reason": "Umbau"}, headers={"x-request-id": "r1"}
    )
    await api.post("/v1/subscriptions/worker.handle/resume")
    await api.delete("/v1/services/nobody")

    removed, resumed, paused = await noted(api)
    assert (paused["actor"], paused["action"], paused["about"]) == ("shop", "pause", "worker.handle")
    assert (paused["said"], paused["status"], paused["request_id"]) == ({"reason": "Umbau"}, 200, "r1")
    assert paused["answer"]["paused"]["reason"] == "Umbau" and paused["at"].endswith("Z")
    assert (resumed["action"], resumed["status"], resumed["said"]) == ("resume", 200, None)
    assert (removed["action"], removed["about"], removed["status"]) == ("remove", "nobody", 404)
    assert "There is no service 'nobody'" in removed["answer"]


async def test_a_dry_run_and_a_question_are_no_actions(api):
    await api.post("/v1/dead-letters/replay", json={"filter": {}, "dry_run": True})
    await api.post("/v1/dead-letters/drop", json={"ids": ["x" * 60] * 900, "dry_run": True})
    await api.get("/v1/dead-letters")

    assert await noted(api) == []


async def test_what_a_key_without_the_right_tries_leaves_no_note(api, make_key):
    secret = await make_key("reader", subscribe=["*"])
    headers = {"authorization": f"Bearer {secret}"}
    assert_problem(
        await api.post("/v1/dead-letters/drop", json={"filter": {}}, headers=headers), 403, "forbidden"
    )
    assert_problem(await api.post("/v1/dead-letters/drop", json={"filter": {}}, headers={"authorization": "Bearer x"}), 401, "unauthenticated")  # fmt: skip
    assert_problem(await api.get("/v1/audit", headers=headers), 403, "forbidden")
    assert await noted(api) == []


async def test_an_action_that_cannot_be_noted_is_not_made(api, mesh, mesh_redis, mesh_keys, monkeypatch):
    await mesh.subscribe("worker", "a.b")

    def refused(*_):
        raise RedisAway("gone")

    monkeypatch.setattr("services.api.audit_trail.note_call", refused)
    answer = await api.post("/v1/subscriptions/worker.handle/pause", json={"reason": "x"})

    assert_problem(answer, 503, "unavailable")
    assert not await mesh_redis.exists(mesh_keys.paused())


async def test_an_action_whose_process_ends_in_its_midst_stays_without_an_outcome(
    api, mesh, mesh_redis, mesh_keys, monkeypatch
):
    await mesh.subscribe("worker", "a.b")
    seen = []
    real = note_call

    def first_only(keys, action, begun=""):
        if begun:
            seen.append(action.status)
            raise RedisAway("gone")
        return real(keys, action)

    monkeypatch.setattr("services.api.audit_trail.note_call", first_only)
    answer = await api.post("/v1/subscriptions/worker.handle/pause", json={"reason": "x"})

    assert (answer.status_code, seen) == (200, [200])
    [left] = await noted(api)
    assert (left["action"], left["status"], left["answer"]) == ("pause", None, None)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"\xff", json.dumps({"filter": {"service": "x" * 3_000}}).encode()]
)
async def test_a_body_that_is_refused_is_noted_as_it_was_and_bounded(api, body):
    answer = await api.post(
        "/v1/dead-letters/drop", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)

    [one] = await noted(api)
    assert one["status"] == answer.status_code
    assert len(json.dumps(one["said"])) < 2_200 and len(json.dumps(one["answer"])) < 2_200


async def test_pages_filters_and_garbage_between(api, mesh_redis, mesh_keys):
    for n in range(5):
        await lua.run(
            mesh_redis, note_call(mesh_keys, Action(f"key-{n % 2}", "replay", about=str(n), status=202))
        )
    for fields in ({"a": "garbage"}, {"b": "1"}, {"a": '{"actor":1}'}, {"a": json.dumps({"actor": "x", "action": "y", "about": "", "request_id": "", "status": 5})}):  # fmt: skip
        await mesh_redis.xadd(mesh_keys.audit(), fields)

    first = (await api.get("/v1/audit", params={"limit": 6})).json()
    second = (await api.get("/v1/audit", params={"limit": 6, "cursor": first["next"]})).json()
    assert [one["about"] for one in first["actions"] + second["actions"]] == ["4", "3", "2", "1", "0"]
    assert second["next"] is None
    assert [one["about"] for one in await noted(api, actor="key-1")] == ["3", "1"]
    assert await noted(api, action="drop") == []
    assert_problem(await api.get("/v1/audit", params={"cursor": "x"}), 422, "invalid-request")
    assert_problem(await api.get("/v1/audit", params={"actr": "x"}), 400, "malformed-request")


async def test_a_stream_of_another_type_is_set_aside_by_the_next_action(api, mesh_redis, mesh_keys, mesh):
    await mesh_redis.set(mesh_keys.audit(), "garbage")
    assert await noted(api) == []
    await mesh.subscribe("worker", "a.b")
    assert (await api.post("/v1/subscriptions/worker.handle/resume")).status_code == 200

    assert [one["action"] for one in await noted(api)] == ["resume"]


async def test_the_stream_is_bounded(mesh_redis, mesh_keys):
    pipeline = mesh_redis.pipeline(transaction=False)
    for _ in range(KEPT):
        pipeline.xadd(mesh_keys.audit(), {"a": "{}"})
    await pipeline.execute()
    for _ in range(300):
        await lua.run(mesh_redis, note_call(mesh_keys, Action("a", "b")))

    assert await mesh_redis.xlen(mesh_keys.audit()) < KEPT + 200
    page = await read_actions(mesh_redis, mesh_keys, before=None, since_ms=0, limit=1)
    assert page.actions[0].action.actor == "a"
