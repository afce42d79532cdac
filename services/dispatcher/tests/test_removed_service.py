"""A lane of a service that was removed meanwhile keeps nothing of it alive."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from streammesh.clock import SystemClock
from streammesh.events.group_reader import GroupReader
from streammesh.events.publisher import Publisher
from streammesh.lua import run
from streammesh.retirement import Retirement
from streammesh.subscriptions.manifest import Manifest, Routes, Subscription
from streammesh.subscriptions.registry import register_call

from services.dispatcher import lane, lanes
from services.dispatcher.lane import Lane
from services.dispatcher.settings import DispatcherSettings

OWN = DispatcherSettings(_env_file=None, block="200ms", reclaim_idle="100ms", reclaim_every="100ms", batch=50)
MANIFEST = Manifest("mail", subscriptions=(Subscription("mail", "mail.welcome", "user.registered"),))


async def groups(client, keys):
    return [group["name"] for group in await client.xinfo_groups(keys.events("user"))]


async def test_a_lane_that_begins_after_its_service_was_removed_makes_no_group(
    mesh_redis, mesh_keys, mesh_settings, monkeypatch
):
    """Its dispatcher had read the manifests before; the group would keep events for nobody, for ever."""
    monkeypatch.setattr(lane, "GONE_WAIT", timedelta(milliseconds=10))
    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    await Publisher(mesh_redis, mesh_keys, mesh_settings, "tests").publish("user.registered", {})
    await Retirement(mesh_redis, mesh_keys, mesh_settings, "mail", "drop").run(5)
    looked = asyncio.Event()

    async def look_again():
        looked.set()

    mail = Lane(
        "mail", ["user"], GroupReader(mesh_redis, mesh_redis, mesh_keys, "mail", "late"), mesh_redis, mesh_keys,
        mesh_settings, OWN, lambda: Routes([MANIFEST], "*"), look_again, None, SystemClock(),
    )  # fmt: skip
    task = asyncio.create_task(mail.run())
    await asyncio.wait_for(looked.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await groups(mesh_redis, mesh_keys) == []


async def test_a_lane_whose_service_is_removed_before_its_first_read_does_not_break(
    mesh_redis, mesh_keys, mesh_settings, monkeypatch, capsys
):
    """What it was given before is asked for of a group that it has just made, and that is gone."""
    monkeypatch.setattr(lane, "GONE_WAIT", timedelta(milliseconds=10))
    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    asked = asyncio.Event()

    class RemovedMeanwhile(GroupReader):
        async def mine(self, domains, count):
            if not asked.is_set():
                await Retirement(mesh_redis, mesh_keys, mesh_settings, "mail", "drop").run(5)
                asked.set()
            return await super().mine(domains, count)

    async def look_again():
        await asyncio.sleep(0)

    mail = Lane(
        "mail", ["user"], RemovedMeanwhile(mesh_redis, mesh_redis, mesh_keys, "mail", "late"), mesh_redis, mesh_keys,
        mesh_settings, OWN, lambda: Routes([MANIFEST], "*"), look_again, None, SystemClock(),
    )  # fmt: skip
    task = asyncio.create_task(mail.run())
    await asyncio.wait_for(asked.wait(), 5)
    await mail.finish()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert "role.broke" not in capsys.readouterr().out
    assert await groups(mesh_redis, mesh_keys) == []


async def test_a_service_that_is_removed_before_the_first_event_of_its_domain_leaves_no_group(
    mesh_redis, mesh_keys, mesh_settings
):
    """The mesh does not know the domain yet, and the group is there all the same."""
    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    assert await groups(mesh_redis, mesh_keys) == [b"mail"]

    await Retirement(mesh_redis, mesh_keys, mesh_settings, "mail", "drop").run(5)

    assert await groups(mesh_redis, mesh_keys) == []


async def test_the_last_service_that_is_removed_is_not_taken_for_lost_data(
    mesh_redis, mesh_keys, mesh_settings, capsys
):
    await run(mesh_redis, register_call(mesh_keys, MANIFEST))
    all_lanes = lanes.Lanes(mesh_redis, mesh_keys, mesh_settings, OWN, None, SystemClock())
    assert [one.service for one in (await all_lanes.look()).manifests] == ["mail"]
    await Retirement(mesh_redis, mesh_keys, mesh_settings, "mail", "drop").run(5)

    assert (await all_lanes.look()).manifests == []
    assert "redis.lost_data" not in capsys.readouterr().out
