"""PostgreSQL keeps the results of plain tasks, by a setting; deliveries' own stay in the mesh."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import ImproperlyConfigured
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until_sync
from streammesh.worker import config
from streammesh.worker.app import make_app

from tests.harness.postgres import Postgres, folder_of_programs
from tests.harness.processes import MeshProcess
from tests.integration.conftest import Asker, start_mesh

pytestmark = pytest.mark.skipif(folder_of_programs() is None, reason="no PostgreSQL server is installed here")
sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")
PLAIN = "tests.probe_queues.service.plain"
PART = "probe_queues.part"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def running(mesh_server, postgres, tmp_path_factory):
    mesh = start_mesh(
        mesh_server, tmp_path_factory.mktemp("postgres"), "postgres-results", MESH_RESULT_URL=postgres.url
    )
    with (
        MeshProcess("dispatcher", "services.dispatcher", mesh.env, mesh.folder),
        MeshProcess("worker", "tests.probe_queues", mesh.env, mesh.folder),
    ):
        yield mesh


@pytest.fixture
def app(running, postgres):
    settings = running.settings.model_copy(update={"result_url": postgres.url})
    app = make_app("probe_queues", settings)
    yield app
    app.backend.session_manager.invalidate(app.backend.url)


def engine_of(postgres: Postgres):
    url = postgres.url.replace("postgresql:", "postgresql+psycopg:")
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)


def rows(postgres: Postgres) -> list[tuple[Any, ...]]:
    with engine_of(postgres).connect() as connection:
        return list(
            connection.execute(sqlalchemy.text("select task_id, status, result from celery_taskmeta"))
        )


def test_the_result_of_a_plain_task_is_a_row_of_json_there_and_nowhere_in_redis(running, postgres, app):
    result = app.send_task(PART, (7,))

    assert result.get(timeout=20) == "done"
    [row] = [one for one in rows(postgres) if one[0] == result.id]
    assert (row[1], bytes(row[2])) == ("SUCCESS", b'"done"')


async def test_a_workflow_ends_and_its_outcome_is_in_the_mesh(running):
    client = running.client()
    task = await Asker(running, client).run("queues.parted", {"n": 3})

    assert (task.state, task.result) == ("succeeded", "done")
    assert not [key async for key in client.scan_iter(f"{running.keys.prefix}result:*")]
    await client.aclose()


def test_results_that_have_had_their_time_are_removed(postgres, app):
    app.send_task(PART, (8,)).get(timeout=20)
    backend = app.backend
    backend.expires = timedelta(seconds=0.5)
    backend._clean_at = 0.0
    time.sleep(0.6)
    backend.store_result("the-newest", 1, "SUCCESS")

    wait_until_sync("only what is new is there", lambda: {row[0] for row in rows(postgres)} <= {"the-newest"})


def test_a_pickle_in_the_database_is_not_loaded(postgres, app):
    app.backend.store_result("evil", 1, "SUCCESS")
    with engine_of(postgres).begin() as connection:
        connection.execute(
            sqlalchemy.text("update celery_taskmeta set result = :raw where task_id = 'evil'"),
            {"raw": b"\x80\x04K\x01."},
        )
    with pytest.raises(Exception, match=r"codec|utf|JSON|decode"):
        app.AsyncResult("evil").get(timeout=5)


def test_without_its_driver_the_setting_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    settings = MeshSettings(_env_file=None, result_url="postgresql://db/mesh")
    with pytest.raises(ImproperlyConfigured, match=r"streammesh\[postgres\]"):
        config.results_in(settings)


def test_another_kind_of_database_is_refused_at_the_door():
    with pytest.raises(ValueError, match="postgresql://"):
        MeshSettings(_env_file=None, result_url="mysql://db/mesh")
