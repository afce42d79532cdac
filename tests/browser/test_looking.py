"""Signing in, the overview, events, and the page of one event, in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from streammesh.testing.conditions import wait_until_sync

from tests.browser.conftest import ADMIN

pytestmark = pytest.mark.ui


def text_of(page: Any) -> Any:
    return page.get_by_role("main").inner_text()


def test_a_wrong_key_is_refused_and_said(open_browser: Any, shop: Any) -> None:
    page = open_browser().page
    page.goto(f"{shop.url}/ui/")
    page.get_by_label("API key").fill("not-a-key-of-anybody-at-all")
    page.get_by_role("button", name="Sign in").click()

    page.get_by_text("not known, has expired, or was revoked").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_stays_in_its_tab_and_is_forgotten_when_one_signs_out(
    open_browser: Any, shop: Any, picture: Any
) -> None:
    visitor = open_browser(width=1100, height=720)
    visitor.page.goto(f"{shop.url}/ui/")
    visitor.page.get_by_label("API key").wait_for()
    picture(visitor.page, "sign-in")
    page = visitor.sign_in()

    assert page.evaluate("Object.values(sessionStorage)") == [ADMIN]
    assert ADMIN not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
    page.reload()
    page.get_by_text("operator", exact=True).wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def test_each_role_is_shown_and_sees_what_it_may(open_browser: Any, shop: Any) -> None:
    created = {}
    for role, globs in {"viewer": "*", "limited": "invoice.*"}.items():
        created[role] = shop.key(f"a-{role}", globs)
    page = open_browser().sign_in(created["viewer"])
    page.get_by_text("viewer", exact=True).wait_for()
    page.get_by_text("The mesh, now").wait_for()
    assert page.get_by_role("link", name="Audit").count() == 0

    page = open_browser().sign_in(created["limited"])
    page.get_by_text("limited", exact=True).wait_for()
    page.get_by_text("This key may not read every event").wait_for()
    assert "invoice.*" in page.get_by_role("navigation", name="Pages").inner_text()


def test_the_overview_shows_what_flows_from_publishers_to_clients(
    visitor: Any, shop: Any, picture: Any
) -> None:
    page = visitor.visit("overview")
    sources = ("web-shop", "till-4", "partner-api")
    for n in range(45):
        shop.order(source=sources[n % 3], express=n % 4 == 0, gift=n % 5 == 0, card="4711-42")
        page.wait_for_timeout(40)
    shop.publish("cart.changed", {"n": 1}, source="web-shop")
    picked = page.locator(".mesh")
    for name in (*sources, "order", "invoice", "stock", "billing", "letters", "Clients"):
        picked.get_by_text(name, exact=True).first.wait_for()
    wait_until_sync("rates are shown", lambda: re.search(r"\d(\.\d)?/s", picked.inner_text()))
    assert picked.locator("path.edge.busy").count() >= 6
    assert "1 worker" in picked.inner_text()
    picture(page, "overview")
    page.get_by_role("table", name="Notifications, newest first").get_by_text(
        "invoice.issued"
    ).first.wait_for()


def test_a_service_without_workers_is_a_finding_until_it_is_back(visitor: Any, shop: Any) -> None:
    page = visitor.visit("overview")
    shop.processes["letters"].kill()
    try:
        waiting = shop.publish("invoice.issued", {"order_id": 1})
        findings = page.get_by_role("region", name="Findings")
        findings.get_by_text(re.compile("letters: no worker is alive")).wait_for(timeout=60_000)
        page.get_by_text(re.compile(r"\d findings?")).first.wait_for()

        page = visitor.visit(f"event/{waiting}")
        page.get_by_text("no worker of letters is alive").wait_for()
    finally:
        shop.processes["letters"].start()
    page.get_by_text("letters.write succeeded").first.wait_for(timeout=60_000)
    page = visitor.visit("overview")
    page.get_by_role("heading", name="The mesh, now").wait_for()
    page.get_by_role("region", name="Findings").get_by_text("letters: no worker").wait_for(
        state="hidden", timeout=60_000
    )


def test_events_are_found_by_filters_and_come_by_themselves(visitor: Any, shop: Any, picture: Any) -> None:
    first = shop.order(gift=True, note="a word that nobody else says")
    shop.completed(first)
    page = visitor.visit("events")
    table = page.get_by_role("table", name="Events, newest first")
    table.get_by_text("order.placed").first.wait_for()
    before = shop.publish("parcel.lost", {"n": 1}, source="till-4", subject="parcel/1")
    table.get_by_text("parcel.lost").first.wait_for()
    assert table.get_by_role("row").filter(has_text=before).get_by_text("unrouted").count() == 1
    picture(page, "events")

    page.get_by_label("Type").fill("parcel.*")
    table.get_by_text("order.placed").first.wait_for(state="hidden")
    page.get_by_label("Type").fill("")
    page.get_by_label("Text in it").fill("NOBODY else")
    table.get_by_text(first).wait_for()
    wait_until_sync("only that one is shown", lambda: table.get_by_role("row").count() == 2)
    assert "text=NOBODY" in page.url
    table.get_by_role("link", name="order.placed").click()
    page.get_by_role("heading", level=1, name="order.placed").wait_for()


def test_the_page_of_an_event_tells_its_whole_way(visitor: Any, shop: Any, picture: Any) -> None:
    order = shop.publish("order.placed", {"order_id": 70_007, "items": 3, "gift": True}, source="web-shop", subject="order/70007")  # fmt: skip
    reserved = shop.completed(order)["deliveries"]
    follow = next(d["task"]["events"][0]["id"] for d in reserved if d["task"]["name"] == "stock.reserve")
    shop.completed(follow)

    page = visitor.visit(f"event/{order}?source=web-shop")
    page.get_by_text("Completed: every task has ended").wait_for()
    told = text_of(page)
    for word in (
        "Published by web-shop",
        "Matched 2 subscriptions",
        "stock.reserve queued",
        "letters.wish succeeded",
    ):
        assert word in told, word
    assert "billing.surcharge its `where` filter does not fit" in re.sub(r"\s+", " ", told)
    tree = page.locator(".lineage")
    tree.get_by_text("invoice.issued").wait_for()  # two steps away

    tree.get_by_role("link", name="stock.reserved").click()
    page.get_by_role("heading", level=1, name="stock.reserved").wait_for()
    page.get_by_text("billing.charge failed, and is tried again").wait_for()
    page.get_by_text("billing.charge succeeded (attempt 2)").wait_for()
    page.get_by_text("invoice.issued followed").wait_for()
    assert page.locator(".fall-failed:visible").count() >= 1
    assert page.get_by_role("link", name=order).count() == 1
    picture(page, "event")


def test_an_event_is_followed_live(visitor: Any, shop: Any) -> None:
    event = shop.order(seconds=2.5)
    page = visitor.visit(f"event/{event}")
    page.get_by_text("looking through the shelves").first.wait_for()
    assert "Completed" not in text_of(page)
    page.get_by_text("stock.reserve succeeded").wait_for()
    page.get_by_text("Completed: every task has ended").wait_for()
    page.get_by_role("link", name="stock.reserved").first.wait_for()


@pytest.mark.parametrize(
    ("event_type", "why"),
    [("nobody.wants", "no service subscribes to its type"), ("invoice", "no service subscribes to its type")],
)
def test_an_event_that_nothing_ran_for_says_why(visitor: Any, shop: Any, event_type: Any, why: Any) -> None:
    event = shop.publish(event_type)
    visitor.visit(f"event/{event}").get_by_text(why).first.wait_for()


def test_an_unknown_id_says_so_and_a_tasks_id_leads_to_its_event(visitor: Any, shop: Any) -> None:
    event = shop.completed(shop.order())
    page = visitor.visit("event/never-published")
    page.get_by_text("There is no event 'never-published'").wait_for()
    find = page.get_by_role("searchbox", name="Find an event or a task by its id")
    find.fill(event["deliveries"][0]["task_id"])
    find.press("Enter")
    page.get_by_role("heading", level=1, name="order.placed").wait_for()


def test_what_a_user_wrote_is_text_and_never_runs(visitor: Any, shop: Any) -> None:
    bad = "<img src=x onerror='window.broken=1'><script>window.broken=1</script>"
    event = shop.publish(
        "order.placed", {"order_id": 5, "note": bad, bad: 1, "items": 500}, subject=bad, source="web-shop"
    )
    shop.completed(event)
    page = visitor.visit(f"event/{event}")
    page.get_by_text("window.broken=1").first.wait_for()
    visitor.visit("events").get_by_text("window.broken=1").first.wait_for()

    assert page.evaluate("window.broken") is None
    assert page.locator("main img, main script").count() == 0


def test_the_keyboard_alone_leads_to_an_event(visitor: Any, shop: Any) -> None:
    shop.completed(shop.order())
    page = visitor.visit("overview")
    page.keyboard.press("g")
    page.keyboard.press("e")
    page.get_by_role("heading", level=1, name="Events").wait_for()
    table = page.get_by_role("table", name="Events, newest first")
    table.get_by_role("link").first.wait_for()
    page.get_by_label("Follow").uncheck()
    table.get_by_role("link").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=2, name="Timeline").wait_for()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
