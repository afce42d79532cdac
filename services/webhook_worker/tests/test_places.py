"""Where a webhook reads stays true whoever changes it meanwhile: roles are run here step by step, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from streammesh import lua
from streammesh.api_keys import ApiKeys
from streammesh.redisio.client import open_async
from streammesh.webhooks.deliveries import catch_up_call, settle_call

from services.webhook_worker.crew import Crew
from services.webhook_worker.settings import WebhookSettings
from services.webhook_worker.tests.conftest import LOOPBACK, until


@pytest.fixture
async def hands(mesh_settings, mesh_keys) -> AsyncIterator[Crew]:
    """A crew of which nothing runs by itself."""
    client = open_async(mesh_settings, "hooks")
    own = WebhookSettings(_env_file=None, allow_private=LOOPBACK["allow_private"])
    made = Crew(client, client, mesh_keys, own)
    yield made
    await made.stop(1)
    await client.aclose()


async def joined(hands: Crew) -> None:
    await hands.directory.refresh()
    await hands.router.run_once()
    await hands.laggards.run_once()


async def switch(store, enabled: bool) -> None:
    stored = await store.one("wh1")
    assert await store.put(replace(stored.webhook, enabled=enabled), stored.raw) == "stored"


@pytest.fixture
def waiting(mesh_redis, mesh_keys):
    async def waiting() -> list[str]:
        return [one.decode() for one in await mesh_redis.zrange(mesh_keys.webhook_queue("wh1"), 0, -1)]

    return waiting


async def test_one_that_could_join_nobody_yet_is_not_asked_for_again_and_again(hands, add, waiting, tell):
    await add()
    told = await tell(1)
    await hands.directory.refresh()
    assert await asyncio.wait_for(hands.laggards.run_once(), 2)  # it is still behind
    assert await waiting() == [f"wh1_{told[0]}"]


@pytest.mark.parametrize("known_to_the_worker", [True, False])
async def test_one_that_is_disabled_keeps_its_place_whatever_passes_by(
    hands, add, tell, store, waiting, known_to_the_worker
):
    """Two workers: this one may not have heard of it yet when the common place moves on."""
    await add()
    await joined(hands)
    await switch(store, False)
    if known_to_the_worker:
        await hands.directory.refresh()
    await hands.laggards.run_once()
    told = await tell(3)
    for _ in range(3):
        await hands.router.run_once()
        await hands.laggards.run_once()
    assert await waiting() == []
    await switch(store, True)
    await joined(hands)
    assert await waiting() == [f"wh1_{position}" for position in told]


async def test_the_script_itself_moves_no_place_of_one_that_is_disabled(
    hands, add, tell, store, mesh_redis, mesh_keys
):
    webhook = await add()
    told = await tell(1)
    await switch(store, False)
    await hands.directory.refresh()
    call = catch_up_call(mesh_keys, hands.directory.version, webhook, b"0-0", told[0], [])
    assert await lua.run(mesh_redis, call) == "off"
    assert (await store.standings(["wh1"]))[0].behind == "0-0"


async def test_a_replay_of_one_that_is_disabled_begins_when_it_is_enabled(hands, add, tell, store, waiting):
    await add()
    told = await tell(3)
    await joined(hands)
    assert len(await waiting()) == 3
    for delivery in await waiting():  # they were delivered
        await hands.laggards._client.zrem(hands.laggards._keys.webhook_queue("wh1"), delivery)
        await hands.laggards._client.hdel(hands.laggards._keys.webhook_entries("wh1"), delivery)
    await switch(store, False)
    await store.seek("wh1", told[0])
    await joined(hands)
    assert await waiting() == []
    await switch(store, True)
    await joined(hands)
    assert await waiting() == [f"wh1_{position}" for position in told[1:]]


async def test_what_it_asks_for_is_changed_while_a_page_is_read_and_the_page_is_judged_by_the_new_words(
    hands, add, tell, store, waiting, monkeypatch
):
    await add(types=("user.*",))
    await hands.directory.refresh()
    await hands.router.run_once()
    told = await tell(2)
    read = hands.laggards._log.read

    async def changed_meanwhile(*about):
        page = await read(*about)
        stored = await store.one("wh1")
        await store.put(replace(stored.webhook, types=("order.*",)), stored.raw)
        await hands.directory.refresh()  # as the directory's own role does it at any moment
        return page

    monkeypatch.setattr(hands.laggards._log, "read", changed_meanwhile)
    await hands.laggards.run_once()
    assert await waiting() == [f"wh1_{position}" for position in told]


async def test_what_its_owner_may_be_told_counts_from_the_moment_that_it_changes(
    hands, add, tell, waiting, mesh_redis, mesh_keys
):
    await add()
    await joined(hands)
    keys = ApiKeys(mesh_redis, mesh_keys)
    await keys.revoke("shop")
    await tell(1)
    for _ in range(2):  # the first notices that what it knows is old
        await hands.router.run_once()
    await keys.create("shop", subscribe=["order.*"])
    told = await tell(1)
    for _ in range(2):
        await hands.router.run_once()
    await hands.laggards.run_once()
    assert await waiting() == [f"wh1_{told[0]}"]
    await keys.rotate("shop", timedelta())
    told += await tell(1)
    for _ in range(2):
        await hands.router.run_once()
    assert await waiting() == [f"wh1_{position}" for position in told]


async def test_a_lease_whose_holder_died_while_it_was_disabled_ends_all_the_same(
    hands, add, tell, store, receiver, mesh_redis, mesh_keys
):
    webhook = await add()
    await tell(1)
    await joined(hands)
    claim = settle_call(mesh_keys, webhook, "somebody", claims=True, lease_ms=50, room=1)
    assert (await lua.run(mesh_redis, claim)).taken  # and is killed
    await switch(store, False)
    await hands.directory.refresh()
    await switch(store, True)
    await hands.directory.refresh()

    async def arrived() -> bool:
        await hands.courier.run_once()
        return bool(receiver.requests)

    await until(arrived)


async def test_one_that_is_disabled_under_a_lease_is_looked_at_once_more_and_left_alone(
    hands, add, tell, store, mesh_redis, mesh_keys
):
    webhook = await add()
    await tell(1)
    await joined(hands)
    claim = settle_call(mesh_keys, webhook, "somebody", claims=True, lease_ms=1, room=1)
    await lua.run(mesh_redis, claim)
    await switch(store, False)
    await hands.directory.refresh()
    await asyncio.sleep(0.01)
    await hands.courier.run_once()
    assert not await mesh_redis.zcard(mesh_keys.webhooks_due()) + await mesh_redis.zcard(
        mesh_keys.webhooks_failing()
    )
    assert not await mesh_redis.hexists(mesh_keys.webhook("wh1"), "token")
