"""Ticks on a real server: each fires once, whoever fires it and whoever dies; none is lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter

import pytest
from streammesh import lua, names
from streammesh.clock import rfc3339_ms
from streammesh.events import envelope
from streammesh.events.encoded import seal
from streammesh.events.publisher import publish_call
from streammesh.redisio.client import open_sync
from streammesh.schedules import Change
from streammesh.schedules.file_watch import FileWatch
from streammesh.schedules.store import store_call
from streammesh.schedules.ticker import Ticker
from structlog.testing import capture_logs

# --- one Beat ---------------------------------------------------------------------------------


def test_a_due_schedule_is_published_as_an_event_and_moves_on(mesh):
    due = mesh.put("yearly", mesh.now_ms() // 1000 * 1000 - 1000, every="366d", misfire="latest")

    wait = mesh.ticker().tick(5)

    (event,) = mesh.ticks()
    assert (event.id, event.source, event.type) == (names.tick_id("yearly", due), "scheduler", "probe.due")
    assert mesh.client.hget(mesh.keys.event(event.id), "at:scheduler")
    assert mesh.client.hget(mesh.keys.counters(), "published") == b"1"
    assert mesh.positions()["yearly"] > mesh.now_ms()
    assert 0 < wait <= 5


def test_with_nothing_due_a_wake_up_is_one_round_trip_and_says_when_to_come_back(mesh):
    calls = []

    class Counting:
        def execute_command(self, *command):
            calls.append(command[0])
            return mesh.client.execute_command(*command)

    mesh.put("later", mesh.now_ms() + 2_000, every="1h")
    ticker = mesh.ticker(Counting())
    ticker.tick(5)
    calls.clear()

    wait = ticker.tick(5)

    assert calls == ["EVALSHA"]
    assert 1.5 < wait < 2.1
    assert mesh.client.zscore(mesh.keys.alive("beat"), "beat@test:1")


def test_a_schedule_that_is_switched_off_never_fires(mesh):
    mesh.put("off", enabled=False)

    assert mesh.ticker().tick(5) == 5
    assert mesh.ticks() == []


def test_more_ticks_than_fit_into_one_call_follow_at_once(mesh):
    start = mesh.now_ms() // 1000 * 1000 - 250_000
    mesh.put("busy", start)
    ticker = mesh.ticker()

    waits = [ticker.tick(5) for _ in range(2)]
    ticker.tick(5)

    assert waits == [0.0, 0.0]
    assert [ms for _, ms in mesh.fired()][:250] == list(range(start, start + 250_000, 1000))


def test_a_broken_schedule_neither_stops_the_others_nor_keeps_beat_busy(mesh):
    past = mesh.now_ms() // 1000 * 1000 - 1000
    mesh.client.hset(mesh.keys.schedules(), mapping={"broken": b"{", "older": b'{"name": "older", "new": 1}'})
    mesh.client.zadd(mesh.keys.schedules_due(), {"broken": past, "older": past, "gone": past})
    mesh.put("fine", past, every="1h", misfire="latest")
    ticker = mesh.ticker()

    ticker.tick(5)
    waits = [ticker.tick(5) for _ in range(3)]

    assert [name for name, _ in mesh.fired()] == ["fine"]
    assert min(waits) > 0.5 or mesh.positions()["fine"] - mesh.now_ms() < 1_000
    assert mesh.client.zscore(mesh.keys.schedules_due(), "gone") is None
    assert mesh.client.zscore(mesh.keys.schedules_due(), "broken") == past


def test_names_and_times_that_no_schedule_has_neither_stop_the_others_nor_come_again_at_once(mesh):
    past = mesh.now_ms() // 1000 * 1000 - 1000
    due = mesh.keys.schedules_due()
    mesh.client.zadd(due, {b"\xff\xfe": past, "lowest": float("-inf"), "never": float("inf"), "before": -5})
    mesh.client.hset(mesh.keys.schedules(), mapping={b"\xff\xfe": b"\xff", "lowest": b"null", "before": b"5"})
    mesh.put("fine", past, every="1h", misfire="latest")
    ticker = mesh.ticker()

    ticker.tick(5)
    ticker.tick(5)

    assert [name for name, _ in mesh.fired()] == ["fine"]
    assert mesh.client.zrange(due, "-inf", mesh.now_ms(), byscore=True) == []


def test_a_schedule_of_the_file_that_became_garbage_is_put_back(mesh, tmp_path):
    path = tmp_path / "schedules.toml"
    path.write_text("[schedules.busy]\nevery = '1s'\nevent.type = 'probe.due'\n")
    ticker = mesh.ticker(file=FileWatch(path))
    ticker.tick(5)
    mesh.client.hset(mesh.keys.schedules(), "busy", b"\xff\xfe")
    mesh.client.zadd(mesh.keys.schedules_due(), {"busy": 1})

    for _ in range(3):
        ticker.tick(5)

    assert mesh.positions()["busy"] > mesh.now_ms() - 2_000
    assert b"probe.due" in mesh.client.hget(mesh.keys.schedules(), "busy")


@pytest.mark.parametrize(("misfire", "expected"), [("skip", 0), ("latest", 1), ("all", 3)])
def test_after_an_absence_the_policy_decides_what_is_made_up_for(mesh, misfire, expected):
    hour = 3_600_000
    newest = mesh.now_ms() // hour * hour
    if mesh.now_ms() - newest < 90_000 and misfire == "skip":
        expected = 1  # the newest tick is on time in the first minute of an hour
    mesh.put("hourly", newest - 2 * hour, every="1h", misfire=misfire)

    mesh.ticker().tick(5)

    due = [ms for _, ms in mesh.fired()]
    assert due == [newest - back * hour for back in reversed(range(expected))]
    assert mesh.positions()["hourly"] == newest + hour


def test_of_an_event_that_was_there_before_a_tick_the_log_says_so(mesh):
    """Whoever has written into Redis an event with the identity of a tick: the schedule goes on, and it is told."""
    second = mesh.now_ms() // 1000 * 1000 - 2_000
    due = mesh.put("squatted", second, misfire="all")
    taken = envelope.make("other.thing", {}, source="scheduler", id=names.tick_id("squatted", due))
    lua.run_sync(mesh.client, publish_call(mesh.keys, mesh.settings, [seal(taken)]))

    with capture_logs() as told:
        mesh.ticker().tick(5)

    events = [(one["event"], one["log_level"]) for one in told if one.get("due_at") == rfc3339_ms(due)]
    assert events == [("schedule.tick_conflict", "error")]
    assert (names.tick_id("squatted", due)) not in {event.id for event in mesh.ticks()}
    assert mesh.ticks()  # the next one


# --- several Beats ----------------------------------------------------------------------------


class Meeting:
    """A client whose ticks are held until as many Beats have read the same due schedules."""

    tick = lua.script("tick").sha

    def __init__(self, client, barrier):
        self._client, self._barrier = client, barrier

    def execute_command(self, *command):
        if command[1] == self.tick:
            self._barrier.wait(10)
        return self._client.execute_command(*command)


def test_beats_that_read_the_same_due_schedules_fire_each_once(mesh):
    start = mesh.now_ms() // 1000 * 1000 - 5_000
    for i in range(30):
        mesh.put(f"s{i:02}", start, every="366d", misfire="all")
    barrier, beats = threading.Barrier(4), []
    clients = [open_sync(mesh.settings, "beat") for _ in range(4)]
    for i, client in enumerate(clients):
        ticker = mesh.ticker(Meeting(client, barrier), f"beat@test:{i}")
        beats.append(threading.Thread(target=ticker.tick, args=(5,)))

    for beat in beats:
        beat.start()
    for beat in beats:
        beat.join(20)
    for client in clients:
        client.close()

    assert not barrier.broken
    fired = mesh.fired()
    assert sorted(fired) == sorted({(f"s{i:02}", start) for i in range(30)})


def test_a_repeat_after_a_lost_reply_fires_nothing_twice(mesh):
    class Repeating:
        def execute_command(self, *command):
            mesh.client.execute_command(*command)
            return mesh.client.execute_command(*command)

    start = mesh.put("yearly", mesh.now_ms() // 1000 * 1000 - 1000, every="366d")
    mesh.client.script_load(lua.script("tick").text)
    mesh.client.script_load(lua.script("read_due_schedules").text)

    mesh.ticker(Repeating()).tick(5)

    assert mesh.fired() == [("yearly", start)]


def test_a_schedule_set_back_to_a_time_that_fired_does_not_fire_it_again(mesh):
    start = mesh.put("yearly", mesh.now_ms() // 1000 * 1000 - 1000, every="366d", misfire="latest")
    mesh.ticker().tick(5)
    before = mesh.fired()
    mesh.client.zadd(mesh.keys.schedules_due(), {"yearly": start})

    mesh.ticker().tick(5)

    assert mesh.fired() == before
    assert mesh.positions()["yearly"] > mesh.now_ms()


def test_a_schedule_that_changed_after_it_was_read_is_not_fired_as_it_was(mesh):
    mesh.put("yearly", mesh.now_ms() // 1000 * 1000 - 1000, every="366d")

    class Changing:
        def execute_command(self, *command):
            if command[1] == lua.script("tick").sha:
                raw = mesh.client.hget(mesh.keys.schedules(), "yearly")
                mesh.client.hset(mesh.keys.schedules(), "yearly", raw.replace(b"probe.due", b"probe.new"))
            return mesh.client.execute_command(*command)

    mesh.ticker(Changing()).tick(5)
    assert mesh.ticks() == []
    mesh.ticker().tick(5)

    assert [event.type for event in mesh.ticks()] == ["probe.new"]


def test_a_beat_that_slept_after_its_read_does_not_move_a_schedule_back(mesh):
    start = mesh.put("busy", mesh.now_ms() // 1000 * 1000 - 150_000)

    class Sleeping:
        """Between its read and its tick, another Beat has caught up."""

        def execute_command(self, *command):
            if command[1] == lua.script("tick").sha:
                while mesh.ticker().tick(5) == 0:
                    pass
                self.caught_up = mesh.positions()["busy"]
            return mesh.client.execute_command(*command)

    sleeping = Sleeping()
    mesh.ticker(sleeping).tick(5)

    assert mesh.positions()["busy"] == sleeping.caught_up > start + 150_000
    assert max(Counter(mesh.fired()).values()) == 1


def test_a_change_planned_from_what_is_no_longer_so_is_not_made(mesh):
    position = mesh.put("hourly", every="1h")
    stale = [
        Change("hourly", b"{}", b"", "none"),
        Change("hourly", b"", b"{}", 1),
        Change("new", b"{}", b"{}", 1),
    ]

    assert lua.run_sync(mesh.client, store_call(mesh.keys, stale)) == [False, False, False]
    assert mesh.positions() == {"hourly": position}


def beat_process(settings, keys, number):
    """A Beat that lives until it is killed."""
    ticker = Ticker(open_sync(settings, "beat"), keys, settings, f"beat@test:{number}")
    while True:
        time.sleep(ticker.tick(0.05))


def test_beats_killed_at_random_between_and_within_ticks_lose_and_repeat_none(mesh):
    dice, forks = random.Random(20261122), multiprocessing.get_context("fork")
    count = 5_000
    start = mesh.now_ms() // 1000 * 1000 - count * 1000
    mesh.put("busy", start, window="30d")
    mesh.put("calm", start, every="7s", window="30d")
    beats, kills = [], 0

    def spawn():
        beat = forks.Process(target=beat_process, args=(mesh.settings, mesh.keys, kills))
        beat.start()
        beats.append(beat)

    for _ in range(2):
        spawn()
    try:
        while min(mesh.positions().values()) < start + count * 1000:
            time.sleep(dice.uniform(0.005, 0.06))
            victim = beats.pop(dice.randrange(2))
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()
            kills += 1
            spawn()
    finally:
        for beat in beats:
            beat.kill()
            beat.join()

    seen = Counter(mesh.fired())
    expected = {("busy", start + i * 1000) for i in range(count)}
    expected |= {("calm", ms) for ms in range(start, start + count * 1000) if ms == start or ms % 7_000 == 0}
    assert expected <= set(seen), "ticks were lost"
    assert max(seen.values()) == 1, "ticks happened twice"
    assert kills >= 5
