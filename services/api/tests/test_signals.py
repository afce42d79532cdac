"""`POST /v1/tasks/{id}/signal`: who may answer a handler, what counts, what is refused."""

from __future__ import annotations

import pytest

from services.api.routes.signals import AcceptedSignal
from services.api.tests.expectations import assert_problem


@pytest.fixture
async def handed_over(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    await api.post("/v1/events", json={"type": "order.placed", "id": "e1", "data": {}})
    (task,) = await mesh.dispatch("order", "worker")
    return task


def path(task, what="/signal"):
    return f"/v1/tasks/{task.ref.task_id}{what}"


async def test_the_first_signal_of_a_name_is_kept_until_its_handler_asks(api, handed_over):
    first = await api.post(path(handed_over), json={"name": "approval", "data": {"by": "ann"}})
    again = await api.post(path(handed_over), json={"data": False})

    assert [a.status_code for a in (first, again)] == [202, 202]
    assert [AcceptedSignal.model_validate(a.json()).duplicate for a in (first, again)] == [False, True]
    shown = (await api.get(path(handed_over, ""))).json()
    assert (shown["state"], shown["waits_for"]) == ("queued", None)


@pytest.mark.parametrize(
    "body, status, problem",
    [
        ({"name": ""}, 422, "invalid-request"),
        ({"name": "a\nb"}, 422, "invalid-request"),
        ({"name": "x" * 200}, 422, "invalid-request"),
        ({"nome": "approval"}, 422, "invalid-request"),
        ({"name": "approval", "data": "x" * 70_000}, 413, "body-too-large"),
    ],
)
async def test_what_cannot_be_kept_is_refused(api, handed_over, body, status, problem):
    assert_problem(await api.post(path(handed_over), json=body), status, problem)


async def test_nobody_answers_for_a_task_that_has_ended_or_never_was(api, mesh, handed_over):
    await mesh.start(handed_over)
    await mesh.succeed(handed_over)

    assert_problem(await api.post(path(handed_over), json={}), 409, "task-ended")
    assert_problem(await api.post("/v1/tasks/nobody/signal", json={}), 404, "not-found")


@pytest.mark.parametrize(
    "body, status",
    [
        (rb'{"data": "\ud800"}', 422),
        (b'{"data": NaN}', 422),
        (b'{"data": %s1%s}' % (b"[" * 150, b"]" * 150), 422),
    ],
    ids=["half a pair", "no number", "deep"],
)
async def test_what_is_not_exact_json_is_refused_and_nothing_kept(api, mesh, handed_over, body, status):
    headers = {"content-type": "application/json"}
    answer = await api.post(path(handed_over), content=body, headers=headers)

    assert_problem(answer, status, "invalid-request")
    assert (await api.post(path(handed_over), json={})).json()["duplicate"] is False


async def test_a_publisher_cannot_say_the_result_of_a_urls_task(api, mesh):
    wanted = {"url": "https://billing.example/mesh", "subscriptions": [{"type": "order.placed"}]}
    assert (await api.put("/v1/services/invoices", json=wanted)).status_code == 200
    await api.post("/v1/events", json={"type": "order.placed", "id": "e1", "data": {}})
    (task,) = await mesh.dispatch("order", "invoices")

    forged = await api.post(path(task), json={"name": "result", "data": {"result": "paid"}})

    assert_problem(forged, 403, "forbidden")
    assert (await api.post(path(task), json={"name": "other"})).status_code == 202
