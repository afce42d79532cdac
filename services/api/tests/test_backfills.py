"""`/v1/backfills`: counted, begun, looked at and stopped by admins; everybody else changes nothing."""

from __future__ import annotations

from streammesh.backfill.record import Backfills

from services.api.tests.expectations import assert_problem

SINCE = "2026-01-01T00:00:00Z"


async def test_what_would_be_done_is_counted_and_nothing_changes(api, mesh, mesh_redis, mesh_keys):
    for n in range(5):
        kind = "order.placed" if n else "user.left"
        assert (
            await api.post("/v1/events", json={"type": kind, "id": f"e{n}", "data": {}})
        ).status_code == 202
    await mesh.subscribe("late", "order.placed")
    before = {key: await mesh_redis.dump(key) for key in await mesh_redis.keys()}

    body = {"service": "late", "type": "order.*", "since": SINCE, "rate": 2, "dry_run": True}
    answer = await api.post("/v1/backfills", json=body)

    assert answer.status_code == 202
    assert answer.json() == {
        "dry_run": True, "events": 4, "tasks": 4, "known": 0, "left_out": 0, "more": False, "seconds": 2.0,
    }  # fmt: skip
    after = {key: await mesh_redis.dump(key) for key in await mesh_redis.keys()}
    own = {mesh_keys.api_keys_used(), mesh_keys.last_seen(), mesh_keys.alive("api"), mesh_keys.memory()}
    mine = mesh_keys.prefix.encode()  # other tests use the server too
    changed = {key.decode() for key in after if key.startswith(mine) and after[key] != before.get(key)}
    assert changed <= own, "but for the API's own signs of life"


async def test_one_is_begun_looked_at_and_stopped_and_who_did_it_is_noted(api, mesh):
    await mesh.subscribe("late", "order.placed")
    body = {"service": "late", "type": "order.*", "since": SINCE}
    begun = (await api.post("/v1/backfills", json=body)).json()
    assert (begun["state"], begun["by"], begun["progress"]) == ("running", "shop", 0.0)

    again = await api.post("/v1/backfills", json=body)
    assert_problem(again, 409, "backfill-running")
    assert begun["id"] in again.json()["detail"]
    assert (await api.get("/v1/backfills")).json()["backfills"] == [begun]
    stopped = await api.delete(f"/v1/backfills/{begun['id']}")
    assert (stopped.json()["state"], stopped.json()["reason"]) == ("stopped", "stopped by shop")
    assert (await api.get(f"/v1/backfills/{begun['id']}")).json() == stopped.json()
    noted = (await api.get("/v1/audit")).json()["actions"]
    assert {one["action"] for one in noted} >= {"begin_backfill", "stop_backfill"}


async def test_what_makes_no_sense_is_refused_and_begins_nothing(api, mesh, make_key, mesh_redis, mesh_keys):
    await mesh.subscribe("late", "order.placed")
    body = {"service": "late", "since": SINCE}
    for wrong in (
        {"rate": 0}, {"rate": "nan"}, {"until": "2025-01-01T00:00:00Z"}, {"type": ""}, {"type": "a\x00"},
        {"states": ["failed"]}, {"since": "yesterday"}, {"since": "0001-01-01T00:00:00Z"}, {"more": 1},
    ):  # fmt: skip
        assert_problem(await api.post("/v1/backfills", json={**body, **wrong}), 422, "invalid-request")
    assert_problem(await api.post("/v1/backfills", json={**body, "service": "nobody"}), 404, "not-found")
    dry = {**body, "service": "nobody", "dry_run": True}
    assert_problem(await api.post("/v1/backfills", json=dry), 404, "not-found")
    bad: list[dict[str, object]] = [{"states": []}, {"states": ["queued"]}, {"task": ""}]
    for refused in bad:
        assert_problem(await api.post("/v1/replays", json={**body, **refused}), 422, "invalid-request")
    assert_problem(await api.get("/v1/backfills/none"), 404, "not-found")
    key = await make_key("plain", publish=["*"], subscribe=["*"])
    headers = {"authorization": f"Bearer {key}"}
    for call in (
        api.post("/v1/backfills", json=body, headers=headers),
        api.get("/v1/backfills", headers=headers),
    ):
        assert_problem(await call, 403, "forbidden")

    assert await Backfills(mesh_redis, mesh_keys).newest() == []
