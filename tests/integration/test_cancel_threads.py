"""Cancelling what runs in a thread: it cannot be stopped, and what it comes to does not count."""

from __future__ import annotations

import time

import pytest
from streammesh import lua
from streammesh.tasks.settlement import cancel_call
from streammesh.testing.conditions import wait_until

from tests.integration.test_cancel import task_of
from tests.probe.record import runs

SERVICES = ["tests.probe", "tests.probe_sync"]
CONCURRENCY = "2"
ENVIRONMENT = {"PROBE_POOL": "threads"}


@pytest.mark.parametrize(
    ("event_type", "line"), [("probe.unstoppable", "unstoppable-done"), ("sync.slow", "sync-slow-done")]
)
async def test_it_is_cancelled_at_once_and_its_end_changes_nothing(ask, event_type, line):
    event_id = await ask.publish(event_type, {"seconds": 3})
    task = await task_of(ask, event_id, "started")
    began = time.monotonic()
    call = cancel_call(ask.mesh.keys, ask.mesh.settings, await ask.rows.task(task.id))
    assert (await lua.run(ask.redis, call)).answer == "asked"
    [ended] = await ask.ended(event_id)
    assert (ended.state, time.monotonic() - began < 2) == ("cancelled", True)

    async def ran_on():
        return runs(ask.mesh.record)[f"{line} {event_id}"]

    await wait_until("the thread has ended", ran_on)
    assert (await ask.rows.task(task.id)).state == "cancelled"
    noop = "probe.noop" if event_type.startswith("probe") else "sync.noop"
    assert (await ask.run(noop)).state == "succeeded"
    assert (await ask.told(event_id)).count("task.cancelled") == 1
