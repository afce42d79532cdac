"""Webhooks through the front door: whose they are, what they ask for, what is refused."""

from __future__ import annotations

import pytest
from streammesh.webhooks.store import WebhookStore

from services.api.tests.expectations import assert_problem

URL = "https://shop.example/hook"


@pytest.fixture
async def narrow(api, make_key):
    """A client with a key that is told of orders only."""
    key = await make_key("orders", subscribe=["order.*"])

    async def call(method: str, path: str, **more):
        return await api.request(method, path, headers={"authorization": f"Bearer {key}"}, **more)

    return call


async def made(api, **about):
    answer = await api.post("/v1/webhooks", json={"url": URL, **about})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_its_secret_is_shown_once_and_stands_in_no_audit_entry(api):
    webhook = await made(api, types=["order.*"], description="orders")
    assert webhook["secret"].startswith("whsec_")
    rotated = await api.post(f"/v1/webhooks/{webhook['id']}/secret", json={"overlap": "1h"})
    assert rotated.json()["secret"].startswith("whsec_") and rotated.json()["old_until"]
    state = (await api.get(f"/v1/webhooks/{webhook['id']}")).json()
    assert state["secrets"] == 2 and state["types"] == ["order.*"] and "secret" not in state
    audit = await api.get("/v1/audit")
    assert [one["action"] for one in audit.json()["actions"]] == ["rotate_secret", "make_webhook"]
    assert "whsec_" not in audit.text


async def test_a_key_sees_changes_and_replays_its_own_alone(api, narrow):
    mine = (await narrow("POST", "/v1/webhooks", json={"url": URL})).json()
    other = await made(api)
    assert [one["id"] for one in (await narrow("GET", "/v1/webhooks")).json()["webhooks"]] == [mine["id"]]
    assert len((await api.get("/v1/webhooks")).json()["webhooks"]) == 2
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"enabled": False}),
        ("DELETE", "", None),
        ("GET", "/attempts", None),
        ("POST", "/replay", {"after": "0-0"}),
        ("POST", "/test", None),
        ("POST", "/secret", {}),
    ):
        refused = await narrow(method, f"/v1/webhooks/{other['id']}{path}", json=body)
        assert_problem(refused, 404, "not-found")
    assert (await narrow("DELETE", f"/v1/webhooks/{mine['id']}")).status_code == 200


async def test_a_key_that_is_told_nothing_makes_none(api, make_key):
    key = await make_key("publisher", publish=["*"])
    answer = await api.post("/v1/webhooks", json={"url": URL}, headers={"authorization": f"Bearer {key}"})
    assert_problem(answer, 403, "forbidden")


REFUSED = (
    "ftp://shop.example/",
    "https://user:pass@shop.example/",
    "http://127.0.0.1:80/",
    "http://localhost/",
    "http://[::ffff:10.0.0.1]/",
    "http://169.254.169.254/latest/meta-data",
    "https://shop.example/#x",
    "https:///path",
    "https://shop.example:99999/",
    "https://shop.example/" + "x" * 3000,
)


async def test_a_url_that_leads_nowhere_or_inwards_is_refused(api):
    for url in REFUSED:
        answer = await api.post("/v1/webhooks", json={"url": url})
        assert_problem(answer, 422, "invalid-request")
        assert answer.json()["errors"][0]["pointer"] == "/url"
    assert (await api.get("/v1/webhooks")).json()["webhooks"] == []


async def test_a_change_keeps_what_it_does_not_name(api):
    webhook = await made(api, types=["order.*"], subject="order/7")
    path = f"/v1/webhooks/{webhook['id']}"
    off = (await api.patch(path, json={"enabled": False, "subject": None})).json()
    assert (off["enabled"], off["subject"], off["types"]) == (False, None, ["order.*"])
    assert_problem(await api.patch(path, json={"url": None}), 422, "invalid-request")
    assert (await api.patch(path, json={"enabled": True})).json()["enabled"]


async def test_one_is_replayed_by_id_if_it_asked_for_it_and_may_be_told(
    api, narrow, mesh, mesh_redis, mesh_keys
):
    webhook = (await narrow("POST", "/v1/webhooks", json={"url": URL})).json()
    path = f"/v1/webhooks/{webhook['id']}/replay"
    (fits,) = await mesh.tell(event_type="order.placed")
    (hidden,) = await mesh.tell(event_type="user.registered")
    answer = await narrow("POST", path, json={"notifications": [fits]})
    assert answer.json()["deliveries"] == [f"{webhook['id']}_{fits}"]
    for other in (hidden, "1-1"):
        assert_problem(await api.post(path, json={"notifications": [fits, other]}), 422, "invalid-request")
    (standing,) = await WebhookStore(mesh_redis, mesh_keys).standings([webhook["id"]])
    assert standing.waiting == 1


async def test_a_replay_since_a_time_moves_its_place_back(api, mesh):
    await mesh.tell()
    webhook = await made(api)
    path = f"/v1/webhooks/{webhook['id']}/replay"
    answer = await api.post(path, json={"since": "2026-01-01T00:00:00Z"})
    assert answer.status_code == 202
    assert answer.json()["after"].startswith("1767225599999-")
    assert_problem(
        await api.post(path, json={"since": "2026-01-01T00:00:00Z", "after": "0"}), 422, "invalid-request"
    )
    assert_problem(await api.post(path, json={}), 422, "invalid-request")


@pytest.mark.parametrize("wanted", [{"since": "9999-01-01T00:00:00Z"}, {"after": "99999999999999-0"}])
async def test_a_replay_from_a_time_to_come_passes_nothing_over(api, mesh, mesh_redis, mesh_keys, wanted):
    (first,) = await mesh.tell()
    webhook = await made(api)
    await mesh_redis.set(
        mesh_keys.webhooks_place(), first
    )  # so far the workers have read, and it stands with all
    await mesh_redis.hdel(mesh_keys.webhook(webhook["id"]), "behind")
    await mesh.tell()
    answer = await api.post(f"/v1/webhooks/{webhook['id']}/replay", json=wanted)
    assert (answer.status_code, answer.json()["after"]) == (202, first)


async def test_a_test_is_queued_and_its_attempts_are_told_page_by_page(api, mesh_redis, mesh_keys):
    webhook = await made(api)
    path = f"/v1/webhooks/{webhook['id']}"
    delivery = (await api.post(f"{path}/test")).json()["deliveries"][0]
    state = (await api.get(path)).json()
    assert state["waiting"] == 1
    note = f'{{"delivery":"{delivery}","notification":"1-1","attempt":1,"at":"2026-11-22T06:00:00.004Z",'
    note += '"outcome":"failed","status":500,"error":"it answered 500","seconds":0.1,"next_attempt":null}'
    for text in (note, "garbage", note, "[]"):
        await mesh_redis.xadd(mesh_keys.webhook_attempts(webhook["id"]), {"a": text})
    first = (await api.get(f"{path}/attempts", params={"limit": 3})).json()
    assert len(first["attempts"]) == 1 and first["next"]
    rest = (await api.get(f"{path}/attempts", params={"limit": 3, "cursor": first["next"]})).json()
    assert len(rest["attempts"]) == 1 and rest["next"] is None


async def test_an_expression_is_taken_shown_changed_and_a_wrong_one_refused_with_its_place(api, monkeypatch):
    webhook = await made(api, where="data.result.total > 100")
    assert webhook["where"] == "data.result.total > 100"
    at = f"/v1/webhooks/{webhook['id']}"
    for answer in (
        await api.post("/v1/webhooks", json={"url": URL, "where": "data.total ="}),
        await api.patch(at, json={"where": "total > 1"}),
    ):
        assert_problem(answer, 422, "invalid-request")
        assert answer.json()["errors"][0]["pointer"] == "/where" and "character" in answer.text
    assert (await api.patch(at, json={"enabled": False})).json()["where"] == "data.result.total > 100"
    monkeypatch.setattr("services.api.routes.webhooks.MOST_ASKING", 1)
    assert_problem(
        await api.post("/v1/webhooks", json={"url": URL, "where": "data.n == 1"}), 429, "quota-exceeded"
    )
    assert (await api.patch(at, json={"where": "data.n == 1"})).json()["where"] == "data.n == 1"
    assert (await api.patch(at, json={"where": None})).json()["where"] is None
