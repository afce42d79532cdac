"""One-time addresses of approvals: who is given one, what it shows, that it answers once and only its own question."""

from __future__ import annotations

import re

import pytest
from streammesh import lua
from streammesh.durable.calls import DurableCalls

from services.api.tests.expectations import assert_problem

QUESTION = 'ship <b>3 t</b> of "steel"?'


@pytest.fixture
async def asking(api, mesh):
    """A task that waits for an approval."""
    await mesh.subscribe("worker", "order.placed")
    await api.post("/v1/events", json={"type": "order.placed", "id": "e1", "data": {}})
    (task,) = await mesh.dispatch("order", "worker")
    await ask(mesh, task)
    return task


async def ask(mesh, task, name="approval", seconds=60.0):
    await mesh.start(task)
    about = {"for": "signal", "signal": name, "question": QUESTION, "to": "ops"}
    calls = DurableCalls(mesh.keys, mesh.settings)
    call = calls.suspend(task.ref, task.place, task.attempt, 1, f"signal:{name}", seconds, about, "")
    assert await lua.run(mesh.redis, call) == "done"


def row_of(mesh, task):
    return mesh.keys.task(task.ref.task_id)


async def address(api, task, **options):
    found = (await api.get(f"/v1/tasks/{task.ref.task_id}", **options)).json()
    return found["waits_for"]["approval_url"]


def form(url, answer="approve"):
    return {"token": url.partition("token=")[2], "answer": answer}


@pytest.mark.parametrize("answer, kept", [("approve", b"true"), ("decline", b"false")])
async def test_somebody_without_a_key_looks_and_answers_once(api, mesh, asking, answer, kept):
    url = await address(api, asking)
    nobody = {"authorization": ""}
    for _ in range(2):  # looking changes nothing
        page = await api.get(url, headers=nobody)
        assert page.status_code == 200
        assert await mesh.redis.hget(row_of(mesh, asking), "state") == b"waiting"
    assert "ship &lt;b&gt;3 t&lt;/b&gt; of &quot;steel&quot;?" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("no-referrer", "no-store")
    assert re.search(r'name="token" value="[\w-]+"', page.text)

    done = await api.post("/approvals", data=form(url, answer), headers=nobody)
    assert done.status_code == 200
    record = await mesh.redis.hget(row_of(mesh, asking), "step:signal:approval")
    assert record.endswith(b" signal " + kept)
    assert await mesh.redis.hget(row_of(mesh, asking), "state") == b"queued"

    assert (await api.post("/approvals", data=form(url, "decline"), headers=nobody)).status_code == 410
    assert (await api.get(url, headers=nobody)).status_code == 410
    assert await mesh.redis.hget(row_of(mesh, asking), "step:signal:approval") == record


async def test_only_who_may_answer_is_given_an_address(api, make_key, asking):
    for publish, given in (("order.*", True), ("other.*", False)):
        key = await make_key(f"reader-{str(given).lower()}", subscribe=["order.*"], publish=[publish])
        url = await address(api, asking, headers={"authorization": f"Bearer {key}"})
        assert (url is not None) == given
    token = (await api.post("/v1/tokens", json={})).json()["token"]
    assert await address(api, asking, headers={"authorization": f"Bearer {token}"}) is None


async def test_an_address_is_worth_nothing_after_its_time_or_elsewhere(api, mesh, asking):
    url = await address(api, asking)
    other = (await api.post("/v1/tokens", json={})).json()["token"].removeprefix("smt_")
    for token in ("", "x", "é", url.partition("token=")[2][:-4] + "AAAA", other, "y" * 5_000):
        assert (await api.get("/approvals", params={"token": token})).status_code == 410
        answer = await api.post("/approvals", data={"token": token, "answer": "approve"})
        assert answer.status_code == 410 if token else answer.status_code in (400, 410)

    await mesh.redis.hset(row_of(mesh, asking), "wait:signal:approval", b"\xff garbage")
    assert (await api.post("/approvals", data=form(url))).status_code == 410
    await mesh.redis.delete(row_of(mesh, asking))
    assert (await api.get(url)).status_code == 410


async def test_a_deadline_that_is_past_ends_it(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    await api.post("/v1/events", json={"type": "order.placed", "id": "e1", "data": {}})
    (task,) = await mesh.dispatch("order", "worker")
    await ask(mesh, task, seconds=0.0)
    assert (await api.post("/approvals", data=form(await address(api, task)))).status_code == 410


@pytest.mark.parametrize("answer", ["", "yes", "approve&answer=decline"])
async def test_what_is_neither_button_answers_nothing(api, mesh, asking, answer):
    url = await address(api, asking)
    body = f"token={url.partition('token=')[2]}&answer={answer}"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await api.post("/approvals", content=body, headers=headers)).status_code == 400
    assert_problem(await api.post("/approvals", json={}), 415, "unsupported-media-type")
    assert_problem(await api.post("/approvals", content=b"x" * 9_000, headers=headers), 413, "body-too-large")
    assert await mesh.redis.hget(row_of(mesh, asking), "state") == b"waiting"
