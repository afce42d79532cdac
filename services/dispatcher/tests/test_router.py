"""The router hands each event over once to every service at the head of its stream; the rest is their lanes'."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import orjson
import pytest
from streammesh.clock import SystemClock
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.lua import run
from streammesh.retirement import Retirement
from streammesh.routed import members_of
from streammesh.status.backlog import read_backlogs
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import read_registered, register_call
from streammesh.tasks.handoff import Encoded
from streammesh.testing.conditions import wait_until

from services.dispatcher import router
from services.dispatcher.lanes import Lanes
from services.dispatcher.settings import DispatcherSettings

OWN = DispatcherSettings(_env_file=None, block="200ms", reclaim_idle="100ms", reclaim_every="100ms", batch=50)
LATER = timedelta(seconds=30)


def manifest(service: str, event_type: str = "user.registered") -> Manifest:
    return Manifest(service, subscriptions=(Subscription(service, f"{service}.handle", event_type),))


@pytest.fixture
def publisher(mesh_redis, mesh_keys, mesh_settings):
    return Publisher(mesh_redis, mesh_keys, mesh_settings, "tests")


@pytest.fixture
def encode(mesh_keys):
    def encode(delivery, raw, priority):
        return Encoded(delivery, mesh_keys.queue(delivery.subscription.service), (b"{}",), raw)

    return encode


@pytest.fixture
def dispatcher(mesh_redis, mesh_keys, mesh_settings, encode, monkeypatch):
    """Within: lanes and a router at work."""
    monkeypatch.setattr(router, "TURN", timedelta(milliseconds=200))

    @asynccontextmanager
    async def dispatcher(name: str = "d", **others):
        settings = mesh_settings.model_copy(update=others)
        lanes = Lanes(mesh_redis, mesh_keys, settings, OWN, encode, SystemClock())
        lanes._consumer = name
        await lanes.refresh()
        try:
            yield lanes
        finally:
            await lanes.stop()

    return dispatcher


@pytest.fixture
def served(mesh_redis, mesh_keys):
    async def served(domain: str = "user") -> frozenset[str]:
        return members_of(await mesh_redis.hkeys(mesh_keys.routed(domain)))

    return served


async def queued(client, keys: Keys, service: str) -> list[str]:
    entries = await client.xrange(keys.queue(service))
    return [envelope.from_json(fields[b"b"]).id for _, fields in entries]


async def test_services_at_the_head_are_served_by_the_router_and_their_groups_follow_it(
    dispatcher, publisher, served, mesh_redis, mesh_keys
):
    for service in ("mail", "audit", "idle"):
        await run(
            mesh_redis,
            register_call(mesh_keys, manifest(service, {"idle": "user.left"}.get(service, "user.*"))),
        )
    await publisher.publish("user.registered", {}, id="0")
    async with dispatcher():

        async def all_served():
            return await served() == {"mail", "audit", "idle"}

        await wait_until("all three are served", all_served)
        for n in range(1, 200):
            await publisher.publish("user.registered", {}, id=str(n))

        async def levelled():
            found = await read_backlogs(mesh_redis, mesh_keys, frozenset({"user"}))
            return [one["user"].lag for one in found.values()] == [0, 0, 0]

        await wait_until("no group lags", levelled)

    ids = [str(n) for n in range(200)]
    assert await queued(mesh_redis, mesh_keys, "mail") == ids
    assert await queued(mesh_redis, mesh_keys, "audit") == ids
    groups = await mesh_redis.xinfo_groups(mesh_keys.events("user"))
    assert [(group["pending"], group["lag"]) for group in groups] == [(0, 0)] * 3


async def test_a_full_service_goes_back_to_its_lane_and_delays_nobody(
    dispatcher, publisher, served, mesh_redis, mesh_keys
):
    for service in ("slow", "quick"):
        await run(mesh_redis, register_call(mesh_keys, manifest(service)))
    await publisher.publish("user.registered", {}, id="0")
    async with dispatcher(max_queued=10):

        async def both():
            return await served() == {"slow", "quick"}

        await wait_until("both are served", both)
        done = []

        async def worked_off(service: str, wanted: int) -> bool:
            for position, fields in await mesh_redis.xrange(mesh_keys.queue(service)):
                done.append((service, envelope.from_json(fields[b"b"]).id))
                await mesh_redis.xdel(mesh_keys.queue(service), position)
            return len([one for one in done if one[0] == service]) >= wanted

        for n in range(1, 100):
            await publisher.publish("user.registered", {}, id=str(n))
            await worked_off("quick", 0)
        await wait_until("the quick one has all", lambda: worked_off("quick", 100))
        assert await served() == {"quick"}
        assert await mesh_redis.xlen(mesh_keys.queue("slow")) <= 10 + OWN.batch
        assert len(await queued(mesh_redis, mesh_keys, "slow")) < 100
        await wait_until("the slow one has all", lambda: worked_off("slow", 100))
        await wait_until("it is served again", both)

    for service in ("slow", "quick"):
        assert [event for name, event in done if name == service] == [str(n) for n in range(100)]


async def test_a_service_that_joins_or_comes_back_misses_nothing_and_gets_nothing_twice(
    dispatcher, publisher, served, mesh_redis, mesh_keys, mesh_settings
):
    """Registered, removed and registered again while the router runs and events come."""
    await run(mesh_redis, register_call(mesh_keys, manifest("mail")))
    sent: list[str] = []

    async def publish():
        while True:
            sent.append((await publisher.publish("user.registered", {}, id=f"e{len(sent)}")).entry)
            await asyncio.sleep(0.001)

    async with dispatcher() as lanes:
        publishing = asyncio.create_task(publish())
        for service in ("late", "later"):
            await asyncio.sleep(0.05)
            await run(mesh_redis, register_call(mesh_keys, manifest(service)))
            await lanes.refresh()

        async def all_served():
            return await served() == {"mail", "late", "later"}

        await wait_until("all are served", all_served)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

        async def idle():
            return len(await queued(mesh_redis, mesh_keys, "mail")) >= len(sent)

        await wait_until("all is handed over", idle)
        registered = (await read_registered(mesh_redis, mesh_keys)).joined
        await Retirement(mesh_redis, mesh_keys, mesh_settings, "later", "drop").run(5)
        assert await served() == {"mail", "late"}
        assert not await mesh_redis.exists(mesh_keys.queue("later"))
        await run(mesh_redis, register_call(mesh_keys, manifest("later")))
        await publisher.publish("user.registered", {}, id="again")
        await lanes.refresh()

        async def again():
            found = [await queued(mesh_redis, mesh_keys, service) for service in ("late", "later")]
            return all("again" in ids for ids in found)

        await wait_until("it has what came after it was back, as the others have", again)

    entries = {
        position.decode(): orjson.loads(fields[b"e"])["id"]
        for position, fields in await mesh_redis.xrange(mesh_keys.events("user"))
    }
    assert await queued(mesh_redis, mesh_keys, "later") == ["again"]
    wanted = [event for position, event in entries.items() if key(position) > key(registered["user", "late"])]
    assert await queued(mesh_redis, mesh_keys, "late") == wanted


def key(position: str) -> tuple[int, ...]:
    return tuple(map(int, position.split("-")))


async def test_an_entry_that_is_no_event_is_left_to_the_lanes_and_the_rest_goes_on(
    dispatcher, publisher, served, mesh_redis, mesh_keys
):
    for service in ("mail", "audit"):
        await run(mesh_redis, register_call(mesh_keys, manifest(service)))
    await publisher.publish("user.registered", {}, id="before")
    async with dispatcher():

        async def both():
            return await served() == {"mail", "audit"}

        await wait_until("both are served", both)
        await mesh_redis.xadd(mesh_keys.events("user"), {"e": b"\x00not json"})
        await publisher.publish("user.registered", {}, id="after")

        async def parked():
            return [await mesh_redis.hlen(mesh_keys.dead(one)) for one in ("mail", "audit")] == [1, 1]

        await wait_until("each parked it", parked)
        await wait_until("both are served again", both)
        await publisher.publish("user.registered", {}, id="later")

        async def three():
            return len(await queued(mesh_redis, mesh_keys, "audit")) == 3

        await wait_until("the later one came", three)
    for service in ("mail", "audit"):
        assert await queued(mesh_redis, mesh_keys, service) == ["before", "after", "later"]


async def test_when_the_dispatcher_that_routes_is_gone_another_one_takes_its_domains(
    dispatcher, publisher, served, mesh_redis, mesh_keys
):
    await run(mesh_redis, register_call(mesh_keys, manifest("mail")))
    await publisher.publish("user.registered", {}, id="0")
    async with dispatcher("one") as first, dispatcher("two"):

        async def is_served():
            return await served() == {"mail"}

        await wait_until("it is served", is_served)
        task = first._routing[1]
        task.cancel()  # as SIGKILL: it gives nothing up
        await asyncio.gather(task, return_exceptions=True)
        await publisher.publish("user.registered", {}, id="1")

        async def second():
            return await queued(mesh_redis, mesh_keys, "mail") == ["0", "1"]

        await wait_until("the other one handed it over", second)


async def test_a_service_whose_manifest_cannot_be_read_leaves_the_router_and_loses_nothing(
    dispatcher, publisher, served, mesh_redis, mesh_keys
):
    """A dispatcher that starts then does not know what it wants; it is served again once it has registered anew."""
    for service in ("mail", "audit"):
        await run(mesh_redis, register_call(mesh_keys, manifest(service)))
    await publisher.publish("user.registered", {}, id="0")
    async with dispatcher():

        async def both():
            return await served() == {"mail", "audit"}

        await wait_until("both are served", both)
    await mesh_redis.hset(mesh_keys.manifests(), "mail", "{")
    await mesh_redis.set(mesh_keys.sealed_manifest("mail"), "{")
    await publisher.publish("user.registered", {}, id="1")
    async with dispatcher("new") as lanes:

        async def audit():
            return await queued(mesh_redis, mesh_keys, "audit") == ["0", "1"]

        await wait_until("the other one has it", audit)
        assert await served() == {"audit"}
        await run(mesh_redis, register_call(mesh_keys, manifest("mail")))
        await lanes.refresh()

        async def mail():
            return await queued(mesh_redis, mesh_keys, "mail") == ["0", "1"]

        await wait_until("it has it too", mail)


async def test_a_mesh_of_lanes_goes_over_to_the_router_with_what_was_pending_and_what_waited(
    dispatcher, publisher, served, mesh_redis, mesh_keys
):
    """As after an upgrade: one service is at the head, one behind, one holds entries that a dead dispatcher was given."""
    for service in ("head", "behind", "pending"):
        await run(mesh_redis, register_call(mesh_keys, manifest(service)))
    for n in range(30):
        await publisher.publish("user.registered", {}, id=str(n))
    stream = mesh_keys.events("user")
    last = (await mesh_redis.xinfo_stream(stream))["last-generated-id"]
    await mesh_redis.xgroup_setid(stream, "head", last, entries_read=30)
    await mesh_redis.xreadgroup("behind", "dead", {stream: ">"}, count=10, noack=True)
    await mesh_redis.xreadgroup("pending", "dead", {stream: ">"}, count=20)
    async with dispatcher():

        async def all_served():
            return await served() == {"head", "behind", "pending"}

        await wait_until("all are served", all_served)
        await publisher.publish("user.registered", {}, id="30")

        async def last_one():
            found = [await queued(mesh_redis, mesh_keys, one) for one in ("head", "behind", "pending")]
            return all("30" in ids for ids in found) and found

        head, behind, pending = await wait_until("the last one is handed over", last_one)
    assert head == ["30"]
    assert behind == [str(n) for n in range(10, 31)]
    assert sorted(pending, key=int) == [str(n) for n in range(31)]


@pytest.mark.parametrize("spoilt", [":at", ":members", "mail"])
async def test_a_note_of_the_router_that_somebody_overwrote_stops_nothing_and_hands_nothing_over_twice(
    spoilt, dispatcher, publisher, served, mesh_redis, mesh_keys
):
    await run(mesh_redis, register_call(mesh_keys, manifest("mail")))
    routed = mesh_keys.routed("user")
    await publisher.publish("user.registered", {}, id="one")
    async with dispatcher():

        async def is_level():
            found = await mesh_redis.xinfo_groups(mesh_keys.events("user"))
            at = await mesh_redis.hget(routed, ":at")
            return await served() and at != b"0-0" and [found[0]["last-delivered-id"]] == [at]

        await wait_until("the router served the service and its group followed", is_level)
        await mesh_redis.hset(routed, spoilt, "garbage")
        await publisher.publish("user.registered", {}, id="two")

        async def both():
            found = await queued(mesh_redis, mesh_keys, "mail")
            return "two" in found and await served() == {"mail"} and found

        assert await wait_until("the second is handed over", both) == ["one", "two"]
        state = await mesh_redis.hmget(routed, [":at", ":read", ":members"])
        assert all(one and one.replace(b"-", b"").isdigit() for one in state)


async def test_a_group_made_anew_runs_nothing_again_that_has_left_redis_nor_what_is_older_than_its_service(
    dispatcher, publisher, served, mesh_redis, mesh_keys
):
    """With a history rows leave soon after the end, while another group may keep their events in the stream."""
    stream, routed = mesh_keys.events("user"), mesh_keys.routed("user")
    await publisher.publish("user.registered", {}, id="older")
    await run(mesh_redis, register_call(mesh_keys, manifest("mail")))
    await publisher.publish("user.registered", {}, id="ended")

    async def handed_over():
        found = await queued(mesh_redis, mesh_keys, "mail")
        return await served() == {"mail"} and found

    async with dispatcher():
        assert await wait_until("the first is handed over", handed_over) == ["ended"]
    left = [key async for key in mesh_redis.scan_iter(mesh_keys.task("*"))]
    await mesh_redis.delete(mesh_keys.event("ended"), *left)
    await mesh_redis.hdel(routed, "mail")  # it is with its lane now
    await mesh_redis.xgroup_destroy(stream, "mail")
    await publisher.publish("user.registered", {}, id="two")
    async with dispatcher():
        assert await wait_until("it is at the head again", handed_over) == ["ended", "two"]
        assert b":anew mail" not in await mesh_redis.hkeys(routed)
