"""Pytest plugin of the kit: a private real server, and settings with a namespace of the test's own."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from streammesh.embedded import EmbeddedServer
from streammesh.keys import Keys
from streammesh.redisio.client import open_async, open_sync
from streammesh.settings import MeshSettings
from streammesh.testing.programs import Programs

if TYPE_CHECKING:
    from streammesh.testing.mesh import Mesh

# pytest-asyncio's strict mode asks for its own; where it is not installed, anyio takes pytest's.
async_fixture: Any = (import_module("pytest_asyncio") if find_spec("pytest_asyncio") else pytest).fixture

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def mesh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A private server for the whole run (one per pytest worker process)."""
    with EmbeddedServer(tmp_path_factory.mktemp("redis"), appendonly=False) as server:
        yield server


@pytest.fixture
def mesh_settings(mesh_server: EmbeddedServer) -> MeshSettings:
    """Settings of a mesh that only this test uses."""
    return MeshSettings(
        _env_file=None,
        redis_url=mesh_server.url,
        namespace=f"t{os.getpid()}-{next(_NUMBERS)}",
        metrics=False,
    )


@pytest.fixture
def mesh(
    mesh_settings: MeshSettings, mesh_server: EmbeddedServer, request: pytest.FixtureRequest
) -> Iterator[Mesh]:
    """A whole mesh of the test's own: publish, run handlers for real, `await mesh.outcome(event)`, skip time.

    Fails the test when it leaves keys in Redis that would stay for ever.
    """
    from streammesh.testing.mesh import Mesh  # which brings Celery, of no use to other tests

    def start(module: str, **environment: str) -> Popen[bytes]:
        starts: Callable[..., Popen[bytes]] = request.getfixturevalue("mesh_start")
        return starts(module, **environment)

    with Mesh(mesh_settings, mesh_server, start) as made:
        yield made
        left = made.leaks().get()
    assert left == [], "the test leaves keys in Redis that would stay for ever"


@pytest.fixture
def mesh_keys(mesh_settings: MeshSettings) -> Keys:
    """The keys of that mesh."""
    return Keys(mesh_settings.namespace)


@async_fixture  # type: ignore[untyped-decorator]
async def mesh_redis(mesh_settings: MeshSettings) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client on the private server."""
    client = open_async(mesh_settings, "test")
    yield client
    await client.aclose()


@pytest.fixture
def mesh_redis_sync(mesh_settings: MeshSettings) -> Iterator[redis.Redis]:
    """A blocking client on the private server."""
    client = open_sync(mesh_settings, "test")
    yield client
    client.close()


@pytest.fixture
def mesh_environment(mesh_settings: MeshSettings) -> dict[str, str]:
    """The environment that gives a child process the same mesh."""
    return {
        **os.environ,
        "MESH_REDIS_URL": mesh_settings.redis_url,
        "MESH_NAMESPACE": mesh_settings.namespace,
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def mesh_start(mesh_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Popen[bytes]]]:
    """Starts services as processes of that mesh: `mesh_start("services.dispatcher")`. They end with the test.

    Each one's output is in `tmp_path`. Further arguments are environment variables.
    """
    with Programs(mesh_environment, tmp_path) as programs:
        yield programs.start
