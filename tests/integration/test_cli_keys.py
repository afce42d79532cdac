"""`streammesh keys`, straight at a real server."""

from __future__ import annotations

import json

import orjson
import pytest
from streammesh.cli.commands import app
from typer.testing import CliRunner


@pytest.fixture
def keys(mesh_settings, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESH_REDIS_URL", mesh_settings.redis_url)
    monkeypatch.setenv("MESH_NAMESPACE", mesh_settings.namespace)

    def run(*arguments: str):
        return CliRunner().invoke(app, ["keys", *arguments])

    return run


def test_a_key_is_printed_once_and_listed_without_its_secret(keys):
    secret = keys("create", "shop", "--publish", "order.*", "--subscribe", "*", "--rate", "50").stdout.strip()
    listed = keys("list", "--json").stdout

    assert secret.startswith("smk_")
    assert secret not in listed and secret not in keys("list").stdout
    [shown] = json.loads(listed)
    assert (shown["name"], shown["publish"], shown["subscribe"]) == ("shop", ["order.*"], ["*"])
    assert (shown["admin"], shown["rate"]) == (False, 50)


def test_a_revoked_key_is_gone(keys):
    keys("create", "shop", "--admin")
    assert keys("revoke", "shop").stdout == "revoked shop\n"
    assert json.loads(keys("list", "--json").stdout) == []
    assert (keys("revoke", "shop").exit_code, "no key called 'shop'" in keys("revoke", "shop").stderr) == (
        1,
        True,
    )


def test_what_is_made_rotated_and_revoked_is_in_the_audit_without_a_secret(keys, mesh_redis_sync, mesh_keys):
    secrets = [keys("create", "shop", "--publish", "order.*").stdout.strip()]
    keys("create", "shop")
    secrets.append(keys("rotate", "shop").stdout.strip())
    keys("revoke", "shop")
    keys("revoke", "shop")
    keys("list")
    noted = [orjson.loads(fields[b"a"]) for _, fields in mesh_redis_sync.xrange(mesh_keys.audit())]

    assert [(one["action"], one["about"], one["status"]) for one in noted] == [
        ("create_key", "shop", 200),
        ("create_key", "shop", 409),
        ("rotate_key", "shop", 200),
        ("revoke_key", "shop", 200),
        ("revoke_key", "shop", 404),
    ]
    assert noted[0]["said"]["publish"] == ["order.*"] and noted[0]["actor"].startswith("cli:")
    assert not any(secret in str(noted) for secret in secrets)


@pytest.mark.parametrize(
    "arguments",
    [("Shop",), ("shop", "--publish", ""), ("shop", "--rate", "0"), ("shop", "--rate", "1000001")],
)
def test_what_cannot_be_a_key_is_one_line_and_nothing_is_stored(keys, arguments):
    made = keys("create", *arguments)
    assert (made.exit_code, made.stdout) == (1, "")
    assert made.stderr.startswith("error: ") and made.stderr.count("\n") == 1
    assert json.loads(keys("list", "--json").stdout) == []


def test_a_redis_that_is_away_is_one_line(keys, monkeypatch):
    monkeypatch.setenv("MESH_REDIS_URL", "redis://127.0.0.1:1/0")
    listed = keys("list")
    assert (listed.exit_code, listed.stdout) == (3, "")
    assert listed.stderr.startswith("error: Redis at MESH_REDIS_URL cannot be reached")
