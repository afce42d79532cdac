"""`/v1/subscriptions`: listed, paused, resumed, and by whom."""

from __future__ import annotations

from services.api.routes.subscriptions import SubscriptionList, SubscriptionState
from services.api.tests.expectations import assert_problem


async def listed(api, **params):
    answer = await api.get("/v1/subscriptions", params=params)
    return SubscriptionList.model_validate(answer.json()).subscriptions


async def test_a_subscription_is_paused_with_a_reason_and_resumed(api, mesh):
    await mesh.subscribe("worker", "order.placed", where={"data.n": 1})
    await mesh.subscribe("mailer", "user.registered")

    paused = await api.post("/v1/subscriptions/worker.handle/pause", json={"reason": "it moves house"})
    again = await api.post("/v1/subscriptions/worker.handle/pause", json={"reason": "other"})
    state = SubscriptionState.model_validate(paused.json())

    assert (state.type, state.where, state.held, state.failures) == ("order.placed", {"data.n": 1}, 0, 0)
    assert (state.paused.reason, state.paused.failures) == ("it moves house", 0)
    assert again.json()["paused"] == paused.json()["paused"]
    assert [s.task for s in await listed(api)] == ["mailer.handle", "worker.handle"]
    assert [s.task for s in await listed(api, paused=True)] == ["worker.handle"]

    resumed = await api.post("/v1/subscriptions/worker.handle/resume")
    assert (resumed.status_code, resumed.json()["paused"]) == (200, None)
    notes = [fields[b"t"] for _, fields in await mesh.redis.xrange(mesh.keys.notifications())]
    assert notes == [b"subscription.paused", b"subscription.resumed"]


async def test_what_is_not_there_is_not_found(api):
    assert_problem(await api.post("/v1/subscriptions/no.body/resume"), 404, "not-found")
    assert_problem(await api.post("/v1/subscriptions/no.body/pause", json={}), 404, "not-found")


async def test_what_is_paused_and_left_its_manifest_can_still_be_resumed(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    await api.post("/v1/subscriptions/worker.handle/pause", json={})
    await mesh.redis.delete(mesh.keys.manifests())

    [state] = await listed(api)
    assert (state.task, state.type, state.service) == ("worker.handle", "", "worker")
    assert (await api.post("/v1/subscriptions/worker.handle/resume")).status_code == 200
    assert await listed(api) == []


async def test_only_admins_act_and_keys_see_their_own(api, mesh, make_key):
    await mesh.subscribe("worker", "order.placed")
    await mesh.subscribe("mailer", "user.registered")
    key = await make_key("support", publish=["*"], subscribe=["order.*"])
    headers = {"authorization": f"Bearer {key}"}

    shown = (await api.get("/v1/subscriptions", headers=headers)).json()["subscriptions"]

    assert [one["task"] for one in shown] == ["worker.handle"]
    for action in ("pause", "resume"):
        answer = await api.post(f"/v1/subscriptions/worker.handle/{action}", json={}, headers=headers)
        assert_problem(answer, 403, "forbidden")


async def test_a_wrong_body_is_refused(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    for wrong in ({"reason": ""}, {"reason": 5}, {"why": "x"}):
        answer = await api.post("/v1/subscriptions/worker.handle/pause", json=wrong)
        assert_problem(answer, 422, "invalid-request")
    assert await listed(api, paused=True) == []


async def test_a_stream_of_notifications_tells_of_a_pause(live, mesh):
    await mesh.subscribe("worker", "order.placed")
    await live.post("/v1/subscriptions/worker.handle/pause", json={"reason": "it moves house"})

    async with live.stream("GET", "/v1/notifications", params={"after": "0"}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                break

    assert '"type":"subscription.paused"' in line
    assert '"reason":"it moves house"' in line
