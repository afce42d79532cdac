"""Redis loses its schedules while a Beat follows a file: the Beat stores them again."""

from __future__ import annotations

import os
import time

from streammesh.schedules.file_watch import FileWatch

FILE = """
[schedules.kept]
every = "1h"
event.type = "probe.due"
"""


def test_schedules_of_a_file_are_stored_again_when_redis_has_lost_them(mesh, tmp_path):
    path = tmp_path / "schedules.toml"
    path.write_text(FILE)
    os.utime(path, (time.time() - 60, time.time() - 60))
    ticker = mesh.ticker(file=FileWatch(path))
    ticker.tick(5)
    before = mesh.positions()
    mesh.client.delete(mesh.keys.schedules(), mesh.keys.schedules_due())

    ticker.tick(5)
    ticker.tick(5)

    assert mesh.positions() == before
    assert set(before) == {"kept"}


def test_a_file_without_schedules_is_no_reason_to_ask_for_ever(mesh, tmp_path):
    path = tmp_path / "schedules.toml"
    path.write_text("")
    os.utime(path, (time.time() - 60, time.time() - 60))
    ticker = mesh.ticker(file=FileWatch(path))

    assert [ticker.tick(5) for _ in range(3)] == [5, 5, 5]
    assert mesh.positions() == {}
