"""Webhooks in the dashboard: made with a secret that is shown once, tried, replayed, switched, changed and deleted."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook
from streammesh.testing.conditions import wait_until_sync

from tests.harness.processes import MeshProcess

pytestmark = pytest.mark.ui


@dataclass
class Receiver:
    """Somebody else's server. `status` is what it answers; `got` is what came, with its headers."""

    url: str = ""
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """One on this machine."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/hooks"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def courier(shop: Any) -> Iterator[None]:
    """The webhook worker, beside the shop's processes."""
    process = MeshProcess("webhook_worker", "services.webhook_worker", shop.env, shop.folder)
    with process:
        yield
        process.signal(signal.SIGTERM)


def hook_of(shop: Any, url: str) -> Any:
    hooks = shop.http.get("/v1/webhooks").json()["webhooks"]
    return next((one for one in hooks if one["url"] == url), None)


def test_a_webhook_is_made_tried_replayed_switched_and_deleted(
    visitor: Any, shop: Any, receiver: Receiver, courier: None, picture: Any
) -> None:
    page = visitor.visit("webhooks")
    page.get_by_role("button", name="New webhook …").click()
    dialog = page.get_by_role("dialog", name="New webhook")
    dialog.get_by_label("URL").fill("http://169.254.169.254/latest/meta-data")
    dialog.get_by_role("button", name="Make it").click()
    dialog.get_by_role("alert").get_by_text(
        "leads into the mesh's own network"
    ).wait_for()  # refused where it was said
    dialog.get_by_label("URL").fill(receiver.url)
    dialog.get_by_label(re.compile("^Types")).fill("task.succeeded, loan.*")
    dialog.get_by_label("What it is for").fill("to the bookkeeper")
    dialog.get_by_role("button", name="Make it").click()

    once = page.get_by_role("dialog", name="Its secret")
    secret = once.get_by_label("Secret", exact=True).inner_text().strip()
    page.mouse.click(5, 5)  # beside it: it stays
    once.get_by_role("button", name="I have it").click()
    page.get_by_role("heading", level=1, name=receiver.url).wait_for()
    assert secret.startswith("whsec_") and secret not in page.content()
    assert secret not in shop.http.get("/v1/audit").text

    page.get_by_role("button", name="Send a test").click()
    attempts = page.get_by_role("table", name="Attempts, newest first")
    attempts.get_by_text("delivered").first.wait_for()
    headers, body = receiver.got[0]
    assert Webhook(secret).verify(body, headers)["type"] == "webhook.test"

    event = shop.order()
    shop.completed(event)
    told = wait_until_sync(
        "the order is told of",
        lambda: [headers["webhook-id"] for headers, body in receiver.got if event.encode() in body],
    )
    page.get_by_role("button", name="Replay …").click()
    page.get_by_role("dialog", name="Deliver again").get_by_role("button", name="Replay").click()
    page.get_by_text("is delivered again, in its order").wait_for()
    again = wait_until_sync(
        "it is told of again",
        lambda: len([1 for headers, _ in receiver.got if headers["webhook-id"] == told[0]]) > 1,
    )
    assert again

    receiver.status = 500
    page.get_by_role("button", name="Send a test").click()
    attempts.get_by_text("it answered 500").first.wait_for()
    picture(page, "webhooks")
    page.get_by_text(re.compile("times? in a row")).wait_for()
    receiver.status = 204

    page.get_by_role("button", name="Switch off").click()
    page.get_by_role("button", name="Switch on").wait_for()
    assert hook_of(shop, receiver.url)["enabled"] is False
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
    page.get_by_role("heading", level=1, name="Webhooks").wait_for()
    assert hook_of(shop, receiver.url) is None


def test_a_secret_is_replaced_and_filters_are_changed_or_refused_in_place(visitor: Any, shop: Any) -> None:
    made = shop.http.post("/v1/webhooks", json={"url": "https://shop.example/a", "enabled": False}).json()
    page = visitor.visit(f"webhooks/{made['id']}")
    page.get_by_role("button", name="Replace secret …").click()
    dialog = page.get_by_role("dialog", name="Replace the secret")
    dialog.get_by_label(re.compile("How long")).fill("a while")
    dialog.get_by_role("button", name="Make a new secret").click()
    dialog.get_by_role("alert").get_by_text("overlap").first.wait_for()
    dialog.get_by_label(re.compile("How long")).fill("1h")
    dialog.get_by_role("button", name="Make a new secret").click()
    once = page.get_by_role("dialog", name="Its secret")
    secret = once.get_by_label("Secret", exact=True).inner_text().strip()
    once.get_by_role("button", name="I have it").click()
    page.get_by_text("2 are valid").wait_for()
    assert secret != made["secret"]

    page.get_by_role("button", name="Edit …").click()
    dialog = page.get_by_role("dialog", name="Edit the webhook")
    dialog.get_by_text("Only of").click()
    dialog.get_by_label("Where, in CEL").fill("data.total >")
    dialog.get_by_role("button", name="Store").click()
    dialog.get_by_role("alert").get_by_text("where").first.wait_for()
    dialog.get_by_label("Where, in CEL").fill("data.total > 100")
    dialog.get_by_label("Service").fill("stock")
    dialog.get_by_role("button", name="Store").click()
    page.get_by_text("service stock · where data.total > 100").wait_for()
    stored = hook_of(shop, "https://shop.example/a")
    assert (stored["where"], stored["service"], stored["enabled"]) == ("data.total > 100", "stock", False)
    shop.http.delete(f"/v1/webhooks/{made['id']}")


def test_who_is_no_operator_sees_the_webhooks_of_the_key_and_changes_nothing(
    open_browser: Any, shop: Any
) -> None:
    secret = shop.key("a-partner", "order.*")
    own = {"authorization": f"Bearer {secret}"}
    made = shop.http.post("/v1/webhooks", json={"url": "https://partner.example/own"}, headers=own).json()
    other = shop.http.post("/v1/webhooks", json={"url": "https://shop.example/other"}).json()
    visitor = open_browser()
    page = visitor.sign_in(secret)
    visitor.visit("webhooks")
    page.get_by_role("link", name="https://partner.example/own").click()
    page.get_by_role("heading", level=1, name="https://partner.example/own").wait_for()
    said = [one.inner_text() for one in page.get_by_role("main").get_by_role("button").all()]
    assert set(said) <= {"Copy id"}
    visitor.visit(f"webhooks/{other['id']}").get_by_text("There is no").first.wait_for()
    for one in (made, other):
        shop.http.delete(f"/v1/webhooks/{one['id']}")
