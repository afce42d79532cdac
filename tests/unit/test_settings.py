"""A wrong value stops the start with one line that names the variable and what it should be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh.durations import parse_duration
from streammesh.settings import MeshSettings, load_settings


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
        ("MESH_HOT", "0", "at least"),
        ("MESH_NOTIFICATIONS_AGE", "0", "at least"),
        ("MESH_HISTORY_URL", "sqlite://history.db", "three slashes"),
        ("MESH_HISTORY_URL", "postgresql://mesh:se@cret@host/mesh", "%40"),
        ("MESH_LEASE", "1ms", "at least"),
        ("MESH_TIMEZONE", "Mars/Base", "IANA"),
        ("MESH_NAMESPACE", "a:b", "pattern"),
        ("MESH_LOG_FORMAT", "xml", "json"),
        ("MESH_MAX_EVENT_BYTES", "1", "1024"),
        ("MESH_RETENTION", "99999999999999999d", "longer than any"),
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


class Listed(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LISTED_", env_file=".env", hide_input_in_errors=True)

    hosts: list[str] = []


def test_what_cannot_be_read_at_all_is_one_line_too(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LISTED_HOSTS", "hunter2, b")
    with pytest.raises(SystemExit) as no_json:
        load_settings(Listed)
    monkeypatch.delenv("LISTED_HOSTS")
    (tmp_path / ".env").write_bytes(b"\xff\xfe=1\n")
    with pytest.raises(SystemExit) as no_text:
        load_settings(Listed)
    (tmp_path / ".env").unlink()
    monkeypatch.setenv("MESH_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit) as no_folder:
        load_settings(Listed)

    said = capsys.readouterr().err.splitlines()
    assert [ended.value.code for ended in (no_json, no_text, no_folder)] == [2, 2, 2]
    assert len(said) == 3 and said[0].startswith("LISTED_HOSTS: should be JSON") and "hunter2" not in said[0]
    assert (
        said[1].startswith("the settings cannot be read")
        and said[2] == "MESH_SECRETS_DIR: should be a folder"
    )


def test_a_secret_may_be_a_file_and_a_variable_goes_before_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESH_REDIS_URL", raising=False)
    monkeypatch.setenv("MESH_SECRETS_DIR", str(tmp_path))
    (tmp_path / "mesh_redis_url").write_text("redis://:from-file@host/0\n")
    (tmp_path / "other.d").mkdir()
    assert load_settings(MeshSettings).redis_url == "redis://:from-file@host/0"
    monkeypatch.setenv("MESH_REDIS_URL", "redis://variable/0")
    assert load_settings(MeshSettings).redis_url == "redis://variable/0"
