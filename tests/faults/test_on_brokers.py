"""The short form of some scenarios where another broker carries the tasks; runs with `make test-brokers`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import Forks
from tests.faults.scenarios import cut_connections, dispatcher_kills, worker_kills
from tests.faults.stage import Stage
from tests.harness import brokers

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not brokers.chosen(), reason="runs with `make test-brokers`"),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    kind = brokers.chosen()
    assert kind
    if reason := brokers.why_not(kind):
        pytest.skip(reason)
    with brokers.running(kind, tmp_path_factory.mktemp(kind) / "server") as started:
        yield started


@pytest.mark.parametrize("scenario", [dispatcher_kills, worker_kills, cut_connections], ids=lambda s: s.NAME)
async def test_nothing_is_lost_and_nothing_counts_twice(
    scenario: Any, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if brokers.chosen() == "lists":
        # Workflows' parts are plain tasks: those of a killed worker come back after an hour, as kombu's lists have it.
        kinds = tuple(kind for kind in worker_kills.LONGER if not kind.workflow)
        monkeypatch.setattr(worker_kills, "LONGER", kinds)
    async with Forks() as forks:
        env = {"MESH_BROKER_URL": broker.address()}
        row = await scenario.run(Stage(forks, tmp_path / "mesh", 1, "short", env))

    assert (row.lost, row.doubled) == (0, 0), "\n".join((*row.remarks, *row.findings[:20]))
    assert row.passed, "\n".join((str(row.to_dict()), *row.remarks))
