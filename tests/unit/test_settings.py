"""A wrong value stops the start with one line that names the variable and what it should be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streammesh.settings import MeshSettings, load_settings, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15), ("500ms", 0.5), ("24h", 86400), ("7d", 604800), ("2", 2), (1.5, 1.5)]
)
def test_durations_are_read_with_their_unit(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MESH_REDIS_URL", "http://127.0.0.1", "redis://"),
        ("MESH_RETENTION", "a week", "7d"),
        ("MESH_LEASE", "1ms", "at least"),
        ("MESH_TIMEZONE", "Mars/Base", "IANA"),
        ("MESH_NAMESPACE", "a:b", "pattern"),
        ("MESH_LOG_FORMAT", "xml", "json"),
        ("MESH_MAX_EVENT_BYTES", "1", "1024"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(monkeypatch, capsys, name, value, says):
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        load_settings(MeshSettings)

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"{name}: ")
    assert says in said
    assert said.count("\n") == 1


def test_the_value_itself_is_not_told_since_it_may_hold_a_password(monkeypatch, capsys):
    monkeypatch.setenv("MESH_REDIS_URL", "reddis://:secret@host")

    with pytest.raises(SystemExit):
        load_settings(MeshSettings)

    assert "secret" not in capsys.readouterr().err
