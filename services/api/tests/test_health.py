"""Liveness asks nobody; readiness says which part is missing."""

from __future__ import annotations

import time

from services.api.tests.expecting import assert_problem


async def test_it_is_ready_when_a_dispatcher_shows_life(api, mesh_redis, mesh_keys):
    await mesh_redis.zadd(mesh_keys.alive("dispatcher"), {"dispatcher@test:1": time.time() * 1000})

    answer = await api.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert {name: part["ok"] for name, part in answer.json()["parts"].items()} == {
        "redis": True,
        "dispatcher": True,
        "server": True,
    }


async def test_a_dispatcher_that_went_silent_makes_it_red_and_is_named(api, mesh_redis, mesh_keys):
    await mesh_redis.zadd(mesh_keys.alive("dispatcher"), {"dispatcher@test:1": (time.time() - 11) * 1000})

    document = assert_problem(await api.get("/readyz"), 503, "not-ready")

    assert (document["parts"]["redis"]["ok"], document["parts"]["dispatcher"]["ok"]) == (True, False)
    assert "dispatcher" in document["detail"]


async def test_it_is_not_ready_while_it_stops(api, door, mesh_redis, mesh_keys):
    await mesh_redis.zadd(mesh_keys.alive("dispatcher"), {"dispatcher@test:1": time.time() * 1000})
    await door.app.state.wiring.hub.stop()

    assert assert_problem(await api.get("/readyz"), 503, "not-ready")["parts"]["server"]["ok"] is False
    assert (await api.get("/healthz")).json() == {"status": "ok"}


async def test_the_front_page_is_the_documentation(api):
    answer = await api.get("/")

    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


async def test_unknown_addresses_and_methods_are_problems(api):
    assert_problem(await api.get("/nothing"), 404, "not-found")
    answer = await api.put("/v1/events", json={})
    assert_problem(answer, 405, "method-not-allowed")
    assert_problem(await api.get("/problems/nothing"), 404, "not-found")


async def test_every_problem_type_leads_to_an_explanation(api):
    from services.api.problems import CATALOGUE

    for name in CATALOGUE:
        answer = await api.get(f"/problems/{name}")
        assert answer.json()["advice"], name


async def test_a_fault_of_ours_is_a_problem_that_shows_nothing(api, door, monkeypatch, capsys):
    async def broken(*_):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(door.app.state.wiring.rows, "task", broken)
    monkeypatch.setattr(door.app.state.wiring.publishing, "_calls", None)

    for answer in (await api.get("/v1/tasks/x"), await api.post("/v1/events", json={"type": "a.b"})):
        document = assert_problem(answer, 500, "internal")
        assert "secret" not in answer.text and document["request_id"]
    assert "secret detail" in capsys.readouterr().out
