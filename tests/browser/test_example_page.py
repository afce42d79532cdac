"""The page of `examples/browser/`: it follows its order with the browser's own EventSource, and holds no key."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from streammesh.embedded import free_port

from examples.browser.server import make_app
from tests.browser.conftest import ADMIN

pytestmark = pytest.mark.ui


@pytest.fixture
def page_url(shop: Any) -> Iterator[str]:
    """The shop's own server, at an origin that is not the API's."""
    port, loop = free_port(), asyncio.new_event_loop()

    async def serve() -> web.AppRunner:
        runner = web.AppRunner(make_app(shop.url, ADMIN))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_a_page_of_another_origin_follows_its_order_to_the_end(open_browser: Any, page_url: Any) -> None:
    page = open_browser().page
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(f"{request.url} {request.headers.get('authorization', '')}")
    )
    page.goto(page_url)
    page.get_by_role("button", name="Order").click()
    page.get_by_text("event.completed").wait_for()

    told = page.locator("#told li").all_inner_texts()
    assert told[0].startswith("task.queued")
    assert any(line.startswith("task.succeeded") for line in told)
    assert told[-1] == "event.completed"
    assert not [line for line in asked if ADMIN in line]
