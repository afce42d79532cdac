"""What a worker's log says of attempts that failed."""

from __future__ import annotations

import json

import pytest

SERVICES = ["tests.probe", "tests.probe_sync"]


def lines(ask, service, task_id):
    """What the worker's log says of a task."""
    text = (ask.mesh.folder / f"{service}.log").read_text()
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in found if line.get("task_id") == task_id]


@pytest.mark.parametrize(
    ("service", "event_type", "handler"),
    [("probe", "probe.flaky", "in flaky"), ("probe_sync", "sync.flaky", "in flaky")],
)
async def test_each_failed_attempt_has_its_traceback_from_the_handlers_frame(
    ask, service, event_type, handler
):
    task = await ask.run(event_type, {"succeeds_at": 99})

    told = [
        line for line in lines(ask, service, task.id) if line["event"] in ("task.retrying", "task.failed")
    ]
    assert [line["attempt"] for line in told] == [1, 2, 3, 4]
    for line in told:
        first, second, *_ = line["exception"].splitlines()
        assert first == "Traceback (most recent call last):"
        assert second.startswith("  File ") and second.endswith(handler)
        assert line["exception"].endswith(f"RuntimeError: attempt {line['attempt']} fails")


async def test_a_rejection_has_its_reason_and_no_traceback(ask):
    task = await ask.run("probe.rejected")

    [line] = [line for line in lines(ask, "probe", task.id) if line["event"] == "task.failed"]
    assert line["reason"] == "it can never succeed"
    assert "exception" not in line
