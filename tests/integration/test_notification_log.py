"""The stream of notifications: pages, what was trimmed, and the history of one event."""

from __future__ import annotations

import pytest
from streammesh.notification_log import NotificationLog
from streammesh.notifications import position_key


@pytest.fixture
def log(mesh_redis, mesh_keys):
    return NotificationLog(mesh_redis, mesh_keys)


@pytest.fixture
def tell(mesh_redis, mesh_keys):
    async def tell(event="e", source="tests", kind="task.started"):
        body = f'"event":{{"id":"{event}","type":"a.b","source":"{source}","subject":null}},"data":{{}}'
        fields = {"t": kind, "e": event, "k": "", "v": "", "y": "a.b", "u": "", "b": body}
        position = await mesh_redis.xadd(mesh_keys.notifications(), fields)
        row, name = mesh_keys.event(event), f"notes:{source}"
        before = await mesh_redis.hget(row, name)
        if before is None or len(before) < 8192:
            await mesh_redis.hset(row, name, (before + b" " if before else b"") + position)
        return position.decode()

    return tell


async def test_a_page_after_a_position_that_is_still_there_is_whole(log, tell):
    told = [await tell() for _ in range(5)]

    page = await log.read(told[1])

    assert [note.id for note in page.notes] == told[2:]
    assert page.whole
    assert page.last == told[-1]


async def test_reading_from_the_beginning_is_whole_until_something_is_trimmed(
    log, tell, mesh_redis, mesh_keys
):
    told = [await tell() for _ in range(5)]

    before = await log.read("0-0")
    await mesh_redis.xtrim(mesh_keys.notifications(), maxlen=3, approximate=False)
    after = await log.read("0-0")
    at_the_edge = await log.read(told[0])
    behind_it = await log.read(told[2])

    assert (before.whole, after.whole, at_the_edge.whole, behind_it.whole) == (True, False, False, True)
    assert [note.id for note in after.notes] == told[2:]


async def test_a_position_ahead_of_the_stream_is_not_whole(log, tell):
    told = await tell()
    ahead = f"{position_key(told)[0] + 3_600_000}-0"

    assert not (await log.read(ahead)).whole


async def test_an_empty_stream_is_whole_only_for_who_saw_nothing(log):
    assert (await log.read("0-0")).whole
    assert not (await log.read("5-0")).whole


async def test_the_history_of_an_event_holds_its_notifications_only(log, tell):
    mine = [await tell("mine") for _ in range(2)]
    await tell("other")
    await tell("mine", source="elsewhere")
    mine.append(await tell("mine", kind="event.completed"))

    history = await log.history("mine", "tests")

    assert [note.id for note in history.notes] == mine
    assert history.whole
    assert {note.source for note in history.notes} == {"tests"}


async def test_a_history_longer_than_the_row_remembers_is_found_in_the_stream(log, tell):
    told = []
    for _ in range(700):
        told.append(await tell("busy"))
        if len(told) % 100 == 0:
            await tell("other")

    history = await log.history("busy", "tests")

    assert [note.id for note in history.notes] == told
    assert history.whole


async def test_a_trimmed_history_says_so(log, tell, mesh_redis, mesh_keys):
    told = [await tell("old") for _ in range(4)]
    await mesh_redis.xtrim(mesh_keys.notifications(), maxlen=2, approximate=False)

    history = await log.history("old", "tests")

    assert [note.id for note in history.notes] == told[2:]
    assert not history.whole


@pytest.mark.parametrize("bad", ["", "-", "1-", "x", "²-0", "٣", "1-2-3", "99999999999999999999-0", "1-0\n"])
def test_what_is_not_a_position_is_refused(bad):
    with pytest.raises(ValueError, match="position"):
        position_key(bad)


async def test_a_history_from_a_position_on_misses_only_what_comes_after_it(log, tell, mesh_redis, mesh_keys):
    told = [await tell("old") for _ in range(4)]
    await mesh_redis.xtrim(mesh_keys.notifications(), maxlen=2, approximate=False)

    seen_two = await log.history("old", "tests", after=told[1])
    seen_one = await log.history("old", "tests", after=told[0])

    assert [note.id for note in seen_two.notes] == told[2:]
    assert (seen_two.whole, seen_one.whole) == (True, False)
