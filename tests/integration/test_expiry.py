"""What nobody began in time is not begun any more: an event's `expirytime`, a subscription's `expires`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from streammesh.clock import rfc3339

from tests.harness.processes import MeshProcess
from tests.probe.record import runs

SERVICES: list[str] = []
SOON = 0.3  # seconds: as long as `probe.perishable` is worth starting, too


@pytest.fixture
async def worker(ask, tmp_path):
    """Starts the probe worker and waits until it is there."""
    started: list[Any] = []

    async def start():
        name = f"probe-{len(started)}"
        process = MeshProcess(name, "tests.probe", ask.mesh.env, tmp_path).start()
        started.append(process)
        await ask.shows_life("probe", process.pid)
        return process

    yield start
    for process in started:
        process.stop()


async def test_what_waited_too_long_for_a_worker_expires_and_the_rest_runs(ask, worker):
    (await worker()).stop()  # its subscriptions stand
    at = rfc3339(datetime.now(UTC) + timedelta(seconds=SOON))
    late = await ask.publish("probe.noop", extensions={"expirytime": at})
    perishable = await ask.publish("probe.perishable")
    in_time = await ask.publish(
        "probe.noop", extensions={"expirytime": rfc3339(datetime.now(UTC) + timedelta(hours=1))}
    )
    await asyncio.sleep(SOON + 0.2)
    fresh = [await ask.publish("probe.noop"), in_time]
    await worker()

    for event_id in (late, perishable):
        [task] = await ask.ended(event_id)
        assert (task.state, task.attempt) == ("expired", 0)
        assert await ask.told(event_id) == ["task.queued", "task.expired", "event.completed"]
    for event_id in fresh:
        [task] = await ask.ended(event_id)
        assert task.state == "succeeded"
    assert runs(ask.mesh.record)[f"perishable {perishable}"] == 0


async def test_an_attempt_that_would_come_too_late_is_not_made(ask, worker):
    await worker()
    at = rfc3339(datetime.now(UTC) + timedelta(seconds=SOON))
    event_id = await ask.publish("probe.hopeless", extensions={"expirytime": at})
    [task] = await ask.ended(event_id)

    assert (task.state, task.attempt) == ("expired", 1)
    assert task.error["reason"] == "it expired before attempt 2 was started; attempt 1 failed: no luck"
    assert "task.retrying" in await ask.told(event_id)
