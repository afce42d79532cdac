"""Publishing: once per identity, all or nothing, held until its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from streammesh.errors import EventConflict
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.tasks.due_set import DueSet


@pytest.fixture
def publisher(mesh_redis, mesh_keys, mesh_settings):
    return Publisher(mesh_redis, mesh_keys, mesh_settings, source="tests")


async def test_an_event_is_stored_once_however_often_it_is_published(publisher, mesh_redis, mesh_keys):
    event = envelope.make("order.placed", {"n": 1}, source="tests", id="one")

    first = (await publisher.publish_events([event]))[0]
    second = (await publisher.publish_events([event]))[0]

    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.entry == second.entry
    assert await mesh_redis.xlen(mesh_keys.events("order")) == 1


async def test_the_same_identity_with_other_content_is_refused_and_the_whole_batch_with_it(
    publisher, mesh_redis, mesh_keys
):
    await publisher.publish("order.placed", {"n": 1}, id="one")
    batch = [
        envelope.make("order.placed", {"n": 5}, source="tests", id="two"),
        envelope.make("order.placed", {"n": 2}, source="tests", id="one"),
    ]

    with pytest.raises(EventConflict) as refused:
        await publisher.publish_events(batch)

    assert refused.value.index == 1
    assert await mesh_redis.xlen(mesh_keys.events("order")) == 1
    assert not await mesh_redis.exists(mesh_keys.event("two"))


async def test_a_duplicate_within_one_batch_is_stored_once(publisher, mesh_redis, mesh_keys):
    event = envelope.make("order.placed", {"n": 1}, source="tests", id="one")

    answers = await publisher.publish_events([event, event])

    assert [a.duplicate for a in answers] == [False, True]
    assert answers[0].entry == answers[1].entry
    assert await mesh_redis.xlen(mesh_keys.events("order")) == 1


async def test_an_event_for_later_waits_and_is_moved_once_when_due(publisher, mesh_redis, mesh_keys):
    later = datetime.now(UTC) + timedelta(hours=1)
    held = await publisher.publish("order.placed", {"n": 1}, id="later", deliver_at=later)
    due = DueSet(mesh_redis, mesh_keys)

    assert held.entry == "held"
    assert await mesh_redis.xlen(mesh_keys.events("order")) == 0
    moved_early = await due.promote(round(datetime.now(UTC).timestamp() * 1000))
    moved = [await due.promote(round(later.timestamp() * 1000) + 1) for _ in range(2)]

    assert (moved_early, moved) == (0, [1, 0])
    entries = await mesh_redis.xrange(mesh_keys.events("order"))
    assert envelope.from_json(entries[0][1][b"e"]).id == "later"
    assert (await mesh_redis.hget(mesh_keys.event("later"), "at:tests")).startswith(entries[0][0])


async def test_an_event_is_a_duplicate_for_as_long_as_its_row_lives(mesh_redis, mesh_keys, mesh_settings):
    settings = mesh_settings.model_copy(update={"dedup_window": timedelta(milliseconds=100)})
    publisher = Publisher(mesh_redis, mesh_keys, settings, source="tests")
    await publisher.publish("order.placed", {"n": 1}, id="one")
    lifetime = await mesh_redis.pttl(mesh_keys.event("one"))
    published = (await mesh_redis.hget(mesh_keys.event("one"), "at:tests")).split()
    published[1] = str(int(published[1]) - 10_000).encode()  # ten seconds ago
    await mesh_redis.hset(mesh_keys.event("one"), "at:tests", b" ".join(published))

    again = await publisher.publish("order.placed", {"n": 1}, id="one")

    assert again.duplicate
    assert lifetime > settings.retention.total_seconds() * 1000 - 60_000
