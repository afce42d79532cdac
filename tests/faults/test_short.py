"""The short form that runs with every test run: real kills, small loads. `make faults` plays all of it at full size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import Forks
from tests.faults.report import Row
from tests.faults.scenarios import (
    api_kills,
    cut_connections,
    dispatcher_kills,
    negative_controls,
    worker_kills,
)
from tests.faults.stage import Stage

pytestmark = pytest.mark.faults


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Any]:
    async with Forks() as forks:
        yield Stage(forks, tmp_path / "mesh", 1, "short")


def assert_passed(row: Row) -> None:
    assert row.passed, "\n".join((str(row.to_dict()), *row.remarks, *row.findings[:20]))


async def test_dispatchers_killed_at_random_points_hand_each_event_over_once(stage: Stage) -> None:
    row = await dispatcher_kills.run(stage)

    assert_passed(row)
    assert (row.kills, row.lost, row.doubled) == (25, 0, 0)


async def test_without_its_gate_the_hand_off_doubles_and_the_checker_says_so(stage: Stage) -> None:
    row = await negative_controls.ungated(stage)

    assert row.doubled > 0


async def test_tasks_of_killed_workers_and_pool_children_end_once_and_soon(stage: Stage) -> None:
    row = await worker_kills.run(stage)

    assert_passed(row)
    assert row.kills == 10


async def test_what_killed_replicas_accepted_is_there_and_clients_miss_nothing(stage: Stage) -> None:
    row = await api_kills.run(stage)

    assert_passed(row)
    assert row.kills == 6


async def test_cut_connections_and_lost_replies_lose_and_double_nothing(stage: Stage) -> None:
    row = await cut_connections.run(stage)

    assert_passed(row)
    assert row.kills > 20
