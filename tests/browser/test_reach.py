"""Everybody can use it: with a keyboard, on a phone, in the dark, with a screen reader, and when much happens."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis

pytestmark = pytest.mark.ui

PAGES = (
    *(
        "overview",
        "events",
        "tasks?state=ended",
        "dead-letters",
        "services",
        "services/stock",
        "subscriptions",
    ),
    *("schedules", "reports", "send", "audit", "keys", "webhooks", "subscriptions/letters.print_catalogue"),
)
A_MINUTE = 10_000  # notifications
MEASURED_SECONDS = 10


@pytest.fixture
def with_events(shop: Any) -> Any:
    """An event with failures behind it, and its dead letter."""
    event = shop.order(items=500, gift=True)
    shop.completed(event)
    letters = shop.http.get("/v1/dead-letters").json()["dead_letters"]
    return event, letters[0]["id"]


@pytest.fixture
def hook(shop: Any) -> Any:
    """The id of a webhook that is switched off."""
    made = shop.http.post("/v1/webhooks", json={"url": "https://shop.example/looked-at", "enabled": False})
    yield made.json()["id"]
    shop.http.delete(f"/v1/webhooks/{made.json()['id']}")


def settled(page: Any) -> None:
    """Wait until a page has what it asks for; its streams never end, so the network is never idle."""
    page.get_by_text("Asking …").first.wait_for(state="hidden")
    page.wait_for_timeout(600)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_hard_to_read_or_to_reach(
    open_browser: Any, shop: Any, with_events: Any, hook: Any, scheme: Any
) -> None:
    axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")
    axe = axe_playwright.Axe()
    visitor = open_browser(scheme=scheme)
    visitor.page.goto(f"{shop.url}/ui/")
    visitor.page.get_by_label("API key").wait_for()
    found = {"sign-in": axe.run(visitor.page)}
    visitor.sign_in()
    event, letter = with_events
    for path in (*PAGES, f"webhooks/{hook}", f"event/{event}", f"dead-letters/{letter}"):
        page = visitor.visit(path)
        settled(page)
        found[path] = axe.run(page)
    page.get_by_role("button", name="Replay …").click()
    page.get_by_text("would be replayed").wait_for()
    found["a dialog"] = axe.run(page)
    visitor.visit("webhooks").get_by_role("button", name="New webhook …").click()
    page.get_by_role("dialog", name="New webhook").get_by_text("Only of").click()
    found["a form"] = axe.run(page)

    wrong = {
        path: [
            f"{one['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
            for one in results.response["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        for path, results in found.items()
    }
    assert {path: all_of_it for path, all_of_it in wrong.items() if all_of_it} == {}
    assert all(len(results.response["passes"]) > 10 for results in found.values())


def test_a_phone_shows_all_of_it_without_scrolling_sideways(
    open_browser: Any, shop: Any, with_events: Any, hook: Any, picture: Any
) -> None:
    visitor = open_browser(width=390, height=844, scheme="dark", has_touch=True, is_mobile=True)
    page = visitor.page
    page.goto(f"{shop.url}/ui/")
    page.get_by_label("API key").fill("an-operator-key-for-tests-1")
    page.get_by_role("button", name="Sign in").tap()
    page.get_by_role("button", name="Pages").tap()
    page.get_by_role("link", name="Events", exact=True).tap()
    page.get_by_role("heading", level=1, name="Events").wait_for()
    event, letter = with_events
    for path in (*PAGES, f"webhooks/{hook}", f"event/{event}", f"dead-letters/{letter}"):
        page = visitor.visit(path)
        settled(page)
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, path
    visitor.visit(f"event/{event}").get_by_text("Completed: every task has ended").wait_for()
    picture(page, "phone")


def test_the_theme_is_a_persons_choice_and_kept(open_browser: Any, picture: Any, shop: Any) -> None:
    visitor = open_browser(scheme="light")
    page = visitor.sign_in()
    bright = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    page.get_by_role("button", name="Switch between dark and light").click()
    dark = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    page.reload()
    page.get_by_text("The mesh, now").wait_for()

    assert bright != dark == page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    for n in range(60):
        shop.order(source=("web-shop", "till-4", "partner-api")[n % 3], express=n % 3 == 0, gift=n % 4 == 0)
        page.wait_for_timeout(50)
    page.locator("path.edge.busy").first.wait_for(state="attached")
    settled(page)
    picture(page, "dark")


def test_the_first_paint_is_soon(open_browser: Any, shop: Any) -> None:
    page = open_browser().page
    page.goto(f"{shop.url}/ui/")
    page.get_by_label("API key").wait_for()
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"first contentful paint after {paint:.0f} ms")
    assert paint < 1_000  # 300 is wanted on a machine that does nothing else


def test_ten_thousand_notifications_a_minute_cost_less_than_a_fifth_of_a_core(
    visitor: Any, shop: Any
) -> None:
    page = visitor.visit("overview")
    page.get_by_text("The mesh, now").wait_for()
    stop = threading.Event()
    writer = threading.Thread(target=tell_much, args=(shop, stop))
    writer.start()
    try:
        page.wait_for_timeout(2_000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU time of the page's thread
        before, began = busy(session), time.monotonic()
        page.wait_for_timeout(MEASURED_SECONDS * 1000)
        share = (busy(session) - before) / (time.monotonic() - began)
    finally:
        stop.set()
        writer.join()
    rows = page.evaluate("document.querySelectorAll('*').length")
    kept = page.evaluate("performance.memory ? performance.memory.usedJSHeapSize : 0")
    print(f"{100 * share:.1f} % of a core, {rows} elements, {kept / 1e6:.1f} MB of heap")
    assert share < 0.2
    assert rows < 2_500 and kept < 60_000_000
    told = page.get_by_role("table", name="Notifications, newest first").get_by_text("load.made").count()
    assert told > 5


def busy(session: Any) -> Any:
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"]


def tell_much(shop: Any, stop: Any) -> None:
    """Notifications as the scripts write them, at an even pace."""
    client = redis.Redis.from_url(shop.redis_url)
    kinds = ("task.queued", "task.started", "task.succeeded", "event.completed")
    sent, began = 0, time.monotonic()
    while not stop.is_set() and sent < 10 * A_MINUTE:
        due = int((time.monotonic() - began) * A_MINUTE / 60)
        pipeline = client.pipeline(transaction=False)
        for n in range(sent, due):
            event = f"load-{n // 4}"
            about = f'"event":{{"id":"{event}","type":"load.made","source":"load","subject":null}}'
            task = f'"task":{{"id":"t{n // 4}","name":"stock.load","service":"stock","attempt":1}}'
            body = f'{about},{task},"data":{{"tasks":1,"failed":0}}'
            fields = {
                "t": kinds[n % 4],
                "e": event,
                "k": "",
                "v": "stock",
                "y": "load.made",
                "u": "",
                "b": body,
            }
            pipeline.xadd(shop.keys.notifications(), fields, maxlen=200_000)
        pipeline.execute()
        sent = due
        time.sleep(0.05)
    client.close()
