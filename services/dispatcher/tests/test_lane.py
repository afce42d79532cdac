"""A lane hands over each entry exactly once, whoever else holds it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
from streammesh.clock import SystemClock
from streammesh.events import envelope
from streammesh.events.group_reader import GroupReader
from streammesh.events.publisher import Publisher
from streammesh.lua import run
from streammesh.redisio.client import open_async
from streammesh.retirement import Retirement
from streammesh.subscriptions.manifest import Manifest, Routes, Subscription
from streammesh.subscriptions.registry import read_registered, register_call
from streammesh.tasks.handoff import Encoded
from streammesh.tasks.records import Rows
from streammesh.testing.conditions import wait_until

from services.dispatcher import lane, lanes
from services.dispatcher.lane import Lane
from services.dispatcher.settings import DispatcherSettings

OWN = DispatcherSettings(_env_file=None, block="200ms", reclaim_idle="100ms", reclaim_every="100ms", batch=50)
MANIFEST = Manifest("mail", subscriptions=(Subscription("mail", "mail.welcome", "user.registered"),))


@pytest.fixture
async def make_lane(mesh_redis, mesh_keys, mesh_settings):
    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    opened, routes = list[Any](), list[Any]()

    async def look_again():
        found = await read_registered(mesh_redis, mesh_keys)
        routes[:] = [Routes(found.manifests, found.version, found.joined)]

    await look_again()

    def encode(delivery, raw, priority):
        return Encoded(delivery, mesh_keys.queue(delivery.subscription.service), (b"{}",), raw)

    def make(consumer, settings=mesh_settings, own=OWN, service="mail"):
        blocking = open_async(settings, consumer, blocking=True)
        opened.append(blocking)
        reader = GroupReader(mesh_redis, blocking, mesh_keys, service, consumer)
        return Lane(
            service, ["user"], reader, mesh_redis, mesh_keys, settings, own,
            lambda: routes[0], look_again, encode, SystemClock(),
        )  # fmt: skip

    yield make
    for client in opened:
        await client.aclose()


@pytest.fixture
def publisher(mesh_redis, mesh_keys, mesh_settings):
    return Publisher(mesh_redis, mesh_keys, mesh_settings, "tests")


async def queued_tasks(mesh_redis, mesh_keys):
    entries = await mesh_redis.xrange(mesh_keys.queue("mail"))
    return [envelope.from_json(fields[b"b"]).id for _, fields in entries]


async def test_every_event_is_queued_once_by_three_dispatchers_that_steal_from_each_other(
    make_lane, publisher, mesh_redis, mesh_keys
):
    own = OWN.model_copy(
        update={"reclaim_idle": timedelta(milliseconds=1), "reclaim_every": timedelta(milliseconds=5)}
    )
    running = [asyncio.create_task(make_lane(f"d{n}", own=own).run()) for n in range(3)]
    for n in range(20):
        await publisher.publish_events(
            [envelope.make("user.registered", {}, source="tests", id=f"{n}-{i}") for i in range(50)]
        )

    async def all_there():
        return await mesh_redis.xlen(mesh_keys.queue("mail")) >= 1000

    await wait_until("1,000 tasks are queued", all_there)
    groups = await mesh_redis.xinfo_groups(mesh_keys.events("user"))
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    queued = await queued_tasks(mesh_redis, mesh_keys)
    assert len(queued) == len(set(queued)) == 1000
    assert groups[0]["pending"] == 0


async def test_a_group_made_anew_from_the_start_hands_nothing_over_twice(
    make_lane, publisher, mesh_redis, mesh_keys
):
    mail = make_lane("d")
    await publisher.publish("user.registered", {}, id="one")
    task = asyncio.create_task(mail.run())

    async def queued():
        return await mesh_redis.xlen(mesh_keys.queue("mail"))

    await wait_until("the task is queued", queued)
    await mesh_redis.xgroup_destroy(mesh_keys.events("user"), "mail")
    await publisher.publish("user.registered", {}, id="two")

    async def second():
        return await mesh_redis.xlen(mesh_keys.queue("mail")) == 2

    await wait_until("the second task is queued", second)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await queued_tasks(mesh_redis, mesh_keys) == ["one", "two"]


async def test_a_lane_whose_service_is_removed_hands_nothing_over_and_makes_no_group_anew(
    make_lane, publisher, mesh_redis, mesh_keys, mesh_settings, monkeypatch
):
    """What it was given stays pending, for whoever removes the service; a removed group stays removed."""
    monkeypatch.setattr(lane, "GONE_WAIT", timedelta(milliseconds=10))
    mail, batch = make_lane("d"), []
    await publisher.publish("user.registered", {})
    batch += await mail._read_new(None) or await mail._reader.read(["user"], 10, None)
    planned = mail._plan(batch)
    await mesh_redis.hdel(mesh_keys.manifests(), "mail")
    await mesh_redis.incr(mesh_keys.manifests_version())

    assert await mail._act(planned) is False
    pending = await mesh_redis.xpending(mesh_keys.events("user"), "mail")
    assert (len(batch), pending["pending"], await mesh_redis.xlen(mesh_keys.queue("mail"))) == (1, 1, 0)
    await Retirement(mesh_redis, mesh_keys, mesh_settings, "mail", "drop").run(5)
    assert await mail._read_new(None) == []
    assert await mesh_redis.xinfo_groups(mesh_keys.events("user")) == []


async def test_an_entry_that_is_no_event_becomes_a_dead_letter_and_the_lane_goes_on(
    make_lane, publisher, mesh_redis, mesh_keys
):
    await mesh_redis.xadd(mesh_keys.events("user"), {"e": b"\x00not json"})
    await mesh_redis.xadd(mesh_keys.events("user"), {"other": b"field"})
    await publisher.publish("user.registered", {}, id="good")
    task = asyncio.create_task(make_lane("d").run())

    async def queued():
        return await queued_tasks(mesh_redis, mesh_keys)

    assert await wait_until("the good one is queued", queued) == ["good"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    dead = [orjson.loads(v) for v in (await mesh_redis.hgetall(mesh_keys.dead("mail"))).values()]
    assert len(dead) == 2
    assert all(letter["kind"] == "BrokenEvent" and letter["reason"] for letter in dead)


async def test_a_full_queue_holds_the_lane_back_and_room_lets_it_go_on(
    make_lane, publisher, mesh_redis, mesh_keys, mesh_settings
):
    settings = mesh_settings.model_copy(update={"max_queued": 10})
    own = OWN.model_copy(update={"batch": 5})
    for n in range(40):
        await publisher.publish("user.registered", {}, id=str(n))
    task = asyncio.create_task(make_lane("d", settings, own).run())

    async def full():
        return await mesh_redis.xlen(mesh_keys.queue("mail")) >= 10

    await wait_until("the queue is full", full)
    assert await mesh_redis.xlen(mesh_keys.queue("mail")) <= 15
    done = []

    async def drained():
        for position, fields in await mesh_redis.xrange(mesh_keys.queue("mail")):
            done.append(envelope.from_json(fields[b"b"]).id)
            await mesh_redis.xdel(mesh_keys.queue("mail"), position)
        return len(done) >= 40

    await wait_until("all forty came through", drained)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sorted(done, key=int) == [str(n) for n in range(40)]


async def test_an_event_that_nobody_wants_is_told_and_counted_once(
    make_lane, publisher, mesh_redis, mesh_keys
):
    await publisher.publish("user.left", {}, id="nobody")
    task = asyncio.create_task(make_lane("d").run())

    async def known():
        [row] = await Rows(mesh_redis, mesh_keys).events("nobody")
        return row.completed

    await wait_until("the event is known to be unrouted", known)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    notes = await mesh_redis.xrange(mesh_keys.notifications())
    assert [fields[b"t"] for _, fields in notes] == [b"event.unrouted"]
    assert await mesh_redis.hget(mesh_keys.counters(), "unrouted") == b"1"


async def running_until(lane, what, done):
    """What `done` answers when it is true, while the lane runs."""
    task = asyncio.create_task(lane.run())
    try:
        return await wait_until(what, done)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_event_is_judged_by_the_subscriptions_that_stood_when_it_was_published(
    make_lane, publisher, mesh_redis, mesh_keys
):
    lane = make_lane("d")  # it knows the first manifest, and nobody tells it of the second
    again = Subscription("mail", "mail.goodbye", "user.left")
    await run(mesh_redis, register_call(mesh_keys, Manifest("mail", "2", (*MANIFEST.subscriptions, again))))
    await publisher.publish("user.left", {}, id="one")

    async def queued():
        return await queued_tasks(mesh_redis, mesh_keys)

    assert await running_until(lane, "the task is queued", queued) == ["one"]
    assert not await mesh_redis.hexists(mesh_keys.counters(), "unrouted")


async def test_a_service_that_joins_while_events_wait_is_not_expected_to_work_on_them(
    make_lane, publisher, mesh_redis, mesh_keys
):
    audit = Subscription("audit", "audit.note", "user.*")
    await publisher.publish("user.registered", {}, id="before")
    await run(mesh_redis, register_call(mesh_keys, Manifest("audit", subscriptions=(audit,))))
    await publisher.publish("user.registered", {}, id="after")

    async def both():
        rows = [(await Rows(mesh_redis, mesh_keys).events(name))[0].wanted for name in ("before", "after")]
        return None not in rows and rows

    assert await running_until(make_lane("d"), "both are handed over", both) == [1, 2]


async def test_a_subscription_that_comes_between_two_lanes_is_waited_for_too(
    make_lane, publisher, mesh_redis, mesh_keys
):
    audit = [Subscription("audit", f"audit.note{n}", "user.*") for n in range(2)]
    await run(mesh_redis, register_call(mesh_keys, Manifest("audit", subscriptions=(audit[0],))))
    await publisher.publish("user.registered", {}, id="one")

    async def wanted():
        return (await Rows(mesh_redis, mesh_keys).events("one"))[0].wanted

    assert await running_until(make_lane("d"), "the first lane handed it over", wanted) == 2
    await run(mesh_redis, register_call(mesh_keys, Manifest("audit", "2", tuple(audit))))

    async def all_three():
        return await wanted() == 3

    await running_until(make_lane("e", service="audit"), "the second lane handed it over", all_three)


async def test_what_a_dead_dispatcher_left_long_ago_is_taken_over_as_a_lane_starts(
    make_lane, publisher, mesh_redis, mesh_keys
):
    stream = mesh_keys.events("user")
    await publisher.publish("user.registered", {}, id="one")
    await mesh_redis.xreadgroup("mail", "dead", {stream: ">"})
    [pending] = await mesh_redis.xpending_range(stream, "mail", "-", "+", 1)
    await mesh_redis.xclaim(stream, "mail", "dead", 0, [pending["message_id"]], idle=10_000)
    own = OWN.model_copy(update={"reclaim_every": timedelta(hours=1)})
    task = asyncio.create_task(make_lane("d", own=own).run())

    async def queued():
        return await queued_tasks(mesh_redis, mesh_keys)

    assert await wait_until("it is queued", queued) == ["one"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class LosingReader(GroupReader):
    """What it reads is given to it by the server, and the process is told to stop before it has the answer."""

    async def read(self, domains, count, block):
        if await super().read(domains, count, block):
            await asyncio.Event().wait()
        return []


async def test_what_a_stopping_dispatcher_was_given_at_the_last_moment_is_handed_over(
    publisher, mesh_redis, mesh_keys, mesh_settings, monkeypatch
):
    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    monkeypatch.setattr(lanes, "GroupReader", LosingReader)

    def encode(delivery, raw, priority):
        return Encoded(delivery, mesh_keys.queue(delivery.subscription.service), (b"{}",), raw)

    own = OWN.model_copy(update={"reclaim_idle": timedelta(hours=1)})
    dispatcher = lanes.Lanes(mesh_redis, mesh_keys, mesh_settings, own, encode, SystemClock())
    await publisher.publish("user.registered", {}, id="one")
    # The router is far ahead: the service is its lane's.
    await mesh_redis.hset(mesh_keys.routed("user"), mapping={":at": "9999999999999-0", ":members": "1"})
    await dispatcher.refresh()

    async def given():
        groups = await mesh_redis.xinfo_groups(mesh_keys.events("user"))
        return [group["pending"] for group in groups] == [1]

    await wait_until("it was given the event", given)
    await dispatcher.stop()

    assert await queued_tasks(mesh_redis, mesh_keys) == ["one"]


async def test_a_lane_asks_for_memory_before_it_acknowledges_and_goes_on_by_itself(
    make_lane, publisher, mesh_redis, mesh_keys
):
    mail = make_lane("d")
    await publisher.publish("user.registered", {}, id="one")
    used = (await mesh_redis.info("memory"))["used_memory"]
    await mesh_redis.config_set("maxmemory", str(used * 100 // 96))
    await asyncio.sleep(0.1)  # a reading holds for a moment
    task = asyncio.create_task(mail.run())

    async def given():
        return (
            (await mesh_redis.xpending(mesh_keys.events("user"), "mail"))["pending"] if await groups() else 0
        )

    async def groups():
        return await mesh_redis.xinfo_groups(mesh_keys.events("user"))

    async def queued():
        return await mesh_redis.xlen(mesh_keys.queue("mail"))

    await wait_until("the lane has been given the event", given)
    await asyncio.sleep(0.3)
    waiting = (await given(), await queued())
    await mesh_redis.config_set("maxmemory", "0")
    await wait_until("the task is queued", queued)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert waiting == (1, 0)


async def test_an_event_that_redis_refuses_is_parked_and_the_others_of_its_batch_are_handed_over(
    make_lane, publisher, mesh_redis, mesh_keys, monkeypatch
):
    lane = make_lane("d")
    whole = lane._call

    def refusing(domain, handovers, version):
        call = whole(domain, handovers, version)
        if any(one.event.id == "bad" for one in handovers):  # a script that breaks at one of them
            return call._replace(args=[*call.args[:5], "no number", *call.args[6:]])
        return call

    monkeypatch.setattr(lane, "_call", refusing)
    for event_id in ("before", "bad", "after"):
        await publisher.publish("user.registered", {}, id=event_id)
    task = asyncio.create_task(lane.run())

    async def parked():
        return [orjson.loads(v) for v in (await mesh_redis.hgetall(mesh_keys.dead("mail"))).values()]

    [letter] = await wait_until("one is parked", parked)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await queued_tasks(mesh_redis, mesh_keys) == ["before", "after"]
    assert "Redis refuses" in letter["reason"]
    assert (await mesh_redis.xpending(mesh_keys.events("user"), "mail"))["pending"] == 0


@pytest.mark.parametrize("want", ["garbage", "9" * 30, "-1", ""])
async def test_a_count_in_an_events_row_that_is_none_stops_no_hand_off(
    want, make_lane, publisher, mesh_redis, mesh_keys
):
    await publisher.publish("user.registered", {}, id="one")
    await mesh_redis.hset(mesh_keys.event("one"), "want:tests", want)
    task = asyncio.create_task(make_lane("d").run())

    async def queued():
        return await queued_tasks(mesh_redis, mesh_keys)

    assert await wait_until("it is queued", queued) == ["one"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
