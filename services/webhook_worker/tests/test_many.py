"""A thousand webhooks of which most do not work: what each step costs is bounded."""

from __future__ import annotations

import pytest
from streammesh.api_keys import ApiKeys
from streammesh.notification_log import NotificationLog
from streammesh.webhooks import definition
from streammesh.webhooks import store as store_module
from streammesh.webhooks.definition import Webhook
from streammesh.webhooks.store import WebhookStore

from services.webhook_worker import directory as directory_module
from services.webhook_worker.directory import Directory


@pytest.fixture
async def directory(add, store, mesh_redis, mesh_keys) -> Directory:
    for n in range(5):
        await add(f"wh{n}")
    await add("narrow", event="other")
    made = Directory(store, ApiKeys(mesh_redis, mesh_keys))
    await made.refresh()
    return made


@pytest.mark.parametrize(
    ("deliveries", "asked", "taken"), [(12, 1000, 2), (1, 1000, 1), (1000, 20, 3), (1000, 1000, 20)]
)
async def test_of_a_page_no_more_is_gone_through_than_one_call_queues(
    directory, tell, mesh_redis, mesh_keys, monkeypatch, deliveries, asked, taken
):
    monkeypatch.setattr(directory_module, "MOST_DELIVERIES", deliveries)
    monkeypatch.setattr(directory_module, "MOST_ASKED", asked)
    await tell(20)
    notes = (await NotificationLog(mesh_redis, mesh_keys).read("0-0", 200)).notes
    count, wanted = directory.wanted(notes)

    assert count == taken
    assert {webhook.id: mine for webhook, mine in wanted} == {f"wh{n}": notes[:taken] for n in range(5)}


async def test_only_a_webhook_that_changed_is_parsed_anew(add, store, mesh_redis, mesh_keys, monkeypatch):
    parsed: list[bytes] = []

    def recorded(raw: bytes) -> Webhook:
        parsed.append(raw)
        return from_json(raw)

    from_json = definition.from_json
    monkeypatch.setattr(store_module, "from_json", recorded)
    for n in range(5):
        await add(f"wh{n}")
    reading = WebhookStore(mesh_redis, mesh_keys)
    before = await reading.all()
    await mesh_redis.hset(mesh_keys.webhooks(), "wh5", b"garbage")
    await add("wh6")
    await store.remove("wh1")
    parsed.clear()
    _, after = await reading.all()

    assert len(parsed) == 2  # the garbage and the new one
    assert [one.webhook.id for one in after] == ["wh0", "wh2", "wh3", "wh4", "wh6"]
    assert after[0] is before[1][0]
