"""A service joins: from then on nothing is missed, and nothing older comes unasked."""

from __future__ import annotations

import pytest
from streammesh.errors import InvalidManifest
from streammesh.events.group_reader import GroupReader
from streammesh.events.publisher import Publisher
from streammesh.lua import run
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import (
    lanes,
    read_domains,
    read_manifests,
    read_registered,
    register_call,
)


def wanting(*types: str) -> Manifest:
    return Manifest(
        "audit", subscriptions=tuple(Subscription("audit", f"audit.on{n}", t) for n, t in enumerate(types))
    )


@pytest.fixture
def publisher(mesh_redis, mesh_keys, mesh_settings):
    return Publisher(mesh_redis, mesh_keys, mesh_settings, "tests")


async def given_to(mesh_redis, mesh_keys, manifest):
    """What the service's lane would read now, as ids in order."""
    domains = await read_domains(mesh_redis, mesh_keys)
    reads = sorted(lanes([manifest], domains)["audit"])
    reader = GroupReader(mesh_redis, mesh_redis, mesh_keys, "audit", "d")
    await reader.join(reads)
    entries = await reader.read(reads, 100, None)
    return [entry.envelope.split(b'"id":"')[1].split(b'"')[0].decode() for entry in entries]


async def test_events_before_the_first_registration_are_not_given_and_those_after_are(
    publisher, mesh_redis, mesh_keys
):
    await publisher.publish("order.placed", {}, id="before")
    await run(mesh_redis, register_call(mesh_keys, wanting("order.placed")))
    await publisher.publish("order.placed", {}, id="after")

    assert await given_to(mesh_redis, mesh_keys, wanting("order.placed")) == ["after"]


async def test_an_open_glob_joins_domains_that_exist_at_their_end_and_new_ones_at_their_beginning(
    publisher, mesh_redis, mesh_keys
):
    await publisher.publish("order.placed", {}, id="before")
    await run(mesh_redis, register_call(mesh_keys, wanting("*")))
    await publisher.publish("order.placed", {}, id="after")
    await publisher.publish("user.registered", {}, id="first-of-a-new-domain")

    got = await given_to(mesh_redis, mesh_keys, wanting("*"))

    assert sorted(got) == ["after", "first-of-a-new-domain"]


async def test_a_worker_that_registers_again_does_not_skip_a_domain_that_came_meanwhile(
    publisher, mesh_redis, mesh_keys
):
    await run(mesh_redis, register_call(mesh_keys, wanting("*")))
    await publisher.publish("user.registered", {}, id="while-the-dispatcher-was-away")
    await run(mesh_redis, register_call(mesh_keys, wanting("*")))

    assert await given_to(mesh_redis, mesh_keys, wanting("*")) == ["while-the-dispatcher-was-away"]


async def test_a_service_that_opens_up_gets_nothing_older_of_the_domains_it_did_not_want(
    publisher, mesh_redis, mesh_keys
):
    await run(mesh_redis, register_call(mesh_keys, wanting("order.placed")))
    await publisher.publish("user.registered", {}, id="older")
    await publisher.publish("order.placed", {}, id="wanted-all-along")
    await run(mesh_redis, register_call(mesh_keys, wanting("order.placed", "*")))

    assert await given_to(mesh_redis, mesh_keys, wanting("order.placed", "*")) == ["wanted-all-along"]


async def test_registering_the_same_again_changes_nothing(mesh_redis, mesh_keys):
    first = await run(mesh_redis, register_call(mesh_keys, wanting("order.placed")))
    again = await run(mesh_redis, register_call(mesh_keys, wanting("order.placed")))

    assert (first, again) == (True, False)


async def test_one_broken_manifest_does_not_stop_the_others(mesh_redis, mesh_keys):
    await run(mesh_redis, register_call(mesh_keys, wanting("order.placed")))
    await mesh_redis.hset(mesh_keys.manifests(), "broken", "{")

    assert [m.service for m in await read_manifests(mesh_redis, mesh_keys)] == ["audit"]


async def test_what_is_not_its_own_is_refused_before_anything_is_stored(mesh_redis, mesh_keys):
    theirs = Manifest("audit", subscriptions=(Subscription("audit", "billing.charge", "order.*"),))

    with pytest.raises(InvalidManifest):
        await run(mesh_redis, register_call(mesh_keys, theirs))
    assert not await mesh_redis.exists(mesh_keys.manifests())


async def test_a_broken_manifest_is_named_and_the_others_are_read(mesh_redis, mesh_keys):
    await run(mesh_redis, register_call(mesh_keys, wanting("order.placed")))
    await mesh_redis.hset(
        mesh_keys.manifests(), "billing", b'{"service":"billing","subscriptions":[{"where":null}]}'
    )
    await mesh_redis.hset(mesh_keys.manifests(), b"\xff", b"\xff")
    await mesh_redis.hset(mesh_keys.manifests(), "mail", wanting("order.paid").to_json())  # another service's
    await mesh_redis.hset(mesh_keys.joined(), b"\xff", b"no position")
    await mesh_redis.sadd(mesh_keys.domains(), b"\xff", b"a b")

    found = await read_registered(mesh_redis, mesh_keys)

    assert [manifest.service for manifest in found.manifests] == ["audit"]
    assert found.broken == {"billing", "mail", "\ufffd"}
    assert found.domains == {"order"} or found.domains == frozenset()
    assert set(found.joined) == {("order", "audit")}


@pytest.mark.parametrize("garbage", [b"\xff", b"", b"9" * 30, b"-1", b"soon"])
async def test_a_version_that_is_no_number_stops_neither_the_hand_off_nor_the_next_to_join(
    garbage, mesh_redis, mesh_keys
):
    await run(mesh_redis, register_call(mesh_keys, wanting("order.placed")))
    await mesh_redis.set(mesh_keys.manifests_version(), garbage)

    found = await read_registered(mesh_redis, mesh_keys)
    assert found.version == ((await mesh_redis.get(mesh_keys.manifests_version())) or b"").decode()

    assert await run(mesh_redis, register_call(mesh_keys, wanting("order.placed", "order.paid")))
    assert (await read_registered(mesh_redis, mesh_keys)).version.isdigit()
