"""Very many schedules that are due at one moment: few calls, and several Beats share them."""

from __future__ import annotations

from collections import Counter

from streammesh import lua
from streammesh.schedules import Change, parse_entry
from streammesh.schedules.store import store_call

CROWD = 1_500


def test_two_beats_share_what_is_due_at_one_moment_in_few_calls_each_tick_once(mesh):
    beats = [mesh.ticker(name=f"beat@test:{n}") for n in range(2)]
    for beat in beats:
        beat.tick(5)  # each says that it is alive
    now = mesh.now_ms()
    raw = [
        parse_entry({"name": f"s{n}", "every": "1h", "event": {"type": "probe.due"}}) for n in range(CROWD)
    ]
    changes = [Change(entry.name, b"", entry.to_json(), now) for entry in raw]
    stored: list[bool] = lua.run_sync(mesh.client, store_call(mesh.keys, changes))
    assert all(stored)

    fired: list[set[str]] = [set(), set()]
    before = mesh.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    for turn in range(4):
        seen = {name for name, _ in mesh.fired()}
        beats[turn % 2].tick(5)
        fired[turn % 2] |= {name for name, _ in mesh.fired()} - seen
    calls = mesh.client.info("commandstats")["cmdstat_evalsha"]["calls"] - before

    assert Counter(name for name, _ in mesh.fired()).most_common(1)[0][1] == 1
    assert len(fired[0] | fired[1]) == CROWD
    assert min(len(names) for names in fired) >= CROWD // 3
    assert calls <= 4 + CROWD // 100 + 4


def test_what_a_beat_that_is_gone_would_have_done_the_others_do(mesh):
    mesh.ticker(name="beat@test:gone").tick(5)
    beat = mesh.ticker(name="beat@test:here")
    beat.tick(5)
    now = mesh.now_ms()
    for n in range(3):
        mesh.put(f"s{n}", now, every="1h")
    changes = []
    for n in range(1_200):
        entry = parse_entry({"name": f"c{n}", "every": "1h", "event": {"type": "probe.due"}})
        changes.append(Change(entry.name, b"", entry.to_json(), now))
    stored: list[bool] = lua.run_sync(mesh.client, store_call(mesh.keys, changes))
    assert all(stored)

    for _ in range(6):
        wait = beat.tick(5)

    assert (len({name for name, _ in mesh.fired()}), wait > 1) == (1_203, True)
