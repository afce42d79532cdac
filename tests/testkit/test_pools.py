"""Resources in real workers: each process of each pool makes its own once, and closes it when it drains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streammesh.testing import Mesh, wait_until_sync

WORKER = """
from collections.abc import AsyncIterator, Iterator
from streammesh import Service

service = Service("POOL_worker", pool="POOL")


class Pool: ...
class Client: ...


def note(what: str) -> None:
    with open("PLACE", "a") as file:
        file.write(f"POOL {what}\\n")


@service.resource
async def pool() -> AsyncIterator[Pool]:
    note("opens pool")
    yield Pool()
    note("closes pool")


@service.resource
def client(pool: Pool) -> Iterator[Client]:
    yield Client()
    note("closes client")


@service.on("pool.used")
def use(data: dict, client: Client, pool: Pool) -> int:
    return data["n"]


if __name__ == "__main__":
    service.run()
"""
POOLS = ("async", "prefork")


@pytest.mark.timeout(300)
def test_a_worker_that_drains_closes_what_its_handlers_shared(
    mesh: Mesh, mesh_redis_sync: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "noted"
    for pool in POOLS:
        text = WORKER.replace("POOL", pool).replace("PLACE", str(place))
        (tmp_path / f"{pool}_pool.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MESH_CONCURRENCY", "1")
    workers = [mesh.start(f"{pool}_pool") for pool in POOLS]
    wait_until_sync("both have joined", lambda: mesh_redis_sync.hlen(mesh.keys.manifests()) == 2, seconds=120)
    for n in range(3):
        outcome = mesh.outcome(mesh.publish("pool.used", {"n": n}).get(), seconds=60).get(70)
        assert outcome.ok and set(outcome.results.values()) == {n}
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait(60)
    told = place.read_text().splitlines()
    for pool in POOLS:
        mine = [line.removeprefix(f"{pool} ") for line in told if line.startswith(pool)]
        assert mine == ["opens pool", "closes client", "closes pool"]
