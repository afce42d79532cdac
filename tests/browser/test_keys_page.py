"""API keys in the dashboard: made with a secret that is shown once, found, and revoked; operators alone see the page."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.ui


def test_a_key_is_made_its_secret_is_shown_once_it_works_and_is_revoked(visitor: Any, shop: Any) -> None:
    page = visitor.visit("keys")
    page.get_by_role("button", name="New key …").click()
    dialog = page.get_by_role("dialog", name="New key")
    dialog.get_by_label("Name, also the source").fill("Not A Name")
    dialog.get_by_role("button", name="Make it").click()
    dialog.get_by_role("alert").get_by_text("use lower-case letters").wait_for()  # refused where it was said
    dialog.get_by_label("Name, also the source").fill("warehouse")
    dialog.get_by_label("Types that it may publish").fill("stock.*, parcel.*")
    dialog.get_by_label("Days until it ends").fill("30")
    page.keyboard.press("Enter")  # the keyboard alone

    once = page.get_by_role("dialog", name="Its secret")
    secret = once.get_by_label("Secret", exact=True).inner_text().strip()
    page.mouse.click(5, 5)  # beside it: it stays
    once.get_by_role("button", name="I have it").click()
    card = page.get_by_role("listitem").filter(has_text="warehouse")
    card.get_by_text("publishes stock.*, parcel.*").wait_for()
    assert secret not in page.content() and secret not in shop.http.get("/v1/audit").text

    holder = {"authorization": f"Bearer {secret}"}
    assert httpx.get(f"{shop.url}/v1/key", headers=holder).json()["publish"] == ["stock.*", "parcel.*"]
    page.get_by_role("button", name="Revoke warehouse").click()
    page.get_by_role("dialog", name="Revoke the key").get_by_role("button", name="Revoke", exact=True).click()
    card.wait_for(state="detached")
    assert "warehouse" not in shop.http.get("/v1/keys").text
    page.get_by_text("you are signed in with it").wait_for()  # and has no button


def test_who_is_no_operator_has_no_such_page(open_browser: Any, shop: Any) -> None:
    page = open_browser().sign_in(shop.key("only-looks", "*"))
    assert page.get_by_role("link", name="API keys").count() == 0
