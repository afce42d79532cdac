"""All code of docs/workers.md: it is put where it says it belongs, and run."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streammesh.events.envelope import Event
from streammesh.redisio.heartbeat import alive
from streammesh.subscriptions.filters import fits
from streammesh.subscriptions.manifest import Manifest, Subscription, check
from streammesh.testing.conditions import wait_until

from tests.harness.processes import ROOT, MeshProcess

SERVICES: list[str] = []
PAGE = (ROOT / "docs" / "workers.md").read_text("utf-8")
WORKERS = ("shipping_worker", "label_worker")
MAIN = "from .handlers import service\n\nservice.run()\n"


def files_of(page: str) -> dict[str, str]:
    """The Python files that a page is made of: a block's first line says where it goes, or it goes on."""
    files: dict[str, str] = {}
    path = ""
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        first = re.match(r"# (services/\S+\.py)\n", block)
        path = first[1] if first else path
        files[path] = files.get(path, "") + block + "\n\n"
    return files


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of the page has in the end, with the dispatcher beside it."""
    root = tmp_path_factory.mktemp("page")
    for path, text in files_of(PAGE).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for worker in WORKERS:
        (root / "services" / worker / "__init__.py").touch()
        (root / "services" / worker / "__main__.py").write_text(MAIN)
    (root / "services" / "shipping_worker" / "tests" / "__init__.py").touch()
    (root / "services" / "__init__.py").touch()
    shutil.copytree(ROOT / "services" / "dispatcher", root / "services" / "dispatcher")
    return root


@pytest.fixture(scope="module")
def workers(mesh, tree: Path) -> Iterator[None]:
    processes = [MeshProcess(name, f"services.{name}", mesh.env, mesh.folder, root=tree) for name in WORKERS]
    for process in processes:
        process.start()
    yield
    assert [process.stop() for process in processes] == [0, 0]


@pytest.fixture
async def joined(ask, workers) -> None:
    async def all_alive() -> bool:
        return all([await alive(ask.redis, ask.mesh.keys, name) for name in WORKERS])

    await wait_until("both workers show life", all_alive, seconds=30)


def run(tree: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_page_has_the_files_that_it_speaks_of():
    assert sorted(files_of(PAGE)) == [
        "services/label_worker/handlers.py",
        "services/shipping_worker/handlers.py",
        "services/shipping_worker/tests/test_handlers.py",
        "services/shipping_worker/tests/test_in_a_mesh.py",
    ]


async def test_a_paid_order_is_booked(ask, joined):
    event_id = await ask.publish("order.paid", {"order_id": 7, "country": "AT"})
    [task] = await ask.ended(event_id)

    assert (task.state, task.result) == ("succeeded", {"parcel": "P-7"})
    assert [event["type"] for event in task.events] == ["parcel.booked"]
    assert "task.progress" in await ask.told(event_id)
    [followed] = await ask.ended(task.events[0]["id"])
    assert followed.name == "shipping_worker.keep_track"


async def test_another_country_is_none_of_its_business(ask, joined):
    assert await ask.ended(await ask.publish("order.paid", {"order_id": 7, "country": "FR"})) == []


async def test_what_a_handler_raises_says_what_happens_next(ask, joined):
    async def cancelled(data: dict[str, Any]) -> Any:
        tasks = await ask.ended(await ask.publish("parcel.cancelled", data))
        [task] = [task for task in tasks if task.name == "shipping_worker.cancel_parcel"]
        return task

    rejected = await cancelled({})
    retried = await cancelled({"parcel": "P-7", "in_transit": True, "hours": 0})
    done = await cancelled({"parcel": "P-7"})

    assert (rejected.state, rejected.attempt) == ("failed", 1)
    assert rejected.error["reason"] == "the event names no parcel"
    assert (retried.state, retried.attempt, retried.result) == ("succeeded", 2, "cancelled")
    assert (done.state, done.attempt) == ("succeeded", 1)


async def test_a_workflow_ends_the_delivery_with_its_result(ask, joined):
    [task] = await ask.ended(await ask.publish("labels.requested", {"parcels": ["P-1", "P-2", "P-3"]}))

    assert (task.state, task.result) == ("succeeded", {"labels": 3})
    assert [event["type"] for event in task.events] == ["labels.printed"]


async def test_plain_celery_works_beside_it(ask, joined, tree):
    env = {name: ask.mesh.env[name] for name in ("MESH_REDIS_URL", "MESH_NAMESPACE", "MESH_BROKER_URL")}
    handlers = "services.label_worker.handlers"
    code = f"from {handlers} import weigh; print(weigh.delay([500, 250]).get(timeout=20))"
    (tree / "weighing.py").write_text(code + "\n")

    weighed = await asyncio.to_thread(run, tree, "weighing", **env)
    command = ("celery", "-A", f"{handlers}:celery_app", "inspect", "ping", "--timeout", "5")
    pinged = await asyncio.to_thread(run, tree, *command, **env)

    assert weighed.stdout.split() == ["750"], weighed.stderr[-2000:]
    assert "pong" in pinged.stdout, pinged.stderr[-2000:]


def test_the_tests_of_the_page_pass(tree):
    options = ["--import-mode=importlib", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    ran = run(tree, "pytest", "-q", *options, "services/shipping_worker")
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "3 passed" in ran.stdout


def test_every_condition_in_the_table_is_one():
    table = re.findall(r"^\| `(\{.*?\})` \|", PAGE, re.MULTILINE)
    assert len(table) == 6
    fitting = Event(
        id="1", source="s", type="a.b", time="2026-11-22T06:00:00Z", subject="order/7",
        data={"country": "DE", "items": [{"price": 15}], "email": "a@example.com"},
    )  # fmt: skip
    for text in table:
        where = eval(text, {})
        check(Manifest("ww", subscriptions=(Subscription("ww", "ww.x", "a.b", where),)))
        assert fits(fitting, where), text
