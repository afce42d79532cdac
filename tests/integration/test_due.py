"""What is due goes where it was going, and what cannot go there holds up nobody and is not lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from streammesh.clock import rfc3339
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.key_types import set_aside
from streammesh.tasks.due_set import BROKEN_AGAIN_MS, DueSet


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff",
        b"[]",
        b"5",
        b'{"kind":"task","task":"x","queue":"QUEUE","h":{},"b":""}',
        b'{"kind":"task","task":"x","queue":"QUEUE","h":"","b":7}',
        b'{"kind":"task","task":["x"],"queue":"QUEUE"}',
        b'{"kind":"task","task":"x","queue":"somebody:elses"}',
        b'{"kind":"event","id":5,"source":"s","domain":"order","digest":"0","json":"{}"}',
        b'{"kind":"event","id":"\\ud800","source":"s","domain":"order","digest":"0","json":"{}"}',
        b'{"kind":"nothing"}',
    ],
)
async def test_an_entry_that_cannot_be_read_holds_nobody_up(garbage, mesh_redis, mesh_keys, mesh_settings):
    publisher = Publisher(mesh_redis, mesh_keys, mesh_settings, "tests")
    at = {"deliverat": rfc3339(datetime.now(UTC) + timedelta(hours=1))}
    await publisher.publish_events([envelope.make("order.made", {}, source="tests", extensions=at)])
    due = DueSet(mesh_redis, mesh_keys)
    later = await due.now_ms() + 2 * 3_600_000
    raw = garbage.replace(b"QUEUE", mesh_keys.queue("billing").encode())
    await mesh_redis.hset(mesh_keys.due_entries(), mapping={"task:x": raw, "entry:x 1-1": raw, b"\xff": raw})
    await mesh_redis.zadd(mesh_keys.due(), {"task:x": 1, "entry:x 1-1": float("-inf"), b"\xff": 2})

    assert await due.promote(later) == 1
    assert await due.promote(later) == 0
    assert await mesh_redis.xlen(mesh_keys.events("order")) == 1
    assert not await mesh_redis.exists("somebody:elses")
    # A task that lies nowhere now is queued again from its event; the others wait for whoever mends them.
    assert await mesh_redis.zscore(mesh_keys.due(), "task:x") is None
    assert await mesh_redis.zscore(mesh_keys.due(), "entry:x 1-1") == later + BROKEN_AGAIN_MS


async def test_a_delayed_event_whose_stream_is_something_else_gets_a_new_stream_and_goes(
    mesh_redis, mesh_keys, mesh_settings
):
    publisher = Publisher(mesh_redis, mesh_keys, mesh_settings, "tests")
    at = {"deliverat": rfc3339(datetime.now(UTC) + timedelta(hours=1))}
    await publisher.publish_events(
        [envelope.make(f"{domain}.made", {}, source="tests", extensions=at) for domain in ("order", "user")]
    )
    await mesh_redis.set(mesh_keys.events("order"), "no stream")
    due = DueSet(mesh_redis, mesh_keys)
    later = await due.now_ms() + 2 * 3_600_000

    assert await due.promote(later) == 2
    assert await mesh_redis.get(set_aside(mesh_keys.events("order"))) == b"no stream"
    [(_, fields)] = await mesh_redis.xrange(mesh_keys.events("order"))
    assert b'"order.made"' in fields[b"e"]
    assert await mesh_redis.xlen(mesh_keys.events("user")) == 1
    assert await mesh_redis.zcard(mesh_keys.due()) == 0
