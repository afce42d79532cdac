"""A new team joins a mesh that runs: its folder is put beside the others, its worker is started, that is all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streammesh.cli.found_programs import find_services
from streammesh.redisio.heartbeat import alive
from streammesh.testing.conditions import wait_until

from tests.harness.processes import ROOT, MeshProcess

SERVICES: list[str] = []  # the dispatcher alone; the team comes later
CONTRIBUTION = ROOT / "examples" / "audit_worker"
EUROS = {"order_id": 7, "total": 9.5, "currency": "EUR"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository's services, with the team's folder beside them."""
    root = tmp_path_factory.mktemp("tree")
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "services", root / "services", ignore=leave)
    shutil.copytree(CONTRIBUTION, root / "services" / "audit_worker", ignore=leave)
    return root


@pytest.fixture(scope="module")
def log_file(tree: Path) -> Path:
    return tree / "audit.jsonl"


@pytest.fixture(scope="module")
def worker(mesh, tree: Path, log_file: Path) -> Iterator[MeshProcess]:
    env = {**mesh.env, "AUDIT_FILE": str(log_file)}
    with MeshProcess("audit_worker", "services.audit_worker", env, mesh.folder, root=tree) as process:
        yield process
        assert process.stop() == 0
    assert "Traceback" not in process.log.read_text()


@pytest.fixture
async def joined(ask, worker: MeshProcess) -> None:
    async def shows_life() -> bool:
        return bool(await alive(ask.redis, ask.mesh.keys, "audit_worker"))

    await wait_until("the new worker shows life", shows_life, seconds=30)


def entries(log_file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_file.read_text().splitlines()] if log_file.exists() else []


async def test_its_worker_gets_events_from_a_dispatcher_that_ran_before_it(ask, worker, joined, log_file):
    dispatchers = await alive(ask.redis, ask.mesh.keys, "dispatcher")

    event_id = await ask.publish("order.placed", EUROS, subject="order/7")
    [task] = await ask.ended(event_id)

    assert (task.state, task.name, task.result) == ("succeeded", "audit_worker.record_order", {"order_id": 7})
    [entry] = [entry for entry in entries(log_file) if entry["event"] == event_id]
    assert (entry["id"], entry["order_id"], entry["total"]) == (task.id, 7, 9.5)
    assert await ask.told(event_id) == ["task.queued", "task.started", "task.succeeded", "event.completed"]
    assert len(dispatchers) == 1
    assert await alive(ask.redis, ask.mesh.keys, "dispatcher") == dispatchers


async def test_what_it_publishes_is_an_event_of_the_mesh(ask, joined):
    event_id = await ask.publish("order.placed", EUROS)
    [task] = await ask.ended(event_id)

    [follow_up] = task.events
    [row] = await ask.rows.events(follow_up["id"])
    event = await ask.rows.envelope(row)
    assert (event.type, event.source, event.data) == ("order.recorded", "audit_worker", {"order_id": 7})
    assert event.extensions["causationid"] == event_id


async def test_a_negative_total_is_a_dead_letter(ask, joined, log_file):
    task = await ask.run("order.placed", {**EUROS, "total": -1})

    assert (task.state, task.attempt, task.error["reason"]) == ("failed", 1, "negative total")
    assert await ask.redis.hexists(ask.mesh.keys.dead("audit_worker"), task.id)
    assert task.id not in {entry["id"] for entry in entries(log_file)}


async def test_a_payload_that_does_not_fit_is_a_dead_letter_that_names_the_field(ask, joined):
    task = await ask.run("order.placed", {"order_id": "seven", "total": 1, "currency": "EUR"})

    assert (task.state, task.attempt) == ("failed", 1)
    assert "/order_id" in task.error["reason"]


async def test_another_currency_is_none_of_its_business(ask, joined):
    assert await ask.ended(await ask.publish("order.placed", {**EUROS, "currency": "USD"})) == []


async def test_its_glob_covers_every_event_of_a_user(ask, joined, log_file):
    for event_type in ("user.registered", "user.address.changed"):
        task = await ask.run(event_type, {"email": "ann@example.com"}, subject="user/42")
        assert (task.state, task.result) == ("succeeded", {"subject": "user/42"})
    assert "ann@example.com" not in log_file.read_text()


async def test_events_wait_while_its_worker_is_away(ask, worker, joined):
    assert worker.stop() == 0
    event_id = await ask.publish("order.placed", EUROS)

    async def queued() -> bool:
        [row] = await ask.rows.events(event_id)
        return [task.state for task in await ask.rows.tasks(row.task_ids)] == ["queued"]

    await wait_until("the task is queued", queued)
    worker.start()

    [task] = await ask.ended(event_id)
    assert (task.state, task.attempt) == ("succeeded", 1)


def test_streammesh_up_would_find_it(tree: Path):
    assert sorted([*find_services(ROOT), "audit_worker"]) == find_services(tree)


def test_its_own_tests_pass_where_it_is_now(tree: Path):
    options = ["--import-mode=importlib", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, "services/audit_worker"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout
