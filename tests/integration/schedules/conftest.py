"""The schedules and ticks of one test's mesh."""

from __future__ import annotations

import pytest
from streammesh import lua
from streammesh.events import envelope
from streammesh.schedules import Change, next_due, parse_entry
from streammesh.schedules.store import read_call, store_call
from streammesh.schedules.ticker import Ticker


class Mesh:
    """The schedules and ticks of one test's mesh."""

    def __init__(self, settings, keys, client):
        self.settings, self.keys, self.client = settings, keys, client

    def now_ms(self):
        seconds, micros = self.client.time()
        return seconds * 1000 + micros // 1000

    def put(self, name, stands_at=None, **changes):
        """Store a schedule that stands at `stands_at`, by default at its next time."""
        schedule = parse_entry(
            {"name": name, "every": "1s", "event": {"type": "probe.due"}, "misfire": "all", **changes}
        )
        position = stands_at or next_due(schedule, self.now_ms())
        change = Change(name, b"", schedule.to_json(), position if schedule.enabled else "none")
        assert lua.run_sync(self.client, store_call(self.keys, [change])) == [True]
        return position

    def positions(self):
        _, stored = lua.run_sync(self.client, read_call(self.keys))
        return {name: s.stands_at for name, s in stored.items()}

    def ticks(self, domain="probe"):
        return [envelope.from_json(f[b"e"]) for _, f in self.client.xrange(self.keys.events(domain))]

    def fired(self):
        """(schedule, due time in ms) of every tick in the stream, in order."""
        return [(e.data["schedule"], envelope._ms(e.data["due_at"])) for e in self.ticks()]

    def ticker(self, client=None, name="beat@test:1", file=None):
        return Ticker(client or self.client, self.keys, self.settings, name, file)


@pytest.fixture
def mesh(mesh_settings, mesh_keys, mesh_redis_sync):
    return Mesh(mesh_settings, mesh_keys, mesh_redis_sync)
