"""Flower as it is deployed: where it listens, what its health check asks, and that it only looks."""

from __future__ import annotations

import sys
from subprocess import run

import httpx
import pytest
from streammesh.embedded import free_port
from streammesh.setting_kinds import explain
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until_sync
from streammesh.worker.app import make_app

from deploy.flower.settings import FlowerSettings
from tests.harness.processes import ROOT, MeshProcess

AUTH = ("watcher", "a-long-password")
pytest.importorskip("flower")


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({"PORT": "{port}", "FLOWER_BEHIND_IAP": "true"}, ""),
        (
            {
                "FLOWER_PORT": "{port}",
                "PORT": "1",
                "FLOWER_URL_PREFIX": "/flower/",
                "FLOWER_BASIC_AUTH": ":".join(AUTH),
            },
            "/flower",
        ),
    ],
    ids=["behind IAP on PORT", "password and prefix on FLOWER_PORT"],
)
def test_it_listens_where_it_is_told_is_healthy_there_and_only_looks(mesh_server, tmp_path, env, path):
    port = free_port()
    env = {name: value.format(port=port) for name, value in env.items()}
    env |= {"MESH_REDIS_URL": mesh_server.url, "MESH_NAMESPACE": "flower"}
    auth = AUTH if "FLOWER_BASIC_AUTH" in env else None
    with MeshProcess("flower", "deploy.flower", env, tmp_path) as process:
        asked = [sys.executable, "-m", "deploy.flower.healthy"]

        def healthy() -> bool:
            return run(asked, env={**process._env}, cwd=ROOT, capture_output=True).returncode == 0

        wait_until_sync("it is healthy", healthy, every=0.3, seconds=30)
        base = f"http://127.0.0.1:{port}{path}"
        assert httpx.get(f"{base}/", auth=auth).status_code == 200
        if auth:
            assert httpx.get(f"{base}/").status_code == 401
        sent = httpx.post(f"{base}/api/task/send-task/any.task", json={"args": []}, auth=auth)
        assert sent.status_code in (401, 403), sent.text


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "FLOWER_BASIC_AUTH: should be name:password"),
        ({"FLOWER_BASIC_AUTH": "watcher:short"}, "at least 8 letters"),
        ({"FLOWER_BEHIND_IAP": "true", "PORT": "99999"}, "PORT"),
        ({"FLOWER_BEHIND_IAP": "true", "FLOWER_URL_PREFIX": "a b"}, "FLOWER_URL_PREFIX"),
    ],
)
def test_it_does_not_start_open_or_nowhere(monkeypatch, env, said, tmp_path):
    for name in ("FLOWER_BASIC_AUTH", "FLOWER_BEHIND_IAP", "FLOWER_PORT", "FLOWER_URL_PREFIX", "PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="error") as raised:
        FlowerSettings(_env_file=None)
    assert said in explain(raised.value, FlowerSettings)  # type: ignore[arg-type]


def test_it_looks_only_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("FLOWER_BEHIND_IAP", "true")
    assert "--read_only=true" in FlowerSettings(_env_file=None).options
    monkeypatch.setenv("FLOWER_READ_ONLY", "false")
    assert "--read_only=false" in FlowerSettings(_env_file=None).options


def test_a_services_own_flower_looks_only_unless_told_otherwise(monkeypatch):
    """Its default is another one over an app of the mesh; what was said on its command line or in FLOWER_* stays."""
    from flower import options, views

    option = options.options._options["read-only"]
    monkeypatch.setattr(views, "Broker", views.Broker)
    monkeypatch.setattr(option, "default", option.default)
    make_app("flower_test", MeshSettings(_env_file=None)).loader.import_default_modules()

    assert options.options.read_only is True
    monkeypatch.setattr(option, "_value", False)
    assert options.options.read_only is False
