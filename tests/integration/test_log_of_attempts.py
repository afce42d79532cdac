"""What a worker's log says of attempts that failed."""

from __future__ import annotations

import json

import pytest
from streammesh.testing.conditions import wait_until

SERVICES = ["tests.probe", "tests.probe_sync"]


async def failures(ask, service, task_id):
    """The lines of the worker's log about a task's failed attempts; the last is written just after the task has ended."""

    async def written():
        text = (ask.mesh.folder / f"{service}.log").read_text()
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        told = [line for line in found if line.get("task_id") == task_id]
        told = [line for line in told if line["event"] in ("task.retrying", "task.failed")]
        return told if told and told[-1]["event"] == "task.failed" else None

    return await wait_until("the log says that it failed", written)


@pytest.mark.parametrize(
    ("service", "event_type", "handler"),
    [("probe", "probe.flaky", "in flaky"), ("probe_sync", "sync.flaky", "in flaky")],
)
async def test_each_failed_attempt_has_its_traceback_from_the_handlers_frame(
    ask, service, event_type, handler
):
    task = await ask.run(event_type, {"succeeds_at": 99})

    told = await failures(ask, service, task.id)
    assert [line["attempt"] for line in told] == [1, 2, 3, 4]
    for line in told:
        first, second, *_ = line["exception"].splitlines()
        assert first == "Traceback (most recent call last):"
        assert second.startswith("  File ") and second.endswith(handler)
        assert line["exception"].endswith(f"RuntimeError: attempt {line['attempt']} fails")


async def test_a_rejection_has_its_reason_and_no_traceback(ask):
    task = await ask.run("probe.rejected")

    [line] = await failures(ask, "probe", task.id)
    assert line["reason"] == "it can never succeed"
    assert "exception" not in line
