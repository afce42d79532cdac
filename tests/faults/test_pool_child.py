"""A single child of a prefork pool is killed: what it was given begins again at once, begun already or not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from streammesh.client import MeshClient
from streammesh.testing.conditions import wait_until

from tests.faults.arena import API_KEY, Arena
from tests.faults.processes import Forks
from tests.faults.records import KILL_ONCE

pytestmark = pytest.mark.faults
SOON = 2.0  # seconds; Celery looks every five


async def test_what_a_killed_pool_child_ran_begins_again_at_once(tmp_path: Path) -> None:
    async with Forks() as forks, Arena(forks, tmp_path / "mesh", 1) as arena:
        await arena.add("dispatcher")
        await arena.add("fault_sync", MESH_CONCURRENCY="2")
        await arena.add_api(1)
        await arena.ready()

        async def runs() -> Any:
            return [run for found in arena.runs().values() for run in found]

        async with MeshClient(arena.url, api_key=API_KEY) as mesh:
            await mesh.publish("fault.worked", {"n": 1, "seconds": 1.0})
        [first] = await wait_until("the task runs", runs)
        os.kill(first.pid, signal.SIGKILL)
        killed = time.time()

        async def again() -> Any:
            return len(await runs()) == 2

        await wait_until("it runs again", again)
        [_, second] = await runs()
        assert second.began - killed < SOON
        assert (second.attempt, second.session) == (2, first.session)


async def test_a_task_whose_pool_child_died_before_it_had_begun_is_not_lost(tmp_path: Path) -> None:
    async with Forks() as forks, Arena(forks, tmp_path / "mesh", 1) as arena:
        marker = tmp_path / "kill"
        marker.write_text("claim")
        killing: dict[str, Any] = {KILL_ONCE: str(marker)}
        await arena.add("dispatcher")
        await arena.add("fault_sync", MESH_CONCURRENCY="2", **killing)
        await arena.add_api(1)
        await arena.ready()
        async with MeshClient(arena.url, api_key=API_KEY) as mesh:
            outcome = await mesh.run("fault.worked", {"n": 1, "seconds": 0.0}, timeout=15)

        assert not marker.exists(), "nobody was killed, so this shows nothing"
        [end] = outcome.tasks
        assert (end.type, end.data["result"]) == ("task.succeeded", 1)
