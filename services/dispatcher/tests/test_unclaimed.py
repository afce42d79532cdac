"""The group of nobody goes where a service takes a domain over, whoever dies or forgets meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from redis.exceptions import ResponseError
from streammesh.clock import SystemClock
from streammesh.events.group_reader import GroupReader
from streammesh.events.publisher import Publisher
from streammesh.keys import UNCLAIMED
from streammesh.lua import run
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

from services.dispatcher import lanes
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.trimmer import Trimmer

OWN = DispatcherSettings(_env_file=None, block="100ms", reclaim_every="1h", batch=50)
MANIFEST = Manifest("mail", subscriptions=(Subscription("mail", "mail.welcome", "user.registered"),))


@pytest.fixture
async def dispatcher(mesh_redis, mesh_keys, mesh_settings):
    """Its lanes, of a mesh in which nobody wants the one event there is."""
    await Publisher(mesh_redis, mesh_keys, mesh_settings, "tests").publish("user.registered", {})
    made = lanes.Lanes(mesh_redis, mesh_keys, mesh_settings, OWN, None, SystemClock())
    await made.refresh()
    yield made
    await made.stop()


async def groups(client, keys):
    return {group["name"] for group in await client.xinfo_groups(keys.events("user"))}


async def test_a_group_that_another_dispatcher_takes_away_meanwhile_breaks_nothing(
    mesh_redis, mesh_keys, dispatcher, monkeypatch
):
    class Beaten(GroupReader):
        async def reclaim(self, domains, idle, count):
            await self.leave(domains[0])
            return await super().reclaim(domains, idle, count)

    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    monkeypatch.setattr(lanes, "GroupReader", Beaten)
    await dispatcher._stop(UNCLAIMED)  # its lane would meet that its group is gone, and make it anew
    dispatcher.leave("user")

    await dispatcher.refresh()

    assert UNCLAIMED.encode() not in await groups(mesh_redis, mesh_keys)


async def test_what_failed_half_way_is_done_with_the_next_look(
    mesh_redis, mesh_keys, dispatcher, monkeypatch
):
    class Failing(GroupReader):
        async def leave(self, domain):
            raise ConnectionError("Redis is away")

    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    with monkeypatch.context() as patched:
        patched.setattr(lanes, "GroupReader", Failing)
        with pytest.raises(ConnectionError):
            await dispatcher.refresh()
    assert UNCLAIMED.encode() in await groups(mesh_redis, mesh_keys)

    await dispatcher.refresh()

    assert UNCLAIMED.encode() not in await groups(mesh_redis, mesh_keys)


async def test_a_group_that_nobody_took_away_is_found_where_it_keeps_old_events(
    mesh_redis, mesh_keys, mesh_settings, dispatcher
):
    """Its dispatcher was killed in between, or Redis forgot that it had gone."""
    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    await dispatcher.refresh()
    await mesh_redis.xgroup_create(mesh_keys.events("user"), UNCLAIMED, "0")
    await asyncio.sleep(0.01)
    settings = mesh_settings.model_copy(update={"retention": timedelta(0)})
    told: list[str] = []
    trimmer = Trimmer(mesh_redis, mesh_keys, settings, OWN, SystemClock(), told.append)

    await trimmer.run_once()
    assert told == ["user"]
    dispatcher.leave("user")
    await dispatcher.refresh()

    assert UNCLAIMED.encode() not in await groups(mesh_redis, mesh_keys)


async def test_a_domain_that_nobody_reads_keeps_its_group(mesh_redis, mesh_keys, dispatcher):
    dispatcher.leave("user")

    await dispatcher.refresh()

    assert UNCLAIMED.encode() in await groups(mesh_redis, mesh_keys)


async def test_a_domain_that_refuses_it_holds_up_no_lane_and_no_other_domain(
    mesh_redis, mesh_keys, dispatcher, monkeypatch
):
    class Refused(GroupReader):
        async def leave(self, domain):
            if domain == "bill":
                raise ResponseError("OOM command not allowed")
            await super().leave(domain)

    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    monkeypatch.setattr(lanes, "GroupReader", Refused)
    dispatcher.leave("bill")

    with pytest.raises(ResponseError, match="OOM"):
        await dispatcher.refresh()

    assert "mail" in dispatcher._running
    assert UNCLAIMED.encode() not in await groups(mesh_redis, mesh_keys)
