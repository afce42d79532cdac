"""What others wrote for CloudEvents, AsyncAPI and OpenAPI takes what the API says, and it takes what they send.

`make sdks` installs them; without that these tests are skipped.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from streammesh import lua
from streammesh.subscriptions.registry import register_call

from services.api.tests.test_types import ORDER, manifest

ROOT = Path(__file__).parents[3]
HOME = ROOT / "tests" / "sdks"
PYTHON, NODE = ROOT / "var" / "sdks" / "bin" / "python", shutil.which("node")
in_node = pytest.mark.skipif(
    not NODE or not (HOME / "node_modules" / ".package-lock.json").exists(),
    reason="needs `make sdks`, and Node",
)
in_python = pytest.mark.skipif(not (ROOT / "var" / "sdks" / ".made").exists(), reason="needs `make sdks`")


async def told_by(*command: object, given: str = "") -> str:
    """What a program says, which has to end well."""
    run = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=HOME,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(run.communicate(given.encode()), 60)
    assert run.returncode == 0, said.decode()[-4_000:]
    return said.decode()


@in_python
async def test_the_python_sdk_reads_what_it_published_in_each_mode_and_kind_of_data(live, admin):
    assert await told_by(PYTHON, "events.py", live.base_url, admin) == "5\n"


@in_node
async def test_the_javascript_sdk_reads_what_it_published_in_each_mode_and_kind_of_data(live, admin):
    assert await told_by(NODE, "events.mjs", str(live.base_url).rstrip("/"), admin) == "5\n"


@in_node
async def test_the_parser_of_asyncapi_finds_nothing_to_say(api, mesh_redis, mesh_keys):
    several: dict[str, Any] = {"order.placed": ORDER, "order.sent": None, "日本 a/b": {"type": "string"}}
    for one in (
        manifest("audit", "order.*", schema=ORDER),
        manifest("billing", "order.placed", "bill.late", publishes=several),
    ):
        await lua.run(mesh_redis, register_call(mesh_keys, one))
    document = (await api.get("/asyncapi.json")).text

    assert await told_by(NODE, "asyncapi.mjs", given=document) == "3.1.0\n"
    assert len(json.loads(document)["channels"]["events"]["messages"]) == 4


@in_node
async def test_types_are_made_of_the_openapi_document_without_a_warning(door, tmp_path):
    (tmp_path / "openapi.json").write_text(json.dumps(door.app.openapi()))
    made = tmp_path / "mesh.d.ts"
    said = await told_by(
        HOME / "node_modules" / ".bin" / "openapi-typescript", tmp_path / "openapi.json", "-o", made
    )

    assert "warn" not in said.lower() and "EventState" in made.read_text()
