"""Liveness and readiness ask nobody; readiness says which part is missing."""

from __future__ import annotations

from services.api.tests.expectations import assert_problem


async def test_it_is_ready_without_a_dispatcher(api):
    """Without one events are stored and wait: a load balancer must not take publishing away."""
    answer = await api.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert {name: part["ok"] for name, part in answer.json()["parts"].items()} == {
        "redis": True,
        "server": True,
        "loop": True,
    }


async def test_it_is_not_ready_while_it_stops(api, door):
    await door.app.state.wiring.hub.stop()

    assert assert_problem(await api.get("/readyz"), 503, "not-ready")["parts"]["server"]["ok"] is False
    assert (await api.get("/livez")).json() == (await api.get("/healthz")).json() == {"status": "ok"}


async def test_it_asks_nobody_when_it_is_asked(api, mesh_redis):
    async def commands() -> int:
        return int((await mesh_redis.info("stats"))["total_commands_processed"])

    before = await commands()
    for _ in range(200):
        await api.get("/readyz")
        await api.get("/livez")

    assert await commands() - before < 50  # its own signs of life, and this question


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
    monkeypatch.setattr(door.app.state.wiring.publishing, "_shards", None)

    for answer in (await api.get("/v1/tasks/x"), await api.post("/v1/events", json={"type": "a.b"})):
        document = assert_problem(answer, 500, "internal")
        assert "secret" not in answer.text and document["request_id"]
    assert "secret detail" in capsys.readouterr().out
