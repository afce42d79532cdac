"""Backfills on real servers: a service that comes late is given its past, each event once, whatever else goes on."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest
import sqlalchemy as sa
from streammesh import names
from streammesh.backfill.past import Archive, HistoryAway, Past
from streammesh.backfill.places import before, parse_place
from streammesh.backfill.record import BackfillRunning, UnknownService
from streammesh.dead_letters import DeadLetterFilter, DeadLetters
from streammesh.events import envelope
from streammesh.history.schema import events, tasks
from streammesh.history.store import HistoryStore
from streammesh.subscriptions.manifest import Subscription
from streammesh.testing.conditions import wait_until

from tests.harness.late_service import OWN, Late
from tests.harness.postgres import Postgres, folder_of_programs


@pytest.fixture
def late(mesh_redis, mesh_keys, mesh_settings):
    late = Late(mesh_redis, mesh_keys, mesh_settings)
    yield late
    late.close()


@pytest.fixture
def archived(mesh_redis, mesh_keys, mesh_settings, tmp_path):
    url = f"sqlite:///{tmp_path}/history.db"
    store = HistoryStore(url)
    store.migrate()
    settings = mesh_settings.model_copy(update={"history_url": url, "hot": timedelta(seconds=30)})
    late = Late(mesh_redis, mesh_keys, settings)
    yield late, store
    late.close()
    store.close()


async def begin(late, service="late", pattern="order.*", since=1, until=None, rate=None):
    return await late.backfills.begin(service, pattern, since, until, rate, "tests")


async def test_past_and_live_meet_without_a_double_while_dispatchers_die(late):
    await late.register("early")
    await late.publish(*range(60))
    lanes = late.lanes()
    await lanes.refresh()
    await late.register("late")
    backfill = await begin(late)
    await lanes.refresh()

    async def live():
        for n in range(60, 120):
            await late.publish(n)
            await asyncio.sleep(0.002)

    async def dying():
        rng = random.Random(1)
        for n in range(40):
            task = asyncio.create_task(late.backfiller(f"d{n}").run())
            await asyncio.sleep(rng.random() * 0.02)
            task.cancel()  # as it stands: its call may have been sent, its answer is read by nobody
            await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(live(), dying())
    found = await late.run(late.backfiller("last"), backfill.id)

    async def all_there():
        return len(await late.ids("late")) >= 120 and len(await late.ids("early")) >= 120

    await wait_until("both services have all", all_there)
    await lanes.stop()
    assert sorted(map(int, await late.ids("late"))) == list(range(120))
    assert sorted(map(int, await late.ids("early"))) == list(range(120))
    assert found.tasks + found.known + found.live == found.events, "each event was accounted for once"
    wants = {int(await late.redis.hget(late.keys.event(str(n)), "want:tests")) for n in range(120)}
    assert wants == {2}
    for service in ("late", "early"):
        await late.work_off(service)
    rows = [(await late.rows.events(str(n)))[0] for n in range(120)]
    assert {(row.completed, row.done) for row in rows} == {(True, 2)}


async def test_a_handler_that_is_new_in_a_service_that_was_there_gets_its_past_alone(late):
    await late.register("early")
    lanes = late.lanes()
    await lanes.refresh()
    await late.publish(*range(30))

    async def handed():
        return len(await late.ids("early")) == 30

    await wait_until("it has them", handed)
    await late.register("early", "order.placed", Subscription("early", "early.more", "order.*"))
    await lanes.refresh()

    found = await late.run(late.backfiller(), (await begin(late, "early")).id)
    await lanes.stop()

    assert (found.tasks, found.known) == (30, 30)
    handlers = [(await late.rows.task(task)).name for _, _, task in await late.queued("early")]
    assert handlers.count("early.handle") == handlers.count("early.more") == 30


async def test_what_its_lane_has_in_hand_or_before_it_is_left_to_the_lane(late):
    await late.register("late")
    await late.publish(*range(10))
    [[_, entries]] = await late.redis.xreadgroup("late", "c", {late.keys.events("order"): ">"}, 4)
    await late.redis.xack(late.keys.events("order"), "late", entries[0][0])
    backfill = await begin(late)
    backfiller = late.backfiller()

    assert await backfiller.run_once() > 0
    assert "lane" in (await late.backfills.get(backfill.id)).waits and not await late.ids("late")
    await late.redis.xack(late.keys.events("order"), "late", *(at for at, _ in entries))
    backfiller._not_before.clear()
    found = await late.run(backfiller, backfill.id)

    # These four were acknowledged by nobody who made tasks of them: as if its handlers had come later.
    assert sorted(await late.ids("late")) == ["0", "1", "2", "3"]
    assert (found.tasks, found.live) == (4, 6)


async def test_archived_events_come_back_once_and_are_archived_again(archived):
    late, store = archived
    await late.register("early")
    lanes = late.lanes()
    await lanes.refresh()
    await late.publish(*range(50))

    async def handed():
        return len(await late.ids("early")) == 50

    await wait_until("it has them", handed)
    await late.work_off("early")
    await late.archive(store)
    await late.forget()
    await late.publish(50, 51)  # these lie in Redis
    assert not await late.redis.exists(late.keys.event("7"))
    await late.register("late")
    await lanes.refresh()

    found = await late.run(late.backfiller(), (await begin(late)).id)
    assert (found.tasks, found.left_out) == (52, 0)
    assert await late.ids("late") == [str(n) for n in range(52)]
    [row] = await late.rows.events("7")
    assert (row.wanted, row.done, len(row.task_ids)) == (2, 1, 2)
    await wait_until("the early one has the rest", lambda: _has(late, "early", 2))

    for service in ("late", "early"):
        await late.work_off(service)
    await late.archive(store)
    await late.forget()
    await lanes.stop()
    assert not await late.redis.exists(late.keys.event("7"))
    with store.engine.connect() as connection:
        kept = connection.execute(sa.select(events.c.wanted, events.c.done, events.c.state)).all()
        ran = connection.execute(sa.select(tasks.c.service, sa.func.count()).group_by(tasks.c.service)).all()
    assert kept == [(2, 2, "completed")] * 52 and sorted(ran) == [("early", 52), ("late", 52)]

    for service in ("late", "early"):  # what ran is in the history only, and does not run again
        again = await late.run(late.backfiller(), (await begin(late, service)).id)
        assert (again.tasks, again.known, await late.ids(service)) == (0, 52, [])


async def _has(late, service, number):
    return len(await late.ids(service)) >= number


async def test_it_waits_while_the_history_is_away_and_loses_nothing(archived, monkeypatch):
    late, store = archived
    await late.register("early")
    await late.publish("1")
    await late.archive(store)
    await late.forget()
    await late.redis.delete(late.keys.event("1"))
    await late.register("late")
    backfill = await begin(late)
    backfiller = late.backfiller()
    asked = Archive.ask

    async def away(self, question):
        raise HistoryAway("the history is away: locked")

    with monkeypatch.context() as patched:
        patched.setattr(Archive, "ask", away)
        assert await backfiller.run_once() > 0
        waiting = await late.backfills.get(backfill.id)
    assert (waiting.state, waiting.waits, waiting.events) == ("running", "the history is away: locked", 0)
    assert Archive.ask is asked
    blind = late.backfiller("blind", history_url=None, history=True)
    await asyncio.sleep(0.11)
    await blind.run_once()
    assert "MESH_HISTORY_URL" in (await late.backfills.get(backfill.id)).waits

    await asyncio.sleep(0.11)
    backfiller._not_before.clear()
    assert (await late.run(backfiller, backfill.id)).tasks == 1


async def test_it_leaves_half_of_the_queue_to_what_is_live_and_keeps_its_rate(late):
    await late.register("early")
    await late.publish(*range(40))
    await late.register("late")
    backfill = await begin(late)
    slow = late.backfiller(own=OWN.model_copy(update={"batch": 5}), max_queued=20)
    for _ in range(10):
        await slow.run_once()
        slow._not_before.clear()

    assert len(await late.ids("late")) == 10
    assert (await late.backfills.get(backfill.id)).waits == "its queue is half full"
    assert await late.backfills.stop(backfill.id, "late", "enough")
    assert (await late.backfills.get(backfill.id)).state == "stopped"
    assert not await late.backfills.running()

    paced = await begin(late, rate=20.0)
    backfiller = late.backfiller("paced")
    clock = asyncio.get_running_loop().time
    began = clock()
    while await late.redis.xlen(late.keys.queue("late")) < 21:
        await asyncio.sleep(await backfiller.run_once())
    assert clock() - began >= 0.4, (
        "what is known costs nothing; three times five tasks at 20/s take half a second"
    )
    assert (await late.backfills.get(paced.id)).tasks == 15


async def test_a_service_has_one_backfill_and_one_that_is_removed_has_none(late):
    with pytest.raises(UnknownService):
        await begin(late, "nobody")
    await late.register("late")
    first = await begin(late)
    with pytest.raises(BackfillRunning) as refused:
        await begin(late)
    assert refused.value.running == first.id

    await late.redis.hdel(late.keys.manifests(), "late")
    await late.backfiller().run_once()
    found = await late.backfills.get(first.id)
    assert (found.state, found.reason) == ("stopped", "its service was removed")


async def test_garbage_under_its_keys_stops_it_and_nobody_else(late):
    await late.register("early")
    await late.register("late")
    await late.publish("1")
    broken, sound = await begin(late), await begin(late, "early")
    await late.redis.hset(late.keys.backfill(broken.id), "position", "nowhere")
    await late.redis.hset(late.keys.backfills_running(), "ghost", "no-such-id")
    await late.redis.xadd(late.keys.events("order"), {"e": b"\xff{"})
    await late.redis.hset(late.keys.event("1"), "task:x", "tests")
    backfiller = late.backfiller()

    found = await late.run(backfiller, sound.id)
    assert found.state == "done"
    assert (await late.redis.hget(late.keys.backfill(broken.id), "reason")) == b"its row cannot be read"
    assert await late.backfills.running() == {}
    for number in range(3):
        await late.redis.set(late.keys.backfill(f"x{number}"), "text")
    assert [one.id for one in await late.backfills.newest()] == [sound.id]


async def test_a_replay_runs_again_what_ended_so_and_nothing_else_each_once(archived):
    late, store = archived
    await late.register("early")
    lanes = late.lanes()
    await lanes.refresh()
    await late.publish(*range(12))
    await wait_until("it has them", lambda: _has(late, "early", 12))
    await lanes.stop()
    ids = {event.id: task for _, event, task in await late.queued("early")}
    await late.work_off("early", fail=("0", "1", "2", "3"))
    letters = DeadLetters(late.redis, late.keys)
    assert len((await letters.matching(DeadLetterFilter(), 100))[0]) == 4
    await late.archive(store)
    await late.redis.delete(*(late.keys.task(ids[n]) for n in ("1", "5")))  # these tasks' rows have left,
    await late.redis.delete(late.keys.task(ids["2"]), late.keys.event("2"))  # and this one's event too

    wanted = {"again": ("failed", "cancelled"), "task": "early.h*"}
    begun = await late.backfills.begin("early", "order.*", 1, None, None, "tests", **wanted)
    found = await late.run(late.backfiller(), begun.id)

    assert (found.tasks, found.known) == (4, 8)
    assert await late.ids("early") == ["0", "1", "2", "3"]
    assert (await letters.matching(DeadLetterFilter(), 100))[0] == []
    rows = [(await late.rows.events(str(n)))[0] for n in range(4)]
    assert {(row.wanted, row.done, row.failed, len(row.task_ids)) for row in rows} == {(1, 0, 0, 1)}
    again = await late.backfills.begin("early", "order.*", 1, None, None, "tests", **wanted)
    assert (await late.run(late.backfiller(), again.id)).tasks == 0, "they have not ended again yet"

    await late.work_off("early")
    await late.archive(store)
    with store.engine.connect() as connection:
        assert connection.execute(sa.select(events.c.state).distinct()).all() == [("completed",)]
        assert connection.execute(sa.select(tasks.c.state).distinct()).all() == [("succeeded",)]
    last = await late.backfills.begin("early", "*", 1, None, None, "tests", again=("succeeded",))
    assert (await late.run(late.backfiller(), last.id)).tasks == 12


async def test_tasks_that_a_version_before_handed_over_are_known_and_run_again_under_their_ids(
    late, monkeypatch
):
    await late.register("early")
    lanes = late.lanes()
    with monkeypatch.context() as yesterday:
        yesterday.setattr(names, "task_id", names.task_id_before)
        await lanes.refresh()
        await late.publish(*range(3))
        await wait_until("it has them", lambda: _has(late, "early", 3))
        await lanes.stop()
    ids = {event.id: task for _, event, task in await late.queued("early")}
    await late.work_off("early", fail=("0",))

    past = await late.run(late.backfiller(), (await begin(late, "early")).id)
    wanted = await late.backfills.begin("early", "*", 1, None, None, "tests", again=("failed",))
    again = await late.run(late.backfiller(), wanted.id)

    assert (past.tasks, past.known, again.tasks) == (0, 3, 1)
    assert [task for _, _, task in await late.queued("early")] == [ids["0"]]


async def test_pages_of_both_stores_are_one_past_in_one_order(archived):
    late, store = archived
    for n in range(30):
        await late.publish(n, event_type=f"{('order', 'user', 'item')[n % 3]}.placed")
    await late.archive(store)
    for domain, length in (("order", 4), ("user", 0), ("item", 10)):
        await late.redis.xtrim(late.keys.events(domain), maxlen=length, approximate=False)
    await late.publish("new", event_type="user.placed")  # not archived yet
    archive = Archive(store.engine.url.render_as_string())
    past = Past(late.redis, late.keys, archive, "*", 2**43, 4)
    found, place = [], before(1)
    while place is not None:
        page = await past.page(place)
        found += page.events
        place = page.after
    archive.close()

    places = [one.place for one in found]
    assert places == sorted(set(places)) and len(found) == 31
    assert {envelope.from_json(one.envelope).id for one in found} == {*map(str, range(30)), "new"}
    assert all(parse_place(str(one)) == one for one in places)


@pytest.mark.skipif(folder_of_programs() is None, reason="no PostgreSQL here")
async def test_the_history_may_be_postgresql(mesh_redis, mesh_keys, mesh_settings):
    with Postgres() as server:
        store = HistoryStore(server.url)
        store.migrate()
        settings = mesh_settings.model_copy(update={"history_url": server.url, "hot": timedelta(seconds=30)})
        late = Late(mesh_redis, mesh_keys, settings)
        await late.register("early")
        await late.publish(*range(30))
        lanes = late.lanes()
        await lanes.refresh()
        await wait_until("it has them", lambda: _has(late, "early", 30))
        await lanes.stop()
        await late.work_off("early")
        await late.archive(store)
        await late.forget()
        await late.register("late")

        found = await late.run(late.backfiller(), (await begin(late)).id)
        assert (found.tasks, await late.ids("late")) == (30, [str(n) for n in range(30)])
        late.close()
        store.close()
