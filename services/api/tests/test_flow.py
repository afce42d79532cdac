"""What waits for its turn, over HTTP; limits that an operator sets, and takes back."""

from __future__ import annotations

import pytest
from streammesh.events.publisher import Publisher
from streammesh.flow.limits import Flow
from streammesh.lines.upkeep import BEGIN, tend_call
from streammesh.lua import run

from services.api.routes.flow import FlowDocument, KeyList
from services.api.tests.expectations import assert_problem

TASK = "worker.handle"
PATH = f"/v1/subscriptions/{TASK}"


@pytest.fixture
async def lined(mesh):
    """Two tasks of key `a` run, one waits; one of `b` runs."""
    await mesh.subscribe("worker", "order.placed", flow=Flow(key="data.tenant", concurrency=2))
    publisher = Publisher(mesh.redis, mesh.keys, mesh.settings, "tests")
    for number, tenant in enumerate("aaab"):
        await publisher.publish("order.placed", {"tenant": tenant}, id=f"e{number}")
    return await mesh.dispatch("order", "worker")


async def test_keys_are_listed_page_by_page_those_that_wait_first(api, lined):
    first = KeyList.model_validate((await api.get(f"{PATH}/keys", params={"limit": 1})).json())
    assert (first.waiting, first.running, first.limits.concurrency, first.set) == (1, 3, 2, {})
    assert [(one.key, one.waiting, one.running, one.turn) for one in first.keys] == [("a", 1, 2, None)]
    then = KeyList.model_validate(
        (await api.get(f"{PATH}/keys", params={"limit": 9, "cursor": first.next})).json()
    )
    assert [(one.key, one.waiting, one.running) for one in then.keys] == [("b", 0, 1)] and then.next is None
    assert_problem(await api.get(f"{PATH}/keys", params={"cursor": "x"}), 422, "invalid-request")
    assert_problem(await api.get("/v1/subscriptions/no.body/keys"), 404, "not-found")


async def test_a_task_that_waits_says_for_which_key_and_how_many_are_before_it(api, lined, mesh):
    await Publisher(mesh.redis, mesh.keys, mesh.settings, "tests").publish(
        "order.placed", {"tenant": "a"}, id="later"
    )
    [last] = await mesh.dispatch("order", "worker")
    task = (await api.get(f"/v1/tasks/{last.ref.task_id}")).json()
    assert (task["state"], task["line"]) == ("pending", {"key": "a", "before": 1})
    [why] = (await api.get("/v1/events/later")).json()["not_run"]
    assert (why["why"], why["detail"]) == ("limited", "waits in line for the key 'a', 1 before it")


async def test_an_operator_sets_a_limit_which_counts_at_once_and_is_kept_until_it_is_taken_back(
    api, lined, mesh
):
    changed = FlowDocument.model_validate((await api.patch(PATH, json={"concurrency": 3})).json())
    assert changed.set == {"concurrency": 3}
    declared = Flow(key="data.tenant", concurrency=2).limits
    await run(
        mesh.redis, tend_call(mesh.keys, TASK, declared, line_from=BEGIN)
    )  # a worker of it registers again
    rows = [await mesh.redis.hget(mesh.keys.task(one.ref.task_id), "state") for one in lined]
    assert rows == [b"queued"] * 4
    assert (await api.get(f"{PATH}/keys")).json()["set"] == {"concurrency": 3}

    assert (await api.patch(PATH, json={"throttle": "10/m"})).json()["set"] == {
        "concurrency": 3,
        "throttle": "10/m",
    }
    taken = (await api.patch(PATH, json={"concurrency": None, "throttle": None})).json()
    assert taken["set"] == {} and not await mesh.redis.hexists(mesh.keys.flow(TASK), "set")
    [noted, *_] = (await api.get("/v1/audit")).json()["actions"]
    assert (noted["action"], noted["about"]) == ("set_limits", TASK)


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"concurrency": True}, {"throttle": "often"}, {"total": "9"}, {"key": "a"}]
)
async def test_limits_that_make_no_sense_are_refused_and_nothing_has_changed(api, lined, mesh, wrong):
    assert_problem(await api.patch(PATH, json=wrong), 422, "invalid-request")
    assert not await mesh.redis.hexists(mesh.keys.flow(TASK), "set")


async def test_only_admins_set_limits_and_keys_see_their_own(api, lined, make_key):
    for key, status in (
        (await make_key("a", subscribe=["order.*"]), 200),
        (await make_key("b", subscribe=["user.*"]), 404),
    ):
        headers = {"authorization": f"Bearer {key}"}
        assert (await api.get(f"{PATH}/keys", headers=headers)).status_code == status
        assert_problem(await api.patch(PATH, json={"total": 1}, headers=headers), 403, "forbidden")
