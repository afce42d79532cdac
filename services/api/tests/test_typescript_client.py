"""The TypeScript client, run by Node's own test runner against the real API; and what is built is what is written."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from streammesh import lua
from streammesh.durable.calls import DurableCalls

HOME = Path(__file__).parents[3] / "clients" / "typescript"
NODE = shutil.which("node")
TSC = HOME / "node_modules" / ".bin" / "tsc"


def _major() -> int:
    if NODE is None:
        return 0
    told = subprocess.run([NODE, "--version"], capture_output=True, text=True).stdout
    return int(told.removeprefix("v").partition(".")[0] or 0)


@pytest.mark.skipif(_major() < 20, reason="needs Node 20 or newer on the PATH")
async def test_the_typescript_client_publishes_follows_resumes_and_waits(live, admin, mesh):
    await mesh.subscribe("audit", "order.*")

    async def work() -> None:
        while True:
            for task in await mesh.dispatch("order", "audit"):
                await mesh.start(task)
                if task.ref.event.type == "order.told":
                    calls = DurableCalls(mesh.keys, mesh.settings)
                    pieces = [b"tOnce", b"b\x01\xff", b'j{"n":1}']
                    await lua.run(
                        mesh.redis,
                        calls.write_chunks(task.ref, task.place, task.attempt, "tokens", 1, pieces),
                    )
                if task.ref.event.type != "order.slow":
                    data = task.ref.event.data
                    await mesh.succeed(task, {"done": data["n"]} if data else None)
            await asyncio.sleep(0.02)

    working = asyncio.create_task(work())
    environment = {**os.environ, "MESH_URL": str(live.base_url), "MESH_KEY": admin}
    node = await asyncio.create_subprocess_exec(
        *(str(NODE), "--test", "--test-reporter", "tap", "test/"),
        cwd=HOME,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    told, _ = await asyncio.wait_for(node.communicate(), 60)
    working.cancel()

    assert node.returncode == 0, told.decode()[-6_000:]
    assert b"# skipped 0" in told


@pytest.mark.skipif(not TSC.exists(), reason="needs `npm ci` in clients/typescript")
def test_what_is_built_is_what_is_written(tmp_path):
    subprocess.run([str(TSC), "--outDir", str(tmp_path)], cwd=HOME, check=True, capture_output=True)

    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in (HOME / "built").iterdir()}
