"""The child that ran a chord's last part is killed before it sent the chord's body: the workflow ends all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streammesh.client import MeshClient

from tests.faults.arena import API_KEY, Arena
from tests.faults.processes import Forks
from tests.faults.records import KILL_ONCE

pytestmark = pytest.mark.faults


async def test_a_workflow_ends_though_who_was_to_send_its_next_part_was_killed(tmp_path: Path) -> None:
    async with Forks() as forks, Arena(forks, tmp_path / "mesh", 1) as arena:
        marker = tmp_path / "kill"
        marker.write_text("body")
        killing: dict[str, Any] = {KILL_ONCE: str(marker)}
        await arena.add("dispatcher")
        await arena.add("fault_sync", MESH_CONCURRENCY="2", **killing)
        await arena.add_api(1)
        await arena.ready()
        async with MeshClient(arena.url, api_key=API_KEY) as mesh:
            outcome = await mesh.run("fault.woven", {"n": 1}, timeout=30)

        assert not marker.exists(), "nobody was killed, so this shows nothing"
        assert [note.data["result"] for note in outcome.tasks] == [6]
