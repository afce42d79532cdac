"""Cancelling what runs in a thread: it has ended at once, and its thread ends at its next line of Python."""

from __future__ import annotations

import time

import pytest
from streammesh import lua
from streammesh.tasks.settlement import cancel_call

from tests.integration.test_cancel import task_of
from tests.probe.record import runs

SERVICES = ["tests.probe", "tests.probe_sync"]
CONCURRENCY = "1"
ENVIRONMENT = {"PROBE_POOL": "threads"}


@pytest.mark.parametrize(
    ("event_type", "line"), [("probe.unstoppable", "unstoppable-done"), ("sync.slow", "sync-slow-done")]
)
async def test_it_is_cancelled_at_once_and_does_not_go_on_once_its_call_returns(ask, event_type, line):
    event_id = await ask.publish(event_type, {"seconds": 2.5})
    task = await task_of(ask, event_id, "started")
    began = time.monotonic()
    call = cancel_call(ask.mesh.keys, ask.mesh.settings, await ask.rows.task(task.id))
    assert (await lua.run(ask.redis, call)).answer == "asked"
    [ended] = await ask.ended(event_id)
    assert (ended.state, time.monotonic() - began < 1.5) == ("cancelled", True)

    # Its thread has the only place until `time.sleep` returns; the next one begins when it has ended.
    noop = "probe.noop" if event_type.startswith("probe") else "sync.noop"
    assert (await ask.run(noop)).state == "succeeded"
    assert time.monotonic() - began > 2
    assert not runs(ask.mesh.record)[f"{line} {event_id}"]
    assert (await ask.rows.task(task.id)).state == "cancelled"
    assert (await ask.told(event_id)).count("task.cancelled") == 1
