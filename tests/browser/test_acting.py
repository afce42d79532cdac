"""What an operator does in the dashboard: replays, edits, pauses, runs schedules, sends, and is noted doing it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from streammesh.testing.conditions import wait_until_sync

from tests.browser.conftest import MODULES

pytestmark = pytest.mark.ui


def dead(shop: Any, event_id: Any) -> Any:
    """The dead letter of an event, once it is there."""

    def found() -> Any:
        letters = shop.http.get("/v1/dead-letters", params={"limit": 200}).json()["dead_letters"]
        return next((one for one in letters if (one["event"] or {}).get("id") == event_id), None)

    return wait_until_sync(f"event {event_id} has a dead letter", found, seconds=30)


def actions(shop: Any) -> Any:
    return [one["action"] for one in shop.http.get("/v1/audit").json()["actions"]]


def test_a_dead_letter_is_looked_at_and_replayed_after_it_was_said_what_that_does(
    visitor: Any, shop: Any, picture: Any
) -> None:
    event = shop.order(items=500)
    letter = dead(shop, event)
    page = visitor.visit("dead-letters?task=stock.*")
    table = page.get_by_role("table", name="Dead letters, newest first")
    table.get_by_text("500 items are more than the warehouse ever has").first.wait_for()
    picture(page, "dead-letters")

    page = visitor.visit(f"dead-letters/{letter['id']}")
    page.get_by_role("heading", name="The whole event").wait_for()
    assert '"items": 500' in page.get_by_role("region", name="The event's envelope").inner_text()
    page.get_by_role("button", name="Replay …").click()
    dialog = page.get_by_role("dialog", name="Replay this dead letter")
    dialog.get_by_text("1 dead letter would be replayed").wait_for()
    assert "replay" not in actions(shop)  # nothing was done yet
    dialog.get_by_role("button", name="Replay 1").click()
    dialog.get_by_text("1 of 1 replayed.").wait_for()
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("heading", level=1, name="order.placed").wait_for()
    assert actions(shop)[0] == "replay"
    assert dead(shop, event)["at"] > letter["at"]  # tried again, and given up again


def test_a_dead_letter_is_changed_and_sent_anew(visitor: Any, shop: Any) -> None:
    letter = dead(shop, shop.order(items=700))
    page = visitor.visit(f"dead-letters/{letter['id']}")
    page.get_by_role("link", name="Edit and send anew").click()
    data = page.get_by_label("Data, as JSON")
    wait_until_sync("the event is in the form", lambda: "700" in data.input_value())
    data.fill(data.input_value().replace("700", "7").replace("}", ""))
    page.get_by_text("This is no JSON").wait_for()
    assert page.get_by_role("button", name="Send", exact=True).is_disabled()
    data.fill(data.input_value() + "}")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("button", name="Drop it").click()
    page.get_by_text("The dead letter was dropped.").wait_for()
    page.get_by_role("link", name="Follow order.placed").click()
    page.get_by_text("stock.reserve succeeded").wait_for()

    assert shop.http.get(f"/v1/dead-letters/{letter['id']}").status_code == 404


def test_several_dead_letters_are_chosen_and_dropped(visitor: Any, shop: Any) -> None:
    letters = [dead(shop, shop.order(items=800 + n)) for n in range(3)]
    page = visitor.visit("dead-letters?reason=80")
    for letter in letters[:2]:
        page.get_by_label(f"Choose {letter['id']}").check()
    page.get_by_role("button", name="Drop the 2 chosen …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("2 dead letters would be dropped for good").wait_for()
    dialog.get_by_role("button", name="Drop 2").click()
    dialog.get_by_text("2 of 2 dropped.").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")

    left = [shop.http.get(f"/v1/dead-letters/{one['id']}").status_code for one in letters]
    assert left == [404, 404, 200]


def test_a_subscription_is_paused_with_a_reason_and_resumed(visitor: Any, shop: Any, picture: Any) -> None:
    page = visitor.visit("subscriptions")
    page.get_by_role("button", name="Pause letters.wish").click()
    dialog = page.get_by_role("dialog", name="Pause letters.wish")
    dialog.get_by_label("Why; shown to whoever wonders").fill("no more paper")
    dialog.get_by_role("button", name="Pause").click()
    page.get_by_text(re.compile("by hand: no more paper")).wait_for()
    event = shop.order(gift=True)
    page = visitor.visit(f"event/{event}")
    page.get_by_text("letters.wish set aside: its subscription is paused").wait_for()
    page.get_by_text("no more paper").first.wait_for()

    page = visitor.visit("subscriptions")
    page.get_by_text("1 tasks wait").wait_for()
    picture(page, "subscriptions")
    page.get_by_role("button", name="Resume letters.wish").click()
    page.get_by_role("button", name="Pause letters.wish").wait_for()
    visitor.visit(f"event/{event}").get_by_text("letters.wish succeeded").wait_for()


def test_a_schedule_is_run_switched_stored_and_deleted(visitor: Any, shop: Any, picture: Any) -> None:
    page = visitor.visit("schedules")
    page.get_by_text("0 9 * * *").wait_for()
    picture(page, "schedules")
    page.get_by_role("button", name="Run health-check now").click()
    page.get_by_role("link", name="its event").click()
    page.get_by_text("scheduler.check_health succeeded").first.wait_for()

    page = visitor.visit("schedules")
    page.get_by_role("button", name="Switch off weekly-summary").click()
    page.get_by_role("button", name="Switch on weekly-summary").wait_for()
    assert shop.http.get("/v1/schedules/weekly-summary").json()["enabled"] is False

    page.get_by_role("button", name="New schedule …").click()
    page.get_by_label("Name").fill("evening")
    text = page.get_by_label(re.compile("cron or every"))
    text.fill(text.input_value().replace("0 9 * * MON", "61 9 * * *"))
    page.get_by_role("button", name="Store").click()
    page.get_by_text("Bad minute").wait_for()
    text.fill(text.input_value().replace("61 9", "15 21"))
    page.get_by_role("button", name="Store").click()
    page.get_by_text("15 21 * * *").wait_for()
    page.get_by_role("button", name="Edit evening").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("15 21 * * *").wait_for(state="hidden")
    assert shop.http.get("/v1/schedules/evening").status_code == 404


def test_an_event_is_sent_with_what_its_schema_asks_for(visitor: Any, shop: Any, picture: Any) -> None:
    page = visitor.visit("send")
    page.get_by_label("Type").fill("order.placed")
    page.get_by_text("stock.reserve", exact=False).first.wait_for()
    page.get_by_text("stock.reserve needs order_id").wait_for()
    page.get_by_role("button", name="Fill in from the schema").click()
    assert '"order_id": 1' in page.get_by_label("Data, as JSON").input_value()
    page.get_by_label("Subject").fill("order/1")
    picture(page, "send")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("link", name="Follow order.placed").click()
    page.get_by_text("Completed: every task has ended").wait_for()


def test_a_task_that_runs_is_found_with_its_worker_and_cancelled(
    visitor: Any, shop: Any, picture: Any
) -> None:
    event = shop.order(seconds=40)
    page = visitor.visit("tasks?service=stock")
    row = page.get_by_role("table", name="Tasks, newest first").get_by_role("row").filter(has_text="shelves")
    row.get_by_text("started").first.wait_for()
    assert re.search(r"stock-\d+@", row.first.inner_text())
    picture(page, "tasks")
    row.get_by_role("link").first.click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("stock.reserve was cancelled").first.wait_for()
    assert shop.completed(event)["state"] == "completed"


def test_services_show_what_they_declare_and_take(visitor: Any, shop: Any, picture: Any) -> None:
    page = visitor.visit("services")
    page.get_by_text('{"data.express":true}').wait_for()
    picture(page, "services")
    page = visitor.visit("services/stock")
    page.get_by_text("What stock.reserve takes").click()
    assert "order_id" in page.get_by_role("region", name="JSON Schema of stock.reserve").inner_text()


def test_a_report_is_fetched_and_a_service_that_went_is_removed(visitor: Any, shop: Any) -> None:
    with shop.started("report_worker", "services.report_worker"):
        page = visitor.visit("reports")
        page.get_by_label("Title").fill("Sales by region")
        page.get_by_label("Rows, as CSV").fill("region,amount\nnorth,12\nsouth,7\nnorth,3\n")
        page.get_by_label("Column to group by").fill("region")
        page.get_by_role("button", name="Ask for it").click()
        fetch = page.get_by_role("button", name="Fetch Sales by region as PDF")
        fetch.wait_for(timeout=60_000)
        with page.expect_download() as download:
            fetch.click()
        assert download.value.suggested_filename == "Sales by region.pdf"
        assert download.value.path().read_bytes()[:5] == b"%PDF-"

    page = visitor.visit("services/report_worker")
    page.get_by_role("button", name="Remove …").click()
    page.get_by_role("button", name="Remove report_worker").click()
    page.get_by_role("heading", level=1, name="Services").wait_for()
    page.get_by_role("link", name="report_worker").wait_for(state="hidden")
    assert actions(shop)[0] == "remove"


def test_a_viewer_sees_everything_and_can_do_nothing(open_browser: Any, shop: Any) -> None:
    letter = dead(shop, shop.order(items=900))
    visitor = open_browser()
    visitor.sign_in(shop.key("only-looking", "*"))
    for path in (
        "dead-letters",
        f"dead-letters/{letter['id']}",
        "subscriptions",
        "subscriptions/letters.print_catalogue",
        "schedules",
        "services/stock",
        "webhooks",
    ):
        page = visitor.visit(path)
        page.wait_for_timeout(600)  # its streams never end, so the network is never idle
        names = [button.inner_text() for button in page.get_by_role("main").get_by_role("button").all()]
        assert [
            one
            for one in names
            if re.search("Replay|Drop|Pause|Resume|Run|Switch|Remove|Edit|New|Change|Delete", one)
        ] == []
    visitor.visit("audit").get_by_text("This key is no operator's").wait_for()


def test_the_audit_shows_who_did_what(visitor: Any, shop: Any, picture: Any) -> None:
    shop.http.post("/v1/subscriptions/letters.wish/pause", json={"reason": "paper is out"})
    shop.http.post("/v1/subscriptions/letters.wish/resume")
    page = visitor.visit("audit")
    table = page.get_by_role("region", name="What operators did")
    table.get_by_text("paper is out").first.wait_for()
    assert "letters.wish" in table.inner_text() and "admin" in table.inner_text()
    picture(page, "audit")
    page.get_by_label("By the key").fill("nobody")
    page.get_by_text("Nothing fits").wait_for()


def test_the_shop_is_whole(shop: Any) -> None:
    assert {name for name, process in shop.processes.items() if not process.running} == set()
    assert set(MODULES) <= set(shop.processes)


def test_a_handler_that_asks_is_answered(visitor: Any, shop: Any) -> None:
    sent = shop.http.post("/v1/events", json={"type": "loan.asked", "data": {"order_id": 7}}).json()
    page = visitor.visit(f"event/{sent['id']}")
    page.get_by_text("Lend 500 to this customer? (the bank)").first.wait_for()
    page.get_by_text("billing.lend recorded a step").wait_for()
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("billing.lend succeeded").wait_for()
    task = shop.http.get(f"/v1/events/{sent['id']}").json()["deliveries"][0]["task"]
    assert (task["result"], task["attempt"]) == ({"lent": True}, 2)
