"""The code of docs/publish-from.md: a FastAPI application, the blocking client and a notebook's cells, over the real API."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import CodeType
from typing import Any

import httpx
import pytest

PAGE = Path(__file__).parents[3] / "docs" / "publish-from.md"
BLOCKS = re.findall(r"^```python\n# ([^\n]+)\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def block(name: str) -> CodeType:
    return compile(dict(BLOCKS)[name], name, "exec", dont_inherit=True)


@pytest.fixture
def address(live, admin, few_routes, monkeypatch) -> None:
    monkeypatch.setenv("STREAMMESH_URL", str(live.base_url))
    monkeypatch.setenv("STREAMMESH_KEY", admin)


async def test_the_applications_of_the_page_publish_once_and_are_told_what_came_of_it(mesh, address):
    await mesh.subscribe("audit", "order.*")
    main: dict[str, Any] = {}
    exec(block("main.py"), main)
    app = main["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as browser,
    ):
        first = await browser.post("/orders/7", json={"total": 9.5})
        again = await browser.post("/orders/7", json={"total": 9.5})
        waiting = asyncio.create_task(browser.get("/orders/7/outcome"))
        [task] = await mesh.dispatch("order", "audit")
        await mesh.start(task)
        await mesh.succeed(task)
        assert (await waiting).json() == ["succeeded"]
    assert (first.status_code, first.json()) == (202, {"event": "order-7-placed", "duplicate": False})
    assert again.json()["duplicate"] is True

    django: dict[str, Any] = {}  # the file that speaks to the mesh: the same order, told by another process
    exec(block("shop/mesh.py"), django)
    with django["mesh"] as client:
        assert await asyncio.to_thread(django["tell_placed"], 7, 9.5) == "order-7-placed"
        assert [event["id"] for event in await asyncio.to_thread(lambda: [*client.events()])] == [
            "order-7-placed"
        ]


async def test_the_cells_of_a_notebook_run_one_after_the_other(mesh, address):
    await mesh.subscribe("reports", "report.*")
    names: dict[str, Any] = {}

    async def run(cell: str) -> None:
        await asyncio.to_thread(exec, block(cell), names)

    await run("cell 1")
    [task] = await mesh.dispatch("report", "reports")
    await mesh.start(task)
    await mesh.succeed(task, {"pages": 2})
    await run("cell 2")
    await run("cell 3")

    assert [(task.state, task.result) for task in names["event"].tasks] == [("succeeded", {"pages": 2})]
    assert [event["type"] for event in names["recent"]] == ["report.wanted"]


def test_every_block_of_the_page_is_python():
    assert [name for name, _ in BLOCKS] == [
        "main.py",
        "shop/mesh.py",
        "shop/views.py",
        "cell 1",
        "cell 2",
        "cell 3",
    ]
    for name, _ in BLOCKS:
        block(name)
