"""How soon a real Chromium shows the dashboard of a mesh that holds much. Measured where Chromium and Playwright are there."""

from __future__ import annotations

import importlib.util
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from tests.scale.__main__ import Table

NAMES = ("chromium", "chromium-browser", "google-chrome")
PAINT_MS = 300.0  # what is promised of the first paint
LOOKS = 5
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
NOW = "performance.now()"
# Each page with what stands there once it has what it asked the API for.
PAGES = {"overview": "The mesh, now", "events": "order."}


async def measure(url: str, key: str, table: Table) -> None:
    """Note the first paint before and after signing in, and when pages show what the API answered; the quickest of five."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None or importlib.util.find_spec("playwright") is None:
        print("the first paint was not measured: needs Chromium, and `make browser-ready`", flush=True)
        return
    from playwright.async_api import async_playwright

    async with async_playwright() as running:
        browser = await running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            await _visit(browser, url, key, table)
        finally:
            await browser.close()


async def _visit(browser: Browser, url: str, key: str, table: Table) -> None:
    stranger, signed_in = [], []
    shown: dict[str, list[float]] = {name: [] for name in PAGES}
    for _ in range(LOOKS):
        context = await browser.new_context(
            viewport={"width": 1440, "height": 900}
        )  # nothing is cached in it
        try:
            page = await context.new_page()
            await page.goto(f"{url}/ui/")
            await page.get_by_label("API key").wait_for()
            stranger.append(await _painted(page))
            await page.get_by_label("API key").fill(key)
            await page.get_by_role("button", name="Sign in").click()
            await page.get_by_role("navigation", name="Pages").wait_for()
            for name, text in PAGES.items():
                await page.goto(f"{url}/ui/#/{name}")
                await page.reload()
                await page.get_by_text(text).first.wait_for()
                shown[name].append(float(await page.evaluate(NOW)))
                if name == "overview":
                    signed_in.append(await _painted(page))
        finally:
            await context.close()
    table.add("first contentful paint, a stranger's browser", min(stranger), PAINT_MS)
    table.add("first contentful paint, signed in", min(signed_in), PAINT_MS)
    for name, took in shown.items():
        table.add(f"the page of {name} shows what the API answered", min(took))


async def _painted(page: Page) -> float:
    handle = await page.wait_for_function(PAINTED)
    return float(await handle.json_value())
