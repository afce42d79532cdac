"""Connections that fall silent without being closed, as where a machine has vanished, are given up by who waits on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streammesh.client import MeshClient

from tests.faults.arena import API_KEY, Arena
from tests.faults.processes import Forks
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.faults
SOON = 10  # seconds; a lane waits for one, its answer may be one late, and others of its calls are tried three times


async def test_a_dispatcher_goes_on_when_all_its_connections_have_fallen_silent(tmp_path: Path) -> None:
    async with (
        Forks() as forks,
        Arena(forks, tmp_path / "mesh", 1) as arena,
        Proxy([arena.server.port], 1) as proxy,
    ):
        hasty: dict[str, Any] = {"DISPATCHER_BLOCK": "1s", "MESH_REDIS_TIMEOUT": "1s"}
        await arena.add("dispatcher", MESH_REDIS_URL=proxy.url, **hasty)
        await arena.add("fault_async")
        await arena.add("fault_sync")
        await arena.add_api(1)
        await arena.ready()
        async with MeshClient(arena.url, api_key=API_KEY) as mesh:
            await mesh.run("fault.noted", {"n": 1}, timeout=15)
            assert proxy.silence() > 3

            await mesh.run(
                "fault.noted", {"n": 2}, timeout=SOON
            )  # which goes to the silent ones, and is taken over
            outcome = await mesh.run("fault.noted", {"n": 3}, timeout=SOON)

        assert [note.type for note in outcome.tasks] == ["task.succeeded"] * 2
        proxy.cut_all()
