"""Flower as it is deployed: where it listens, what its health check asks, and that it only looks."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack, suppress
from subprocess import run

import httpx
import pytest
from kombu.exceptions import OperationalError
from streammesh import lua
from streammesh.embedded import free_port
from streammesh.keys import Keys
from streammesh.redisio.client import open_sync
from streammesh.setting_kinds import explain
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import register_call
from streammesh.testing.conditions import wait_until_sync
from streammesh.worker.app import MeshCelery, make_app

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


class Stand:
    """Of a worker in one shard what others see of it: it answers `inspect`, and says that it lives."""

    def __init__(self, settings: MeshSettings) -> None:
        self.app = make_app("stand", settings)
        self.name = f"mail-{settings.shard}@here"
        self._listens, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        replies = {
            "ping": {"ok": "pong"},
            "stats": {"pool": {}},
            "active_queues": [],
            "registered": [],
            "conf": {},
        }
        handlers = {name: lambda *_, answer=answer, **__: answer for name, answer in replies.items()}
        with self.app.connection_for_read() as connection:
            channel = connection.channel()
            node = self.app.control.mailbox.Node(self.name, object(), channel, handlers)
            consumer = node.listen(channel)
            events = self.app.events.Dispatcher(connection, hostname=self.name, buffer_while_offline=False)
            while not self._over.is_set():
                events.send("worker-heartbeat", freq=2)
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.3)
                self._listens.set()
            consumer.cancel()

    def __enter__(self) -> Stand:
        self._thread.start()
        assert self._listens.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.app.close()


@pytest.fixture(scope="module")
def sharded(mesh_server):
    """The settings of a mesh of two shards, each with a worker and with as many tasks as its number and one."""
    settings = MeshSettings(_env_file=None, redis_url=mesh_server.url, namespace="flower2", shards=2)
    each = [settings.of_shard(number) for number in range(2)]
    with ExitStack() as stack:
        names = [stack.enter_context(Stand(shard)).name for shard in each]
        for number, shard in enumerate(each):
            with open_sync(shard, "test") as client:
                keys = Keys(shard.namespace)
                lua.run_sync(client, register_call(keys, Manifest("mail", "1", ())))
                for _ in range(number + 1):
                    client.xadd(keys.queue("mail"), {"h": "{}", "b": ""})
        yield settings, names


@pytest.fixture(scope="module")
def app_of():
    """Makes apps; their connections, which apps of one server share, are closed at the end."""
    made = []

    def app_of(settings: MeshSettings) -> MeshCelery:
        made.append(make_app("tests", settings))
        return made[-1]

    yield app_of
    others = [other for app in made for other in app.other_shards]
    for app in others + made:
        app.pool.force_close_all()
        app.close()


def test_it_shows_the_workers_and_the_queues_of_all_shards(sharded, mesh_server, tmp_path):
    settings, names = sharded
    port = free_port()
    env = {"FLOWER_BEHIND_IAP": "true", "FLOWER_PORT": str(port), "FLOWER_UNAUTHENTICATED_API": "true"}
    env |= {"MESH_REDIS_URL": mesh_server.url, "MESH_NAMESPACE": settings.namespace, "MESH_SHARDS": "2"}
    with MeshProcess("flower", "deploy.flower", env, tmp_path), httpx.Client(timeout=20) as client:

        def heard() -> set[str]:
            try:
                found = client.get(f"http://127.0.0.1:{port}/workers?json=1").json()["data"]
            except httpx.TransportError:
                return set()
            return {one["hostname"] for one in found}

        wait_until_sync("it hears both", lambda: heard() == set(names), every=0.3, seconds=60)
        asked = client.get(f"http://127.0.0.1:{port}/api/workers?refresh=true").json()
        assert set(asked) == set(names) and all("stats" in one for one in asked.values())
        lengths = client.get(f"http://127.0.0.1:{port}/api/queues/length").json()["active_queues"]
        assert [one["messages"] for one in lengths if one["name"] == "mail"] == [3]


def test_a_command_reaches_the_workers_of_all_shards_or_of_the_one_that_was_chosen(sharded, app_of):
    settings, names = sharded
    pinned = settings.model_copy(update={"shard": 1})
    for chosen, expected in ((settings.of_shard(0), names), (pinned.of_shard(1), names[1:])):
        answers = app_of(chosen).control.ping(timeout=1, limit=len(expected))
        assert sorted(name for answer in answers for name in answer) == expected


def test_where_a_shard_is_away_the_others_answer_and_an_order_is_not_called_done(sharded, app_of):
    settings, names = sharded
    gone = f"{settings.redis_url} redis://127.0.0.1:{free_port()}/0"
    app = app_of(settings.model_copy(update={"redis_url": gone}).of_shard(0))

    assert [name for answer in app.control.ping(timeout=0.5) for name in answer] == names[:1]
    with pytest.raises(OperationalError):
        app.control.revoke("some-task")


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
