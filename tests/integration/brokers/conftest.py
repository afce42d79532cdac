"""A mesh of processes on a broker of each kind, whose processes a test starts and kills as it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from streammesh.brokers.publisher import Outlet
from streammesh.embedded import EmbeddedServer
from streammesh.testing.conditions import wait_until
from streammesh.worker.app import make_app

from tests.harness import brokers
from tests.harness.processes import MeshProcess
from tests.integration.conftest import Asker, Opener, RunningMesh, start_mesh

_NUMBERS = count(1)


@dataclass
class Stage:
    """A mesh without processes, and the broker beside it."""

    mesh: RunningMesh
    ask: Asker
    broker: brokers.Broker
    kind: str
    processes: list[MeshProcess] = field(default_factory=list)

    async def start(self, module: str, **env: str) -> MeshProcess:
        """Start a process and wait until it shows life."""
        role, keys = module.rpartition(".")[2], self.mesh.keys
        name = f"{role}-{len(self.processes)}"
        process = MeshProcess(name, module, {**self.mesh.env, **env}, self.mesh.folder).start()
        self.processes.append(process)

        async def alive() -> bool:
            there = await self.ask.redis.zrange(keys.alive(role), 0, -1)
            return any(one.endswith(b":%d" % process.pid) for one in there)

        await wait_until(f"{name} shows life", alive, seconds=30)
        return process

    def outlet(self, queue: str) -> Outlet:
        """The test's own way to the broker."""
        return Outlet(make_app("tests", self.mesh.settings), queue)

    async def at_the_broker(self, queue: str, wanted: int) -> None:
        """Wait until so many tasks wait there."""
        outlet = self.outlet(queue)

        async def there() -> bool:
            return await asyncio.to_thread(outlet.waiting) == wanted

        try:
            await wait_until(f"{wanted} tasks wait at the broker", there, every=0.1)
        finally:
            outlet.close()


@pytest.fixture(params=brokers.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind; where one was chosen, that one alone."""
    if brokers.chosen() not in (None, request.param):
        pytest.skip("another broker was chosen")
    return str(request.param)


@pytest.fixture
def broker(kind: str, open_broker: Opener) -> brokers.Broker:
    return open_broker(kind)


@pytest.fixture
async def stage(
    kind: str, broker: brokers.Broker, mesh_server: EmbeddedServer, tmp_path: Path
) -> AsyncIterator[Stage]:
    mesh = start_mesh(
        mesh_server, tmp_path, f"{kind}-{next(_NUMBERS)}", broker.address(), MESH_CONCURRENCY="4"
    )
    client = mesh.client()
    stage = Stage(mesh, Asker(mesh, client), broker, kind)
    try:
        yield stage
    finally:
        await client.aclose()
        for process in stage.processes:
            process.stop()
