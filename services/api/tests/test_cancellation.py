"""`POST /v1/tasks/{id}/cancel`: who may, what ends at once, what is asked for, what stands."""

from __future__ import annotations

import pytest

from services.api.routes.cancellation import CancelledTask
from services.api.tests.expectations import assert_problem


@pytest.fixture
async def handed_over(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    await api.post("/v1/events", json={"type": "order.placed", "id": "e1", "data": {}})
    (task,) = await mesh.dispatch("order", "worker")
    return task


async def cancel(api, task, **options):
    return await api.post(f"/v1/tasks/{task.ref.task_id}/cancel", **options)


async def test_a_queued_task_is_cancelled_at_once_and_its_event_is_complete(
    api, mesh, mesh_redis, handed_over
):
    answer = await cancel(api, handed_over)

    CancelledTask.model_validate(answer.json())
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    shown = (await api.get(answer.json()["links"]["self"])).json()
    assert (shown["state"], shown["error"]) == (
        *("cancelled", {"reason": "it was cancelled", "kind": "Cancelled", "by": None}),
    )
    assert await mesh_redis.xlen(mesh.keys.queue("worker")) == 0
    assert (await api.get("/v1/events/e1")).json()["state"] == "completed"


async def test_a_running_task_is_asked_to_stop_and_a_second_wish_changes_nothing(api, mesh, handed_over):
    await mesh.start(handed_over)

    first, second = await cancel(api, handed_over), await cancel(api, handed_over)

    assert [(a.status_code, a.json()["state"]) for a in (first, second)] == [(202, "cancelling")] * 2
    assert (await api.get(f"/v1/tasks/{handed_over.ref.task_id}")).json()["state"] == "started"


async def test_what_has_ended_stands(api, mesh, handed_over):
    await mesh.start(handed_over)
    await mesh.succeed(handed_over, "done")

    document = assert_problem(await cancel(api, handed_over), 409, "task-ended")

    assert document["state"] == "succeeded"
    assert (await api.get(f"/v1/tasks/{handed_over.ref.task_id}")).json()["result"] == "done"


async def test_an_unknown_task_is_not_found(api):
    assert_problem(await api.post("/v1/tasks/nothing/cancel"), 404, "not-found")
    assert_problem(await api.post(f"/v1/tasks/{'x' * 200}/cancel"), 404, "not-found")


async def test_only_who_may_publish_the_event_may_cancel(api, make_key, handed_over):
    reader = await make_key("reader", subscribe=["order.*"])
    stranger = await make_key("stranger", publish=["user.*"], subscribe=["user.*"])
    publisher = await make_key("publisher", publish=["order.*"])

    def bearing(key):
        return {"headers": {"authorization": f"Bearer {key}"}}

    assert_problem(await cancel(api, handed_over, **bearing(stranger)), 404, "not-found")
    assert_problem(await cancel(api, handed_over, **bearing(reader)), 403, "forbidden")
    assert (await cancel(api, handed_over, **bearing(publisher))).status_code == 202
