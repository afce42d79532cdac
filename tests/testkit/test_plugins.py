"""The kit's fixtures beside what other teams' tests run with: strict pytest-asyncio, anyio, pytest-xdist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = """
from streammesh import Service

service = Service("shop_worker")


@service.on("order.placed")
async def confirm(order: dict) -> int:
    return order["n"]
"""
PLUGINS = ("streammesh", "asyncio", "anyio", "xdist")
TESTS = """
import pytest
from streammesh.testing import Mesh
from worker import service


async def outcome(mesh: Mesh) -> int:
    mesh.run(service)
    return (await mesh.outcome(await mesh.publish("order.placed", {"n": 1}))).result


@pytest.mark.asyncio
async def test_strict(mesh, mesh_redis):
    assert await outcome(mesh) == 1
    assert await mesh_redis.ping()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio(mesh, anyio_backend):
    assert await outcome(mesh) == 1


def test_plain(mesh):
    mesh.run(service)
    assert mesh.outcome(mesh.publish("order.placed", {"n": 1}).get()).get().result == 1


def test_what_stays_in_redis_fails_the_test(mesh, mesh_redis_sync):
    mesh_redis_sync.set("left-behind", 1)
"""


@pytest.mark.timeout(300)  # three processes that import everything
def test_they_work_in_strict_mode_under_anyio_and_spread_over_processes(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "test_worker.py").write_text(TESTS)
    plugins = [word for name in PLUGINS for word in ("-p", name)]  # and not all that happen to be installed
    options = [
        "-q",
        "-n",
        "2",
        "-W",
        "error",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "-o",
        "asyncio_mode=strict",
    ]
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "4 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "left-behind is outside of the mesh's own keys" in done.stdout
