"""Every way out of a handler, and of what it started, ends its attempt with a reason and nobody else's."""

from __future__ import annotations

import asyncio

import pytest

SERVICES = ["tests.probe"]
WAYS = {
    "gather": "SystemExit(3)",
    "interrupt": "KeyboardInterrupt()",
    "task": "SystemExit(3)",
    "callback": "the handler went on",
    "stop loop": "the handler went on",
    "cancel": "cancelled its own task",
    "cancel and return": "cancelled its own task",
    "cancelled by helper": "cancelled its own task",
    "generator": "GeneratorExit()",
    "thread": "SystemExit(3)",
    "own thread": "the handler went on",
}


@pytest.mark.parametrize("way", WAYS)
async def test_an_attempt_ends_with_a_reason_whatever_way_its_handler_takes(ask, way):
    beside = await ask.publish("probe.slow", {"seconds": 0.5})
    task = await ask.run("probe.exit", {"way": way})

    assert (task.state, task.attempt) == ("failed", 2)
    assert WAYS[way] in task.error["reason"]
    [other] = await ask.ended(beside)
    assert (other.state, other.attempt) == ("succeeded", 1)


@pytest.mark.parametrize("way", ["exit", "generator", "interrupt"])
async def test_a_def_handler_among_async_ones_too(ask, way):
    task = await ask.run("probe.exit_in_thread", {"way": way})

    assert (task.state, task.attempt) == ("failed", 2)
    assert "would end the worker" in task.error["reason"]


async def test_many_at_once_stop_nobody(ask):
    ids = [await ask.publish("probe.exit", {"way": way}) for way in WAYS for _ in range(3)]
    beside = [await ask.publish("probe.recorded") for _ in range(20)]

    assert {task.state for e in ids for task in await ask.ended(e)} == {"failed"}
    ended = [task for e in beside for task in await ask.ended(e)]
    assert {(task.state, task.attempt) for task in ended} == {("succeeded", 1)}
    assert await asyncio.wait_for(ask.run("probe.noop"), 5)
