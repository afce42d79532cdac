"""The API on a private real server: in memory for questions and answers, on a real port for streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from streammesh.api_keys import ApiKeys
from streammesh.settings import MeshSettings

from services.api import app
from services.api.app import create_app
from services.api.server import make_server
from services.api.settings import ApiSettings, StoreSettings
from services.api.tests.conformance import Conformance
from services.api.tests.mesh import Mesh


@pytest.fixture
def api_settings() -> ApiSettings:
    return ApiSettings(
        _env_file=None, port=0, heartbeat=timedelta(milliseconds=200), drain=timedelta(seconds=2)
    )


@pytest.fixture
def store_settings(tmp_path) -> StoreSettings:
    return StoreSettings(_env_file=None, store_url=str(tmp_path / "store"))


@pytest.fixture
async def admin(mesh_redis, mesh_keys) -> str:
    return await ApiKeys(mesh_redis, mesh_keys).create("shop", admin=True)


@pytest.fixture
def make_key(mesh_redis, mesh_keys) -> Callable[..., Any]:
    return ApiKeys(mesh_redis, mesh_keys).create


@pytest.fixture
def door(mesh_settings, api_settings, store_settings):
    return create_app(mesh_settings, api_settings, store_settings)


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The OpenAPI document, which no setting changes: to make it takes most of a second."""
    own = (ApiSettings(_env_file=None), StoreSettings(_env_file=None))
    return dict(json.loads(json.dumps(create_app(MeshSettings(_env_file=None), *own).app.openapi())))


@pytest.fixture
def conformance(document: dict[str, Any]) -> Conformance:
    """Every answer that `api` and `live` get is compared with `/openapi.json`."""
    return Conformance(document)


@asynccontextmanager
async def running(door):
    async with door.app.router.lifespan_context(door.app):
        yield door


async def _match_none(app: FastAPI) -> None:
    """In place of `_match_once`: a test that asks for little needs few routes, and each takes milliseconds to be made."""


@pytest.fixture
def few_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes are made as they are asked for."""
    monkeypatch.setattr(app, "_match_once", _match_none)


@pytest.fixture
async def api(door, admin, conformance, few_routes) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application in this process, with an admin key."""
    async with (
        running(door),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(door, raise_app_exceptions=True),
            base_url="http://api.test",
            headers={"authorization": f"Bearer {admin}"},
            event_hooks={"response": [conformance.check]},
        ) as client,
    ):
        yield client


@pytest.fixture
async def live(door, api_settings, admin, conformance) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the real server on a port of its own."""
    server = make_server(door, api_settings)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), serving.exception()
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"authorization": f"Bearer {admin}"},
        timeout=10,
        event_hooks={"response": [conformance.check]},
    ) as client:
        yield client
    server.should_exit = True
    await serving


@pytest.fixture
def mesh(mesh_redis, mesh_keys, mesh_settings) -> Mesh:
    """What the dispatcher and the workers would do."""
    return Mesh(mesh_redis, mesh_keys, mesh_settings)
