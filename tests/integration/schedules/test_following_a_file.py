"""A file of schedules that Beats follow while an operator edits it."""

from __future__ import annotations

import os
import random
import time

import orjson
import pytest
from streammesh import lua
from streammesh.schedules import parse_entry, plan_sync
from streammesh.schedules.file_watch import FileWatch
from streammesh.schedules.store import read_call
from streammesh.testing.conditions import wait_until_sync

FILE = """
[schedules.kept]
every = "1h"
misfire = "all"
event = {type = "probe.due", data = {n = 1}}

[schedules.moved]
cron = "0 9 * * *"
event.type = "probe.due"

[schedules.dropped]
every = "1h"
event.type = "probe.due"
"""


def write(path, text):
    """Write a file as if that had been a while ago, so that it counts as whole."""
    path.write_text(text)
    past = time.time() - 60 - random.random()
    os.utime(path, (past, past))


def test_a_file_is_followed_and_an_unchanged_schedule_keeps_its_place(mesh, tmp_path):
    path = tmp_path / "schedules.toml"
    write(path, FILE)
    ticker = mesh.ticker(file=FileWatch(path))
    ticker.tick(5)
    before = mesh.positions()
    late = mesh.now_ms() // 3_600_000 * 3_600_000 - 3_600_000
    mesh.client.zadd(mesh.keys.schedules_due(), {"kept": late})
    mesh.put("by-api", every="2h", origin="api")

    changed = FILE.replace("0 9 * * *", "30 9 * * *").replace("n = 1", "n = 2")
    write(path, changed.replace("dropped", "added"))
    ticker.tick(5)

    assert set(before) == {"kept", "moved", "dropped"}
    after = mesh.positions()
    assert set(after) == {"kept", "moved", "added", "by-api"}
    assert after["moved"] % 86_400_000 == 9.5 * 3_600_000
    assert mesh.fired() == [("kept", late), ("kept", late + 3_600_000)], (
        "the missed ticks came, with the new data"
    )
    assert {event.data["n"] for event in mesh.ticks()} == {2}


def test_a_restart_with_the_same_file_touches_nothing(mesh, tmp_path):
    path = tmp_path / "schedules.toml"
    write(path, FILE)
    mesh.ticker(file=FileWatch(path)).tick(5)
    before = (mesh.positions(), mesh.client.hgetall(mesh.keys.schedules()))

    mesh.ticker(file=FileWatch(path)).tick(5)

    assert (mesh.positions(), mesh.client.hgetall(mesh.keys.schedules())) == before


@pytest.mark.parametrize("broken", ["[schedules", "[schedules.a]\nevery = '1h'", "\xff", None])
def test_a_file_that_becomes_broken_or_goes_away_changes_nothing(mesh, tmp_path, broken):
    path = tmp_path / "schedules.toml"
    write(path, FILE)
    ticker = mesh.ticker(file=FileWatch(path))
    ticker.tick(5)
    before = mesh.positions()

    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken.encode("latin-1"))
        os.utime(path, (1, 1))
    ticker.tick(5)
    assert mesh.positions() == before
    write(path, "")
    ticker.tick(5)

    assert mesh.positions() == {}


def test_a_file_that_is_still_being_written_is_read_when_it_is_whole(mesh, tmp_path):
    path = tmp_path / "schedules.toml"
    write(path, FILE)
    ticker = mesh.ticker(file=FileWatch(path))
    ticker.tick(5)

    path.write_text("")  # an editor has just truncated it
    ticker.tick(5)
    assert set(mesh.positions()) == {"kept", "moved", "dropped"}

    def applied():
        ticker.tick(0.05)
        return mesh.positions() == {}

    wait_until_sync("the empty file counts", applied, seconds=5)


def test_two_beats_may_follow_the_same_file_at_once(mesh, tmp_path):
    path = tmp_path / "schedules.toml"
    write(path, FILE)

    class Meddling:
        """Another Beat stores the same schedules between our read and our write."""

        done = False

        def execute_command(self, *command):
            if command[1] == lua.script("store_schedules").sha and not self.done:
                self.done = True
                mesh.ticker(file=FileWatch(path)).tick(5)
            return mesh.client.execute_command(*command)

    mesh.ticker(Meddling(), file=FileWatch(path)).tick(5)

    assert set(mesh.positions()) == {"kept", "moved", "dropped"}
    now, stored = lua.run_sync(mesh.client, read_call(mesh.keys))
    assert all(orjson.loads(s.raw)["origin"] == "file" for s in stored.values())
    assert plan_sync(stored, [parse_entry(orjson.loads(s.raw)) for s in stored.values()], now) == []
