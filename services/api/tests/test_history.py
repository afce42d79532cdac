"""Answers from Redis and the history: one order, nothing twice, and what is told while the history is away."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import orjson
import pytest
from streammesh.clock import rfc3339_ms
from streammesh.history.rows import EventRecord, LetterRecord, TaskRecord, day_of
from streammesh.history.store import HistoryBatch, HistoryStore

from services.api import merged_pages
from services.api.app import create_app
from services.api.tests.expectations import assert_problem

HOUR = 3_600_000


@pytest.fixture
def store(tmp_path):
    store = HistoryStore(f"sqlite:///{tmp_path}/history.db")
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def door(mesh_settings, api_settings, store_settings, store, tmp_path):
    history = mesh_settings.model_copy(update={"history_url": f"sqlite:///{tmp_path}/history.db"})
    return create_app(history, api_settings, store_settings)


def event(event_id, at, seq=0, event_type="order.placed", state="completed", **more) -> EventRecord:
    source, data = more.pop("source", "till"), more.pop("data", {})
    raw = {"specversion": "1.0", "id": event_id, "source": source, "type": event_type, "data": data, **more}
    failed = int(state == "failed")
    return EventRecord(
        *(day_of(at), event_id, source, at, seq, event_type.partition(".")[0], event_type),
        *(more.get("subject"), more.get("correlationid"), state, 1, 1, failed, at + 5),
        orjson.dumps(raw).decode(),
    )


def task(task_id, event_id, at, seq=0, state="succeeded", outcome=None) -> TaskRecord:
    return TaskRecord(
        day=day_of(at),
        id=task_id,
        event_id=event_id,
        event_source="till",
        event_type="order.placed",
        event_subject=None,
        correlation=None,
        name="billing.bill",
        service="billing",
        queue="billing",
        priority=5,
        state=state,
        attempt=1,
        at=at,
        seq=seq,
        queued=at - 3,
        started=at - 2,
        ended=at,
        worker="billing@a:1",
        outcome=orjson.dumps(outcome or {"result": {"n": seq}}).decode(),
    )


def now_ms() -> int:
    return round(time.time() * 1000)


async def pages(api, path, what, **params):
    """The ids of all pages, one after the other."""
    found, cursor = [], None
    while True:
        answer = await api.get(path, params={**params, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        found += [one["id"] for one in answer.json()[what]]
        assert answer.json()["history_away"] is False
        cursor = answer.json()["next"]
        if cursor is None:
            return found


async def test_a_list_of_events_goes_over_both_and_holds_nothing_twice(api, store, mesh_redis, mesh_keys):
    ids = []
    for _ in range(3):
        ids.append((await api.post("/v1/events", json={"type": "order.placed"})).json()["id"])
    entries = await mesh_redis.xrange(mesh_keys.events("order"))
    at, seq = map(int, entries[1][0].decode().split("-"))
    past = [event(f"h{n}", now_ms() - n * HOUR, seq=n) for n in range(1, 6)]
    other = event("other", now_ms() - 90 * 60_000, event_type="user.left")
    both = event(ids[1], at, seq, source="shop")
    store.write(HistoryBatch(events=[*past, other, both]))

    wanted = [*reversed(ids), "h1", "other", "h2", "h3", "h4", "h5"]
    for limit in (1, 2, 4, 50):
        assert await pages(api, "/v1/events", "events", limit=limit) == wanted
    assert await pages(api, "/v1/events", "events", limit=2, type="order.*") == [
        one for one in wanted if one != "other"
    ]


async def test_events_of_the_history_are_found_by_all_that_can_be_asked(api, store):
    now = now_ms()
    store.write(
        HistoryBatch(
            events=[
                event(
                    "a", now - HOUR, subject="order/1", correlationid="story", data={"note": 'say "Grüße"'}
                ),
                event("b", now - 2 * HOUR, state="failed", source="web"),
                event("story", now - 3 * HOUR, event_type="order.begun"),
            ]
        )
    )

    async def found(**params):
        return await pages(api, "/v1/events", "events", **params)

    since, until = (datetime.fromtimestamp((now - n * HOUR / 2) / 1000, UTC).isoformat() for n in (5, 3))
    assert await found(source="web") == ["b"]
    assert await found(subject="order/1") == ["a"]
    assert await found(correlation="story") == ["a", "story"]
    assert await found(text='SAY "grÜße"') == ["a"]
    assert await found(state="failed") == ["b"]
    assert await found(type="order.b*") == ["story"]
    assert await found(since=since, until=until) == ["b"]
    standing = (await api.get("/v1/events", params={"standing": True, "source": "web"})).json()["standings"]
    assert [(one["state"], one["tasks"], one["failed"]) for one in standing] == [("failed", 1, 1)]


async def test_an_event_that_left_redis_is_told_with_its_tasks_and_results(api, store):
    at = now_ms() - 5 * HOUR
    store.write(
        HistoryBatch(
            [event("old one", at, data={"n": 1})], [task("t-1", "old one", at + 4, outcome={"result": 7})]
        )
    )

    answer = (await api.get("/v1/events/old one")).json()
    assert (answer["state"], answer["type"], answer["event"]["data"]) == (
        "completed",
        "order.placed",
        {"n": 1},
    )
    [delivery] = answer["deliveries"]
    assert (delivery["task_id"], delivery["task"]["result"]) == ("t-1", 7)
    assert (await api.get("/v1/tasks/t-1")).json() == delivery["task"]
    assert (await api.get("/v1/tasks/t-2")).status_code == 404


async def test_ended_tasks_go_over_both(api, store, mesh):
    await mesh.subscribe("billing", "order.placed")
    for _ in range(3):
        await api.post("/v1/events", json={"type": "order.placed"})
    running = await mesh.dispatch("order", "billing")
    for one in running:
        await mesh.start(one)
        await mesh.succeed(one)
    past = [
        task(f"t{n}", "e", now_ms() - n * HOUR, n, state="failed" if n == 2 else "succeeded")
        for n in (1, 2, 3)
    ]
    store.write(HistoryBatch(tasks=past))

    recent = [one.ref.task_id for one in reversed(running)]
    for limit in (1, 2, 50):
        got = await pages(api, "/v1/tasks", "tasks", state="ended", limit=limit)
        assert got == [*recent, "t1", "t2", "t3"]
    assert await pages(api, "/v1/tasks", "tasks", state="failed") == ["t2"]
    assert await pages(api, "/v1/tasks", "tasks", state="ended", name="billing.b*") == ["t1", "t2", "t3"]


def letter(
    letter_id, at, service="billing", event_type="order.placed", reason="no such customer"
) -> LetterRecord:
    about = {"id": "e", "type": event_type, "source": "till", "subject": None}
    told = {
        "form": "task",
        "reason": reason,
        "kind": "Reject",
        "attempts": 1,
        "task": f"{service}.run",
        "event": about,
    }
    return LetterRecord(day_of(at), service, letter_id, at, orjson.dumps(told).decode())


async def test_past_dead_letters_are_told_page_by_page_to_whom_they_concern(
    api, store, make_key, monkeypatch
):
    at = now_ms() - HOUR
    parked = [
        letter(f"l{n}", at - n // 3, "billing" if n % 2 else "audit") for n in range(7)
    ]  # three at a time
    parked += [
        letter("user", at - 8, event_type="user.seen"),
        letter("odd", at - 9)._replace(letter="garbage"),
        letter("late", at - 10, reason="Too Late"),
    ]
    store.write(HistoryBatch(letters=parked))
    key = await make_key("orders", subscribe=["order.*"])
    whole = ["l2", "l1", "l0", "l5", "l4", "l3", "l6", "user", "odd", "late"]

    monkeypatch.setattr(merged_pages, "LETTERS_SCANNED", 4)  # so that a page takes several questions
    for limit in (1, 3, 50):
        assert await pages(api, "/v1/dead-letters", "dead_letters", past=True, limit=limit) == whole
    narrow = {"authorization": f"Bearer {key}"}
    told = (await api.get("/v1/dead-letters", params={"past": True}, headers=narrow)).json()
    assert [one["id"] for one in told["dead_letters"]] == [*whole[:7], "late"]
    for wanted, ids in (
        ({"service": "audit", "limit": 2}, ["l2", "l0", "l4", "l6"]),
        ({"reason": "too late"}, ["late"]),
        ({"type": "user.*"}, ["user"]),
        ({"until": rfc3339_ms(at - 10)}, ["late"]),
        ({"since": rfc3339_ms(at)}, ["l2", "l1", "l0"]),
    ):
        assert await pages(api, "/v1/dead-letters", "dead_letters", past=True, **wanted) == ids
    assert (await api.get("/v1/dead-letters")).json()["dead_letters"] == []


async def test_while_the_history_is_away_redis_answers_and_says_so(api, store, tmp_path):
    event_id = (await api.post("/v1/events", json={"type": "order.placed"})).json()["id"]
    store.close()
    for file in tmp_path.glob("history.db*"):
        file.unlink()
    (tmp_path / "history.db").mkdir()

    answer = await api.get("/v1/events")
    assert answer.status_code == 200
    assert [one["id"] for one in answer.json()["events"]] == [event_id]
    assert answer.json()["history_away"] is True
    assert (await api.get("/v1/tasks", params={"state": "ended"})).json()["history_away"] is True
    assert (await api.get("/v1/tasks")).json()["history_away"] is False, "open tasks are Redis's"
    past = (await api.get("/v1/dead-letters", params={"past": True})).json()
    assert past == {"dead_letters": [], "next": None, "history_away": True}
    assert (await api.get(f"/v1/events/{event_id}")).status_code == 200
    assert_problem(await api.get("/v1/events/unknown"), 503, "unavailable")
    assert_problem(await api.get("/v1/tasks/unknown"), 503, "unavailable")
    status = (await api.get("/v1/status")).json()
    assert "history-away" in [one["code"] for one in status["findings"]]
