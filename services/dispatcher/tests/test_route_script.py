"""`route.lua` and the scripts around it, call by call: one gate, and no event between the router and a lane."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streammesh.dead_letters.parked_events import park_event_call
from streammesh.events import envelope
from streammesh.events.group_reader import Entry
from streammesh.events.publisher import Publisher
from streammesh.lua import run
from streammesh.routed import RouteVerdict, leave_call, route_call, take_call
from streammesh.subscriptions.manifest import Manifest, Routes, Subscription
from streammesh.subscriptions.registry import read_registered, register_call
from streammesh.tasks.handoff import Encoded, Handover, handoff_call
from streammesh.testing.conditions import wait_until

from services.dispatcher.delivery_plan import plan_routing

LATER = timedelta(seconds=30)


def manifest(service: str) -> Manifest:
    return Manifest(service, subscriptions=(Subscription(service, f"{service}.handle", "user.registered"),))


@pytest.fixture
def publisher(mesh_redis, mesh_keys, mesh_settings):
    return Publisher(mesh_redis, mesh_keys, mesh_settings, "tests")


@pytest.fixture
def encode(mesh_keys):
    def encode(delivery, raw, priority):
        return Encoded(delivery, mesh_keys.queue(delivery.subscription.service), (b"{}",), raw)

    return encode


async def queued(client, keys, service):
    entries = await client.xrange(keys.queue(service))
    return [envelope.from_json(fields[b"b"]).id for _, fields in entries]


@pytest.fixture
async def routing(mesh_redis, mesh_keys, mesh_settings, publisher, encode):
    """A served service and an event after the position of the router; what is needed to make its calls by hand."""
    await run(mesh_redis, register_call(mesh_keys, manifest("mail")))
    taken = await run(mesh_redis, take_call(mesh_keys, "user", "d", LATER))
    done = await run(mesh_redis, handoff_call(mesh_keys, mesh_settings, "user", "mail", [], may_join=True))
    assert done.routed
    await publisher.publish("user.registered", {}, id="one")
    taken = await run(mesh_redis, take_call(mesh_keys, "user", "d", LATER))

    async def plan():
        found = await read_registered(mesh_redis, mesh_keys)
        [(position, fields)] = await mesh_redis.xrange(mesh_keys.events("user"))
        entries = [Entry("user", position.decode(), fields[b"e"])]
        routes = Routes(found.manifests, found.version, found.joined)
        return plan_routing(entries, routes, {"mail"}, encode)[0], found.version

    async def route(handovers: list[Handover], version: str, **others):
        at = {"begins": taken.position, "members": taken.members} | others
        return await run(
            mesh_redis, route_call(mesh_keys, mesh_settings, "user", handovers, (), version, **at)
        )

    return plan, route


async def test_a_batch_is_handed_over_once_whoever_comes_with_it_again(routing, mesh_redis, mesh_keys):
    plan, route = routing
    batch = await plan()

    verdicts = [(await route(*batch)).verdict for _ in range(2)]

    assert verdicts == [RouteVerdict.DONE, RouteVerdict.MOVED]
    assert await queued(mesh_redis, mesh_keys, "mail") == ["one"]


async def test_what_was_planned_by_other_manifests_or_for_other_services_is_not_handed_over(
    routing, mesh_redis, mesh_keys
):
    plan, route = routing
    handovers, version = await plan()

    assert (await route(handovers, version, members="0")).verdict is RouteVerdict.MOVED
    await run(mesh_redis, register_call(mesh_keys, manifest("audit")))
    assert (await route(handovers, version)).verdict is RouteVerdict.STALE
    assert await mesh_redis.xlen(mesh_keys.queue("mail")) == 0
    assert (await route(*await plan())).verdict is RouteVerdict.DONE


async def test_what_a_lane_was_given_while_the_router_serves_is_acknowledged_and_not_handed_over(
    routing, mesh_redis, mesh_keys, mesh_settings
):
    """Of several dispatchers one has not heard yet that the service is served."""
    plan, route = routing
    batch = await plan()
    await mesh_redis.xreadgroup("mail", "other", {mesh_keys.events("user"): ">"})

    done = await run(mesh_redis, handoff_call(mesh_keys, mesh_settings, "user", "mail", batch[0]))

    assert done.routed and await mesh_redis.xlen(mesh_keys.queue("mail")) == 0
    assert (await mesh_redis.xpending(mesh_keys.events("user"), "mail"))["pending"] == 0
    assert (await route(*batch)).tasks == 1


async def test_a_service_that_leaves_the_router_goes_on_where_that_is(routing, mesh_redis, mesh_keys):
    """Its group may have been given more meanwhile, which nobody handed over."""
    await mesh_redis.xreadgroup("mail", "other", {mesh_keys.events("user"): ">"}, noack=True)

    assert await run(mesh_redis, leave_call(mesh_keys, "user", ["mail"])) == 1

    answer = await mesh_redis.xreadgroup("mail", "other", {mesh_keys.events("user"): ">"})
    assert answer, "the event is given to it again"


async def test_a_domain_is_routed_by_one_dispatcher_until_it_falls_silent(mesh_redis, mesh_keys):
    soon = timedelta(milliseconds=50)
    assert await run(mesh_redis, take_call(mesh_keys, "user", "one", soon))
    assert await run(mesh_redis, take_call(mesh_keys, "user", "two", soon)) is None

    async def taken():
        return await run(mesh_redis, take_call(mesh_keys, "user", "two", LATER))

    await wait_until("the other one has it", taken)
    assert await run(mesh_redis, take_call(mesh_keys, "user", "one", LATER)) is None
    await run(mesh_redis, take_call(mesh_keys, "user", "two", timedelta(0)))
    assert await run(mesh_redis, take_call(mesh_keys, "user", "one", LATER))


async def test_a_broken_event_that_a_lane_had_in_hand_as_the_router_left_is_parked_once(
    mesh_redis, mesh_keys, routing
):
    """A read that began before the service was left to the router is given what the router meets, too."""

    async def given() -> str:
        found = await mesh_redis.xreadgroup("mail", "a lane", {mesh_keys.events("user"): ">"}, count=1)
        [(_, [(position, _)])] = found
        return position.decode()

    async def park(position: str) -> bool:
        call = park_event_call(mesh_keys, 100, "mail", "user", position, b"{", "BrokenEvent", "broken")
        return await run(mesh_redis, call)

    first = await given()
    await run(mesh_redis, leave_call(mesh_keys, "user", None))
    assert await park(first)
    assert not await park(await given())
    assert await mesh_redis.hget(mesh_keys.counters(), "parked") == b"1"
    assert (await mesh_redis.xpending(mesh_keys.events("user"), "mail"))["pending"] == 0
