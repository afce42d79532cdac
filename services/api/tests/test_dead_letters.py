"""`/v1/dead-letters`: found by filter and page by page, shown whole, replayed and dropped, and by whom."""

from __future__ import annotations

import pytest
from streammesh.tasks.settlement import Cause, Ending
from streammesh.tasks.task import Failure, Holder, QueuePlace

from services.api.dead_letter_documents import (
    DeadLetterPage,
    Dropped,
    ReplayDone,
    WholeDeadLetter,
)
from services.api.tests.expectations import assert_problem


@pytest.fixture
async def give_up(api, mesh):
    """Publish an event and give its task up."""
    await mesh.subscribe("worker", "order.placed")
    await mesh.subscribe("mailer", "user.registered")

    async def give_up(event_id, reason="no luck", service="worker", event_type="order.placed"):
        body = {"type": event_type, "id": event_id, "data": {"n": event_id}}
        assert (await api.post("/v1/events", json=body)).status_code == 202
        (task,) = await mesh.dispatch(event_type.partition(".")[0], service)
        # As it would be queued; the harness queues an empty body.
        queue = mesh.keys.queue(service)
        event = task.ref.event.to_json()
        place = await mesh.redis.xadd(queue, {"h": b"{}", "b": b"[[%b],{},{}]" % event})
        await mesh.redis.xdel(queue, task.place.entry)
        await mesh.redis.hset(mesh.keys.task(task.ref.task_id), "entry", place)
        failure = Failure(reason, "RuntimeError", "Traceback: here")
        task.place = QueuePlace(service, entry=place.decode())
        await mesh.end(task, Holder.THIS_ENTRY, Ending.failed(failure, Cause.GAVE_UP), 3)
        return task.ref.task_id

    return give_up


async def found(api, **params):
    answer = await api.get("/v1/dead-letters", params=params)
    assert answer.status_code == 200, answer.text
    return DeadLetterPage.model_validate(answer.json())


async def test_letters_are_listed_newest_first_and_page_by_page(api, give_up):
    ids = [await give_up(f"e{n}") for n in range(5)]
    pages, cursor = [], None
    while True:
        page = await found(api, limit=2, **({"cursor": cursor} if cursor else {}))
        pages.append([letter.id for letter in page.dead_letters])
        cursor = page.next
        if cursor is None:
            break

    assert [i for page in pages for i in page] == sorted(ids, key=ids.index, reverse=True)
    assert {len(page) for page in pages} <= {1, 2}


async def test_a_letter_is_shown_with_its_traceback_and_the_whole_event(api, give_up):
    letter_id = await give_up("e1")
    [listed] = (await found(api)).dead_letters
    answer = await api.get(listed.links.self)
    whole = WholeDeadLetter.model_validate(answer.json())

    assert (whole.id, whole.form, whole.task, whole.attempts) == (letter_id, "task", "worker.handle", 3)
    assert (whole.reason, whole.kind, whole.detail) == ("no luck", "RuntimeError", "Traceback: here")
    assert whole.envelope["data"] == {"n": "e1"}
    assert (await api.get(whole.links.task)).json()["state"] == "failed"
    assert_problem(await api.get("/v1/dead-letters/nothing"), 404, "not-found")


async def test_filters_pick_what_they_name(api, give_up):
    a = await give_up("e1", reason="Connection REFUSED")
    b = await give_up("u1", service="mailer", event_type="user.registered")

    async def ids(**params):
        return [letter.id for letter in (await found(api, **params)).dead_letters]

    assert await ids(service="worker") == await ids(reason="refused") == await ids(type="order.*") == [a]
    assert await ids(task="mailer.*") == await ids(service="mailer", kind="RuntimeError") == [b]
    assert await ids(since="2099-01-01T00:00:00Z") == await ids(until="2000-01-01T00:00:00Z") == []
    assert_problem(await api.get("/v1/dead-letters", params={"cursor": "x"}), 422, "invalid-request")


async def test_a_dry_run_changes_nothing_and_a_replay_queues_the_tasks_anew(api, mesh, give_up):
    ids = [await give_up(f"e{n}") for n in range(3)]
    body = {"filter": {"service": "worker"}, "rate": 10}

    dry = (await api.post("/v1/dead-letters/replay", json={**body, "dry_run": True})).json()
    wet_answer = await api.post("/v1/dead-letters/replay", json=body)
    again = (await api.post("/v1/dead-letters/replay", json=body)).json()

    ReplayDone.model_validate(wet := wet_answer.json())
    assert wet_answer.status_code == 202
    assert (dry["matched"], dry["replayed"], dry["seconds"]) == (3, 0, 0.2)
    assert (wet["matched"], wet["replayed"], wet["more"], wet["left"]) == (3, 3, False, {})
    assert wet["by"] == [{"service": "worker", "task": "worker.handle", "kind": "RuntimeError", "count": 3}]
    assert again["matched"] == 0
    states = [(await api.get(f"/v1/tasks/{i}")).json()["state"] for i in ids]
    assert states == ["queued", "retrying", "retrying"]
    assert (await api.get("/v1/events/e0")).json()["state"] == "running"
    assert await mesh.redis.xlen(mesh.keys.queue("worker")) == 1


async def test_letters_are_replayed_by_their_ids(api, give_up):
    first, second = await give_up("e1"), await give_up("e2")

    done = (await api.post("/v1/dead-letters/replay", json={"ids": [second, "nothing"]})).json()

    assert (done["matched"], done["replayed"]) == (1, 1)
    assert [letter.id for letter in (await found(api)).dead_letters] == [first]


async def test_a_limit_takes_the_oldest_and_says_that_there_are_more(api, give_up):
    ids = [await give_up(f"e{n}") for n in range(3)]

    done = (await api.post("/v1/dead-letters/drop", json={"filter": {}, "limit": 2})).json()

    Dropped.model_validate(done)
    assert (done["matched"], done["dropped"], done["more"]) == (2, 2, True)
    assert [letter.id for letter in (await found(api)).dead_letters] == ids[2:]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": ["a"], "filter": {}},
        {"ids": []},
        {"filter": {"servic": "x"}},
        {"filter": {}, "rate": 0},
        {"filter": {}, "limit": 0},
        {"filter": {"since": "yesterday"}},
        [],
    ],
)
async def test_a_wrong_choice_is_refused_and_nothing_is_changed(api, give_up, body):
    await give_up("e1")

    assert_problem(await api.post("/v1/dead-letters/replay", json=body), 422, "invalid-request")
    assert_problem(await api.post("/v1/dead-letters/drop", json=body), 422, "invalid-request")
    assert len((await found(api)).dead_letters) == 1


async def test_a_key_sees_the_letters_of_its_events_and_only_admins_act(api, make_key, give_up):
    mine = await give_up("e1")
    other = await give_up("u1", service="mailer", event_type="user.registered")
    key = await make_key("support", publish=["*"], subscribe=["order.*"])
    headers = {"authorization": f"Bearer {key}"}

    page = (await api.get("/v1/dead-letters", headers=headers)).json()

    assert [letter["id"] for letter in page["dead_letters"]] == [mine]
    assert (await api.get(f"/v1/dead-letters/{mine}", headers=headers)).status_code == 200
    assert_problem(await api.get(f"/v1/dead-letters/{other}", headers=headers), 404, "not-found")
    for action in ("replay", "drop"):
        answer = await api.post(f"/v1/dead-letters/{action}", json={"filter": {}}, headers=headers)
        assert_problem(answer, 403, "forbidden")
