"""A small mesh of real processes: a dispatcher and the probe services, shared by the tests of a module."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from streammesh.dead_letters import DeadLetters
from streammesh.embedded import EmbeddedServer
from streammesh.events.publisher import Publisher
from streammesh.flow.limits import Flow
from streammesh.keys import Keys
from streammesh.notification_log import NotificationLog
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.tasks.records import Rows, TaskRow
from streammesh.testing.conditions import wait_until

from tests.harness import brokers
from tests.harness.moves import BILL, Moves
from tests.harness.processes import MeshProcess


@dataclass
class RunningMesh:
    """What tests need of a mesh that runs."""

    settings: MeshSettings
    env: dict[str, str]
    folder: Path
    record: Path
    server: EmbeddedServer

    @property
    def keys(self) -> Keys:
        return Keys(self.settings.namespace)

    def client(self) -> redis.asyncio.Redis:
        return open_async(self.settings, "test")


@dataclass
class Asker:
    """Publishes into a running mesh and waits for what comes of it."""

    mesh: RunningMesh
    redis: redis.asyncio.Redis

    @property
    def rows(self) -> Rows:
        return Rows(self.redis, self.mesh.keys)

    @property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.redis, self.mesh.keys)

    async def publish(
        self, event_type: str, data: Any = None, source: str = "tests", **attributes: Any
    ) -> str:
        publisher = Publisher(self.redis, self.mesh.keys, self.mesh.settings, source)
        return (await publisher.publish(event_type, {} if data is None else data, **attributes)).id

    async def ended(self, event_id: str, seconds: float = 20) -> list[TaskRow]:
        """The tasks of an event once every one has ended."""

        async def done() -> tuple[list[TaskRow]] | None:
            found = await self.rows.events(event_id)
            if not found or not found[0].completed:
                return None
            return (await self.rows.tasks(found[0].task_ids),)

        [tasks] = await wait_until(f"event {event_id} has ended", done, seconds=seconds)
        return tasks

    async def shows_life(self, service: str, pid: int) -> None:
        """Wait until this process counts as a living worker of the service."""

        async def there() -> bool:
            alive = await self.redis.zrange(self.mesh.keys.alive(service), 0, -1)
            return any(name.endswith(b":%d" % pid) for name in alive)

        await wait_until(f"process {pid} shows life", there, seconds=30)

    async def run(self, event_type: str, data: Any = None, **attributes: Any) -> TaskRow:
        """Publish and answer its one task, ended."""
        [task] = await self.ended(await self.publish(event_type, data, **attributes))
        return task

    async def told(self, event_id: str) -> list[str]:
        """The types of the notifications of an event, in order."""
        notes = await NotificationLog(self.redis, self.mesh.keys).of_event(event_id, "tests")
        return [note.type for note in notes]


def start_mesh(
    server: EmbeddedServer, folder: Path, namespace: str, broker_url: str = "", **env: str
) -> RunningMesh:
    settings = MeshSettings(
        _env_file=None, redis_url=server.url, namespace=namespace, lease="2s", broker_url=broker_url
    )
    record = folder / "record.txt"
    environment = {
        "MESH_REDIS_URL": server.url,
        "MESH_NAMESPACE": namespace,
        "MESH_LEASE": "2s",
        "MESH_BROKER_URL": broker_url,
        "MESH_LOG_FORMAT": "json",
        "PROBE_RECORD": str(record),
        **env,
    }
    return RunningMesh(settings, environment, folder, record, server)


Opener = Callable[[str], brokers.Broker]


@pytest.fixture(scope="session")
def open_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Starts a broker of a kind when the first test asks for it; skips where it cannot be had."""
    with ExitStack() as stack:
        started: dict[str, brokers.Broker] = {}

        def open_broker(kind: str) -> brokers.Broker:
            if reason := brokers.why_not(kind):
                pytest.skip(reason)
            if kind not in started:
                folder = tmp_path_factory.mktemp(kind) / "server"
                started[kind] = stack.enter_context(brokers.running(kind, folder))
            return started[kind]

        yield open_broker


@pytest.fixture(scope="module")
def other_broker(open_broker: Opener) -> brokers.Broker | None:
    """The broker that `STREAMMESH_TEST_BROKER` asks for, None for the mesh's own streams."""
    kind = brokers.chosen()
    return open_broker(kind) if kind else None


@pytest.fixture(scope="module")
def mesh(
    mesh_server: EmbeddedServer,
    other_broker: brokers.Broker | None,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[RunningMesh]:
    """A dispatcher and the services that the module asks for in `SERVICES`."""
    folder = tmp_path_factory.mktemp("mesh")
    name = request.module.__name__.rpartition(".")[2].replace("_", "-")[:30]
    running = start_mesh(
        mesh_server,
        folder,
        name,
        other_broker.address() if other_broker else "",
        MESH_CONCURRENCY=getattr(request.module, "CONCURRENCY", "0"),
        **getattr(request.module, "ENVIRONMENT", {}),
    )
    started = [
        MeshProcess(module.rpartition(".")[2], module, running.env, folder).start()
        for module in ("services.dispatcher", *request.module.SERVICES)
    ]

    async def ready() -> None:
        client = running.client()

        async def all_there() -> bool:
            roles = [module.rpartition(".")[2] for module in request.module.SERVICES]
            return all([await client.zcard(running.keys.alive(role)) for role in (*roles, "dispatcher")])

        try:
            await wait_until("every process shows life", all_there, seconds=30)
        finally:
            await client.aclose()

    try:
        asyncio.run(ready())
        yield running
    finally:
        codes = {process.name: process.stop() for process in started}
        for process in started:
            if request.session.testsfailed or codes[process.name]:
                print(f"--- {process.log}\n" + "\n".join(process.log.read_text().splitlines()[-60:]))
    assert set(codes.values()) <= {0}, codes


@pytest.fixture
async def ask(mesh: RunningMesh):
    client = mesh.client()
    yield Asker(mesh, client)
    await client.aclose()


@pytest.fixture
def flowing(
    mesh_redis: redis.asyncio.Redis, mesh_keys: Keys, mesh_settings: MeshSettings
) -> Callable[..., Awaitable[Moves]]:
    """Moves of a service whose subscription has these limits."""

    async def made(**limits: Any) -> Moves:
        moves = Moves(mesh_redis, mesh_keys, mesh_settings, replace(BILL, flow=Flow(**limits)))
        await moves.join()
        return moves

    return made
