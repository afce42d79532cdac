"""Redis loses everything while the mesh runs: it works again by itself, and what comes afterwards is not lost."""

from __future__ import annotations

import time

from streammesh.keys import WORKERS
from streammesh.testing.conditions import wait_until

from tests.probe.record import runs

SERVICES = ["tests.probe", "tests.probe_sync"]
CONCURRENCY = "2"


async def test_after_everything_was_deleted_new_events_run_within_seconds_each_once(ask):
    assert (await ask.run("probe.noop")).state == "succeeded"
    assert (await ask.run("sync.noop")).state == "succeeded"
    await ask.redis.flushall()
    began = time.monotonic()
    ids = [await ask.publish(kind) for _ in range(20) for kind in ("probe.recorded", "sync.recorded")]
    tasks = [task for event_id in ids for task in await ask.ended(event_id, seconds=15)]

    assert time.monotonic() - began < 10
    assert [task.state for task in tasks] == ["succeeded"] * len(ids)
    counted = runs(ask.mesh.record)
    assert {counted[f"recorded {i}"] + counted[f"sync {i}"] for i in ids} == {1}
    for event_id in ids:
        assert "event.unrouted" not in await ask.told(event_id)


async def test_everybody_is_on_the_lists_again(ask):
    keys = ask.mesh.keys

    async def known():
        manifests = await ask.redis.hkeys(keys.manifests())
        alive = [await ask.redis.zcard(keys.alive(role)) for role in ("dispatcher", "probe", "probe_sync")]
        return set(manifests) == {b"probe", b"probe_sync"} and alive == [1, 1, 1]

    await wait_until("everybody is known", known)
    for queue in ("probe", "probe_sync"):
        groups = await ask.redis.xinfo_groups(keys.queue(queue))
        assert [group["name"] for group in groups] == [WORKERS.encode()]
