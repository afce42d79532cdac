"""The whole way: an event published, a real dispatcher and a real worker with two processes, the PDF in the store."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from pypdf import PdfReader
from streammesh import SyncPublisher
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until_sync

from services.report_worker.object_store import Store, open_store

ROOT = Path(__file__).parents[3]
DEADLINE = 30.0
DEMO: dict[str, Any] = {
    "title": "What wildlife strikes cost",
    "source": {"dataset": "wildlife-strikes"},
    "group_by": "species",
    "measure": "cost",
}


class Mesh:
    """One mesh as a client sees it."""

    def __init__(self, client: redis.Redis, keys: Keys, settings: MeshSettings) -> None:
        self._client, self._keys = client, keys
        self._publisher = SyncPublisher(client, keys, settings, source="tests")

    def publish(self, data: dict[str, Any], event_type: str = "report.requested") -> str:
        return self._publisher.publish(event_type, data).id

    def notes(self, event_id: str) -> list[tuple[str, dict[str, Any]]]:
        """(type, data) of everything that was told about an event, in order."""
        found = []
        for _, fields in self._client.xrange(self._keys.notifications()):
            if fields[b"e"].decode() == event_id:
                body = orjson.loads(b"{%b}" % fields[b"b"])
                found.append((fields[b"t"].decode(), body.get("data", {})))
        return found

    def ended(self, event_id: str) -> list[tuple[str, dict[str, Any]]]:
        """`notes` once the event is completed."""

        def look() -> list[tuple[str, dict[str, Any]]]:
            notes = self.notes(event_id)
            return notes if any(kind == "event.completed" for kind, _ in notes) else []

        return wait_until_sync(f"the end of {event_id}", look, seconds=DEADLINE)

    def generated(self) -> list[dict[str, Any]]:
        """Every `report.generated` event."""
        stored = [
            orjson.loads(fields[b"e"]) for _, fields in self._client.xrange(self._keys.events("report"))
        ]
        return [event for event in stored if event["type"] == "report.generated"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def mesh(
    mesh_redis_sync: redis.Redis, mesh_keys: Keys, mesh_settings: MeshSettings, mesh_environment: dict[str, str],
    folder: Path, tmp_path: Path,
) -> Iterator[Mesh]:  # fmt: skip
    environment = {**mesh_environment, "REPORT_STORE_URL": str(folder), "MESH_CONCURRENCY": "2"}
    logs = {name: (tmp_path / f"{name}.log").open("wb") for name in ("report_worker", "dispatcher")}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        for name, log in logs.items()
    ]
    try:
        wait_until_sync(
            "the manifest",
            lambda: mesh_redis_sync.hexists(mesh_keys.manifests(), "report_worker"),
            seconds=DEADLINE,
        )
        yield Mesh(mesh_redis_sync, mesh_keys, mesh_settings)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name, log in logs.items():
            log.close()
            print(name, (tmp_path / f"{name}.log").read_text()[-4000:])


def text_of(store: Store, name: str) -> str:
    return " ".join(
        " ".join(page.extract_text() for page in PdfReader(io.BytesIO(store.get(name))).pages).split()
    )


def test_requests_become_reports_or_say_why_not(mesh: Mesh, folder: Path) -> None:
    store = open_store(str(folder))
    store.put("uploads/tests/up1.csv", b"city,sales\nOslo,1\nBergen,2\n")
    demo = mesh.publish({**DEMO, "report_id": "demo", "recipient": "ann@example.com"})
    upload = mesh.publish(
        {"report_id": "up", "object": "uploads/tests/up1.csv", "group_by": "city", "measure": "sales"}
    )
    broken = mesh.publish({"csv": "a,b\n1,2\n3\n", "group_by": "a"})
    slip = mesh.publish({**DEMO, "agregate": "sum"})
    told = {event: mesh.ended(event) for event in (demo, upload, broken, slip)}

    # The result of the delivery is the data of report.generated, which is published once.
    generated = {event["data"]["report_id"]: event for event in mesh.generated()}
    assert sorted(generated) == ["demo", "up"] and len(mesh.generated()) == 2
    kinds = [kind for kind, _ in told[demo]]
    result = next(data for kind, data in told[demo] if kind == "task.succeeded")["result"]
    assert result == generated["demo"]["data"]
    assert (result["rows"], result["pages"], result["recipient"]) == (4635, 2, "ann@example.com")
    assert generated["demo"]["causationid"] == demo
    assert generated["demo"]["subject"] == "report/demo"
    assert "25,678,594" in text_of(store, "reports/demo.pdf")
    assert "Bergen is the largest with 2" in text_of(store, "reports/up.pdf")

    # Progress came while it ran: the fetch, each of five parts, the merge, the charts, the PDF.
    progress = [data["text"] for kind, data in told[demo] if kind == "task.progress"]
    assert {f"part {number} of 5 measured" for number in range(1, 6)} <= set(progress)
    assert progress[-1] == "2 pages stored"
    assert kinds.index("task.started") < kinds.index("task.progress") < kinds.index("task.succeeded")

    # What can never be a report failed at once, in words.
    reasons = [
        next(data["error"]["reason"] for kind, data in told[event] if kind == "task.failed")
        for event in (broken, slip)
    ]
    assert reasons[0] == "line 3 has 1 fields, the header has 2: column 2 ('b') is missing"
    assert "did you mean 'aggregate'?" in reasons[1]
    assert not [kind for event in (broken, slip) for kind, _ in told[event] if kind == "task.retrying"]

    # Then the mesh reports on all of that, itself.
    refused = mesh.publish({"report_id": "ops", "kind": "operations"})
    others = mesh.publish({"object": "uploads/other/up1.csv", "group_by": "city"})
    for event, said in ((refused, "operations.report_requested"), (others, "no uploaded file")):
        reason = next(data["error"]["reason"] for kind, data in mesh.ended(event) if kind == "task.failed")
        assert said in reason
    operations = mesh.publish(
        {"report_id": "ops", "title": "Operations"}, event_type="operations.report_requested"
    )
    assert "task.succeeded" in [kind for kind, _ in mesh.ended(operations)]
    text = text_of(store, "reports/ops.pdf")
    for words in (
        "report.requested",
        "report.generated",
        "report_worker.make_report",
        "line 3 has 1 fields",
        "p95",
    ):
        assert words in text, words

    assert [name for name, _ in store.names("work")] == []
