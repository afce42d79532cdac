"""What is due goes where it was going, and what cannot go there holds up nobody and is not lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from streammesh.clock import rfc3339
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.keys import set_aside
from streammesh.tasks.delayed import DueSet


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
