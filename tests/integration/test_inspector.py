"""Every process looks at its Redis as it starts, and does not start with one that would lose events."""

from __future__ import annotations

import time

import pytest
from streammesh.embedded import EmbeddedServer
from streammesh.redisio.inspector import Inspector
from streammesh.settings import MeshSettings

from tests.harness.processes import MeshProcess

EVICTING = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
PROCESSES = ("services.dispatcher", "services.api", "services.scheduler", "tests.probe")


@pytest.fixture(scope="module")
def evicting(tmp_path_factory):
    with EmbeddedServer(tmp_path_factory.mktemp("evicting"), appendonly=False, options=EVICTING) as server:
        yield server


@pytest.mark.parametrize("module", PROCESSES)
def test_no_process_starts_with_a_redis_that_evicts(evicting, tmp_path, module):
    env = {"MESH_REDIS_URL": evicting.url, "PROBE_RECORD": str(tmp_path / "x"), "API_PORT": "0"}
    process = MeshProcess("refused", module, env, tmp_path).start()
    deadline = time.monotonic() + 30
    while process.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (process.running, process.stop()) == (False, 2)
    said = process.log.read_text().strip().splitlines()[-1]
    assert "maxmemory-policy" in said and "MESH_ALLOW_EVICTION=true" in said and "Traceback" not in said


def test_who_says_that_evicting_is_allowed_starts(evicting):
    settings = MeshSettings(_env_file=None, redis_url=evicting.url, allow_eviction=True)
    Inspector(settings).start()


def test_a_wrong_password_is_one_line(tmp_path, capsys):
    with EmbeddedServer(
        tmp_path, appendonly=False, options=("--requirepass", "right"), password="right"
    ) as server:
        settings = MeshSettings(_env_file=None, redis_url=f"redis://:wrong@127.0.0.1:{server.port}")
        with pytest.raises(SystemExit):
            Inspector(settings).start()
    said = capsys.readouterr().err
    assert said.startswith("MESH_REDIS_URL: ") and said.count("\n") == 1 and "wrong@" not in said


def test_a_redis_that_is_away_is_waited_for():
    Inspector(MeshSettings(_env_file=None, redis_url="redis://127.0.0.1:1")).start()


def test_a_server_that_hides_its_configuration_is_looked_at_all_the_same(mesh_server):
    settings = MeshSettings(_env_file=None, redis_url=mesh_server.url)
    assert {one.code for one in Inspector(settings).look()} <= {"redis-no-limit", "redis-not-persistent"}


def test_what_was_said_is_said_once(evicting, capsys):
    settings = MeshSettings(_env_file=None, redis_url=evicting.url, allow_eviction=True)
    inspector = Inspector(settings)
    found = inspector.look()
    inspector.report(found)
    first = capsys.readouterr().out
    inspector.report(found)
    assert "redis-evicts" in first and capsys.readouterr().out == ""
