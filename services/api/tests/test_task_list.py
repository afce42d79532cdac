"""`GET /v1/tasks` and `GET /v1/manifests`: what is there, for whoever may see it."""

from __future__ import annotations

import pytest

from services.api.routes.manifests import ManifestList
from services.api.routes.task_list import TaskList
from services.api.tests.expectations import assert_problem


async def publish(api, event_type="order.placed", n=1):
    answer = await api.post(
        "/v1/events",
        json=[{"specversion": "1.0", "type": event_type, "id": f"e{i}", "source": "shop"} for i in range(n)],
        headers={"content-type": "application/cloudevents-batch+json"},
    )
    assert answer.status_code == 202, answer.text


async def listed(api, **params):
    answer = await api.get("/v1/tasks", params=params)
    assert answer.status_code == 200, answer.text
    TaskList.model_validate(answer.json())
    return answer.json()


async def all_pages(api, **params):
    found, cursor = [], None
    for _ in range(50):
        page = await listed(api, **params, **({"cursor": cursor} if cursor else {}))
        found += [task["id"] for task in page["tasks"]]
        cursor = page["next"]
        if cursor is None:
            return found
    raise AssertionError("no end")


async def test_open_and_ended_tasks_are_told_apart_and_by_state(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    await publish(api, n=4)
    queued, started, done, failed = await mesh.dispatch("order", "worker")
    for task in (started, done, failed):
        await mesh.start(task)
    await mesh.succeed(done, {"n": 1})
    await mesh.fail(failed, "no luck")

    def ids(*tasks):
        return {task.ref.task_id for task in tasks}

    assert {t["id"] for t in (await listed(api))["tasks"]} == ids(queued, started)
    assert [t["id"] for t in (await listed(api, state="ended"))["tasks"]] == [
        failed.ref.task_id,
        done.ref.task_id,
    ]
    for state, task in (("queued", queued), ("started", started), ("succeeded", done), ("failed", failed)):
        assert {t["id"] for t in (await listed(api, state=state))["tasks"]} == ids(task), state
    assert {t["id"] for t in (await listed(api, worker="worker@test:1"))["tasks"]} == ids(started)
    assert (await listed(api, name="other.*"))["tasks"] == []
    assert (await listed(api, state="ended", service="nobody"))["tasks"] == []


@pytest.mark.parametrize("state", ["open", "ended"])
async def test_pages_give_each_task_once_also_of_many_in_one_moment(api, mesh, mesh_redis, mesh_keys, state):
    await mesh.subscribe("worker", "order.placed")
    await mesh.subscribe("other", "order.placed")
    await publish(api, n=30)
    tasks = await mesh.dispatch("order", "worker") + await mesh.dispatch("order", "other")
    for service in ("worker", "other"):
        for member in await mesh_redis.zrange(mesh_keys.open_tasks(service), 0, -1):
            await mesh_redis.zadd(mesh_keys.open_tasks(service), {member: 1_763_790_000_000})
    # Ids without a row, more of them in that moment than one look takes.
    many = {f"gone-{n:04}": 1_763_790_000_000 for n in range(900)}
    await mesh_redis.zadd(mesh_keys.open_tasks("worker"), many)
    if state == "ended":
        for task in tasks:
            await mesh.start(task)
            await mesh.succeed(task)

    found = await all_pages(api, state=state, limit=7)
    assert sorted(found) == sorted(task.ref.task_id for task in tasks)


async def test_garbage_among_the_records_is_stepped_over(api, mesh, mesh_redis, mesh_keys):
    await mesh.subscribe("worker", "order.placed")
    await mesh.subscribe("other", "order.placed")
    await publish(api)
    [task] = await mesh.dispatch("order", "worker")
    await mesh_redis.zadd(mesh_keys.open_tasks("worker"), {b"\xff\xfe": 1, "neg": -5, "inf": float("inf")})
    await mesh_redis.delete(mesh_keys.open_tasks("other"))
    await mesh_redis.set(mesh_keys.open_tasks("other"), "garbage")
    await mesh_redis.xadd(mesh_keys.tasks_recent(), {"x": "y"})

    assert [t["id"] for t in (await listed(api))["tasks"]] == [task.ref.task_id]
    assert (await listed(api, state="ended"))["tasks"] == []


async def test_a_key_sees_tasks_and_manifests_of_its_types_only(api, mesh, make_key):
    await mesh.subscribe("worker", "order.placed")
    await publish(api)
    await mesh.dispatch("order", "worker")
    for globs, number in (["user.*"], 0), (["order.*"], 1):
        secret = await make_key(f"reader-{number}", subscribe=globs)
        headers = {"authorization": f"Bearer {secret}"}
        assert len((await api.get("/v1/tasks", headers=headers)).json()["tasks"]) == number
        found = (await api.get("/v1/manifests", headers=headers)).json()
        assert len(found["manifests"]) == number


@pytest.mark.parametrize("params", [{"state": "gone"}, {"cursor": "x"}, {"limit": 0}])
async def test_what_cannot_be_asked_is_refused(api, params):
    assert_problem(await api.get("/v1/tasks", params=params), 422, "invalid-request")
    assert_problem(await api.get("/v1/tasks", params={"servce": "x"}), 400, "malformed-request")


async def test_manifests_tell_a_condition_in_cel(api, mesh):
    await mesh.subscribe("worker", "order.placed", where="data.total > 100")
    [manifest] = (await api.get("/v1/manifests")).json()["manifests"]
    assert manifest["subscriptions"][0]["where"] == "data.total > 100"


async def test_manifests_tell_options_and_schemas(api, mesh, mesh_redis, mesh_keys):
    await mesh.subscribe("worker", "order.placed", where={"data.n": 1}, timeout=5.0, retries=2)
    await mesh_redis.hset(mesh_keys.manifests(), "broken", "garbage")
    answer = await api.get("/v1/manifests")
    ManifestList.model_validate(answer.json())
    [manifest] = answer.json()["manifests"]

    assert (manifest["service"], manifest["queues"], answer.json()["broken"]) == (
        "worker",
        ["worker"],
        ["broken"],
    )
    [one] = manifest["subscriptions"]
    assert (one["task"], one["where"], one["timeout"], one["retries"]) == (
        "worker.handle",
        {"data.n": 1},
        5.0,
        2,
    )
    assert one["schema"] is None and one["queue"] == "worker"
