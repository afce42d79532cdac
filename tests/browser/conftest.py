"""A real Chromium before a real mesh: an API, a dispatcher, a scheduler and the shop's three services.

Without Chromium, or without the packages that `make ui-test` installs, the tests are skipped and say so.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from streammesh.api_keys import ApiKeys
from streammesh.embedded import EmbeddedServer
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until_sync

from tests.harness.processes import ROOT, MeshProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ADMIN = "an-operator-key-for-tests-1"
NAMES = ("chromium", "chromium-browser", "google-chrome")
MODULES = {
    "api": "services.api",
    "dispatcher": "services.dispatcher",
    "scheduler": "services.scheduler",
    "stock": "tests.browser.shop.stock",
    "billing": "tests.browser.shop.billing",
    "letters": "tests.browser.shop.letters",
}
IMAGES = ROOT / "docs" / "images"
SECONDS = 15.0


@dataclass
class Shop:
    """The running mesh, and what the tests tell it."""

    url: str
    http: httpx.Client
    processes: dict[str, MeshProcess]
    keys: Keys
    redis_url: str
    env: dict[str, str]
    folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**6)))

    def publish(self, event_type: str, data: Any = None, **attributes: Any) -> str:
        """Publish an event over HTTP; answers its id."""
        answer = self.http.post("/v1/events", json={"type": event_type, "data": data or {}, **attributes})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def order(self, *, source: str = "web-shop", **data: Any) -> str:
        """Publish an order whose payment needs no second attempt."""
        number = next(self.numbers)
        while number % 7 == 0:
            number = next(self.numbers)
        data = {"order_id": number, **data}
        return self.publish("order.placed", data, source=source, subject=f"order/{data['order_id']}")

    def key(self, name: str, *subscribe: str) -> str:
        """Make an API key that may read these types."""
        settings = MeshSettings(_env_file=None, redis_url=self.redis_url, namespace="shop")

        async def made() -> str:
            client = open_async(settings, "test")
            try:
                return await ApiKeys(client, self.keys).create(name, subscribe=subscribe, how="replace")
            finally:
                await client.aclose()

        with ThreadPoolExecutor(1) as threads:  # Playwright has a loop of its own in this one
            return threads.submit(lambda: asyncio.run(made())).result()

    @contextmanager
    def started(self, name: str, module: str) -> Iterator[None]:
        """Another service of the mesh, for a while."""
        with MeshProcess(name, module, self.env, self.folder):
            wait_until_sync(f"{name} is there", lambda: self._workers().get(name), seconds=60)
            yield

    def _workers(self) -> dict[str, int]:
        status = self.http.get("/v1/status").json()
        return {one["service"]: one["workers"] for one in status.get("services", ())}

    def event(self, event_id: str) -> dict[str, Any]:
        """What the API knows of an event."""
        return dict(self.http.get(f"/v1/events/{event_id}").json())

    def completed(self, event_id: str) -> dict[str, Any]:
        """The same, once it has ended."""
        return wait_until_sync(
            f"event {event_id} has ended",
            lambda: found if (found := self.event(event_id)).get("state") == "completed" else {},
            seconds=SECONDS * 2,
        )


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The mesh, for the whole run."""
    folder = tmp_path_factory.mktemp("shop")
    with EmbeddedServer(folder / "redis", appendonly=True) as server:
        env = {
            "MESH_REDIS_URL": server.url,
            "MESH_NAMESPACE": "shop",
            "MESH_LOG_FORMAT": "json",
            "MESH_LEASE": "2s",
            "MESH_HEALTH_HOST": "127.0.0.1",
            "MESH_HEALTH_PORT": "0",
            "API_PORT": "0",
            "API_ADMIN_KEY": ADMIN,
            "API_HEARTBEAT": "1s",
            "API_CORS_ORIGINS": '["*"]',  # pages of other origins are tried too
            "WEBHOOK_ALLOW_PRIVATE": '["127.0.0.0/8"]',  # where the tests receive
            "WEBHOOK_RETRY_FIRST": "1s",
            "REPORT_STORE_URL": str(folder / "store"),
        }
        processes = {name: MeshProcess(name, module, env, folder) for name, module in MODULES.items()}
        try:
            for process in processes.values():
                process.start()
            log = processes["api"].log
            found = wait_until_sync(
                "the API listens", lambda: re.search(r'"url":"(http://[^"]+)"', log.read_text()), seconds=60
            )
            assert found
            headers = {"authorization": f"Bearer {ADMIN}"}
            with httpx.Client(base_url=found[1], headers=headers, timeout=20) as http:
                running = Shop(found[1], http, processes, Keys("shop"), server.url, env, folder)
                wait_until_sync("every service is there", lambda: _all_there(http), seconds=60)
                yield running
        finally:
            for process in processes.values():
                process.signal(signal.SIGTERM)
            for process in processes.values():
                process.stop()


def _all_there(http: httpx.Client) -> bool:
    status = http.get("/v1/status").json()
    workers = {one["service"]: one["workers"] for one in status.get("services", ())}
    return bool(status.get("dispatchers")) and all(workers.get(n) for n in ("stock", "billing", "letters"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser, for the whole run."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="`make ui-test` installs Playwright")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One person's browser. What the console says of errors is a fault of the dashboard, and fails the test."""

    page: Page
    shop: Shop
    wrong: list[str]

    def sign_in(self, secret: str = ADMIN) -> Page:
        """Open the dashboard and sign in."""
        self.page.goto(f"{self.shop.url}/ui/")
        self.page.get_by_label("API key").fill(secret)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("navigation", name="Pages").wait_for()
        return self.page

    def visit(self, path: str) -> Page:
        """Go to a page of the dashboard."""
        self.page.evaluate("path => { location.hash = path }", f"#/{path}")
        self.page.get_by_role("heading", level=1).wait_for()
        return self.page


@pytest.fixture
def open_browser(chromium: Browser, shop: Shop) -> Iterator[Callable[..., Visitor]]:
    """Opens a browser with a window and a theme of its own."""
    contexts: list[BrowserContext] = []
    visitors: list[Visitor] = []

    def opened(width: int = 1440, height: int = 900, scheme: str = "light", **options: Any) -> Visitor:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, timezone_id="UTC", **options
        )
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("pageerror", lambda error: wrong.append(f"{error}"))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        visitors.append(Visitor(page, shop, wrong))
        return visitors[-1]

    yield opened
    for context in contexts:
        context.close()
    # A refused request is said on the console by the browser itself; those are looked at where they are expected.
    said = [text for visitor in visitors for text in visitor.wrong if "Failed to load resource" not in text]
    assert said == []


@pytest.fixture
def visitor(open_browser: Callable[..., Visitor]) -> Visitor:
    """Somebody who has signed in as an operator."""
    found = open_browser()
    found.sign_in()
    return found


@pytest.fixture(scope="session")
def picture() -> Callable[[Page, str], None]:
    """Keeps what a page looks like as `docs/images/ui-<name>.png`."""

    def taken(page: Page, name: str) -> None:
        page.wait_for_timeout(300)
        page.screenshot(path=str(Path(IMAGES) / f"ui-{name}.png"), animations="disabled")

    return taken
