"""The page of a subscription with limits: its keys, other limits; and what a task streams while it runs."""

from __future__ import annotations

from typing import Any

import pytest
from streammesh.testing.conditions import wait_until_sync

pytestmark = pytest.mark.ui
TASK = "letters.print_catalogue"


def running(shop: Any) -> Any:
    return shop.http.get(f"/v1/subscriptions/{TASK}/keys").json()["running"]


def test_keys_wait_for_their_turn_until_an_operator_raises_the_limit(
    visitor: Any, shop: Any, picture: Any
) -> None:
    wanted = {"town": "Trier", "seconds": 25}
    events = [shop.publish("catalogue.wanted", wanted) for _ in range(3)]
    wait_until_sync("one runs", lambda: running(shop) == 1)
    page = visitor.visit("subscriptions")
    page.get_by_role("link", name=f"Limits and keys of {TASK}").click()
    row = (
        page.get_by_role("table", name="Keys, those that wait first")
        .get_by_role("row")
        .filter(has_text="Trier")
    )
    row.wait_for()
    assert row.get_by_role("cell").all_inner_texts()[:3] == ["Trier", "2", "1"]
    page.get_by_text("key data.town, concurrency 1, total 8, fair").wait_for()
    picture(page, "flow")

    page.get_by_role("button", name="Change limits …").click()
    dialog = page.get_by_role("dialog", name=f"Limits of {TASK}")
    dialog.get_by_label("Starts in a time; what is beyond waits (throttle)").fill("often")
    dialog.get_by_role("button", name="Set the limits").click()
    dialog.get_by_role("alert").get_by_text("throttle").first.wait_for()  # refused where it was said
    assert shop.http.get(f"/v1/subscriptions/{TASK}/keys").json()["set"] == {}
    dialog.get_by_label("Starts in a time; what is beyond waits (throttle)").fill("")
    dialog.get_by_label("Running at once, of one key (concurrency)").fill("3")
    dialog.get_by_role("button", name="Set the limits").click()
    dialog.wait_for(state="hidden")
    page.get_by_text("concurrency 3").wait_for()
    wait_until_sync("all three have a place", lambda: running(shop) == 3)

    page.get_by_role("button", name="Change limits …").click()
    dialog.get_by_label("Running at once, of one key (concurrency)").fill("")
    dialog.get_by_role("button", name="Set the limits").click()
    dialog.wait_for(state="hidden")
    assert shop.http.get(f"/v1/subscriptions/{TASK}/keys").json()["set"] == {}  # taken back

    page = visitor.visit(f"event/{events[-1]}")
    page.locator(".fall-pending").first.wait_for(state="attached")
    page.get_by_text(f"{TASK} waits in line for its turn").wait_for()
    page.get_by_text("Streams", exact=True).click()
    page.get_by_label(f"Name of a stream of {TASK}").fill("page")
    page.get_by_role("button", name="Follow").click()
    stream = page.get_by_role("region", name="The stream page")
    stream.get_by_text("Catalogue for Trier").wait_for()
    for one in events:
        task = shop.event(one)["deliveries"][0]["task_id"]
        shop.http.post(f"/v1/tasks/{task}/cancel")
    page.get_by_text("The task has ended: cancelled.").wait_for()


def test_a_subscription_without_limits_says_so(visitor: Any) -> None:
    page = visitor.visit("subscriptions/stock.reserve")
    page.get_by_text("no limits").wait_for()
    page.get_by_text("No key waits or runs").wait_for()
    assert page.get_by_role("button", name="Change limits …").count() == 0
    visitor.visit("subscriptions/nobody.knows").get_by_text("There is no subscription").first.wait_for()
