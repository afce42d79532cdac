"""A whole mesh as Prometheus sees it: what was published, handed over, run, pushed, and what waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.testing.conditions import wait_until_sync
from streammesh.testing.programs import Programs

KEY = "a-key-for-these-tests-1234"
MODULES = ("services.api", "services.dispatcher", "tests.probe", "tests.probe_sync")
Samples = dict[tuple[str, ...], float]


def scrape(url: str, key: str = "") -> Samples:
    """Each sample by its name and the values of its labels, in the order of the labels' names."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with urlopen(Request(f"{url}/metrics", headers=headers), timeout=10) as answer:
        told = text_string_to_metric_families(answer.read().decode())
        return {(s.name, *s.labels.values()): s.value for family in told for s in family.samples}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The health port of each process of a mesh, and the API's own as "http"."""
    folder: Path = tmp_path_factory.mktemp("scraped")
    found = {name: free_port() for name in (*MODULES, "http")}
    with EmbeddedServer(folder / "redis", appendonly=False) as server:
        env = {
            **os.environ,
            "MESH_REDIS_URL": server.url,
            "API_PORT": str(found["http"]),
            "API_ADMIN_KEY": KEY,
            "REPORT_STORE_URL": str(folder / "store"),
            "PROBE_RECORD": str(folder / "record"),
        }
        with Programs(env, folder) as programs:
            for module in MODULES:
                programs.start(module, MESH_HEALTH_PORT=str(found[module]))
            for module in MODULES:
                wait_until_sync(
                    f"{module} is ready",
                    lambda: ready(found[module]),  # noqa: B023  asked before the next round
                    seconds=40,
                )
            wait_until_sync("the API listens", lambda: ready(found["http"]), seconds=40)
            yield found


def ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


def test_each_process_counts_its_part_of_the_way(ports):
    api = f"http://127.0.0.1:{ports['http']}"
    with httpx.Client(base_url=api, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
        for kind in ("probe.noop", "probe.hopeless", "sync.noop", "sync.recorded"):
            sent = client.post("/v1/events", json={"type": kind, "data": {}}).json()
            with client.stream("GET", sent["links"]["notifications"]) as stream:
                assert "event.completed" in "".join(stream.iter_text())
        client.get("/v1/events/never/published/<script>")

    def of(module: str) -> Samples:
        return scrape(f"http://127.0.0.1:{ports[module]}")

    dispatcher, probe = of("services.dispatcher"), of("tests.probe")
    assert dispatcher["streammesh_deliveries_total", "probe"] == 2
    assert dispatcher["streammesh_deliveries_total", "probe_sync"] == 2
    assert dispatcher["streammesh_publish_to_queue_seconds_count", "probe_sync"] >= 1
    assert probe["streammesh_attempts_total", "succeeded", "probe.noop"] == 1
    assert probe["streammesh_attempts_total", "failed", "probe.hopeless"] == 1
    assert probe["streammesh_run_seconds_count", "probe.noop"] == 1
    assert 0 <= probe["streammesh_queue_to_run_seconds_sum", "probe.noop"] < 10
    # Prefork children are their parent's: what it tells is what all of them did, once it has heard it.
    parts = ("streammesh_attempts_total", "succeeded", "probe_sync.recorded")
    wait_until_sync("the parent has heard", lambda: of("tests.probe_sync").get(parts) == 1)
    sync = of("tests.probe_sync")
    assert sync["streammesh_attempts_total", "succeeded", "probe_sync.noop"] == 1
    assert sync["streammesh_run_seconds_count", "probe_sync.recorded"] == 1
    assert sync["streammesh_queue_to_run_seconds_count", "probe_sync.noop"] == 1
    assert sync["streammesh_ready", "redis"] == 1

    told = of("services.api")
    assert told["streammesh_events_published_total", "stored"] == 4
    assert told["streammesh_http_requests_total", "POST", "/v1/events", "202"] == 4
    assert told["streammesh_notifications_pushed_total",] >= 8
    assert told["streammesh_http_request_duration_seconds_count", "/v1/events"] >= 4
    assert not [labels for labels in told if "script" in "".join(labels)], (
        "a label is never what a client wrote"
    )


def test_the_mesh_as_a_whole_is_told_by_the_api(ports):
    told = scrape(f"http://127.0.0.1:{ports['http']}", KEY)

    assert (told["streammesh_dispatchers",], told["streammesh_apis",]) == (1, 1)
    assert told["streammesh_workers", "probe"] == told["streammesh_workers", "probe_sync"] == 1
    assert told["streammesh_lag_events", "probe"] == 0
    assert told["streammesh_dead_letters", "probe"] >= 1
    assert told["streammesh_redis_memory_bytes",] > 100_000
    assert told["streammesh_findings", "no-beat", "warning"] == 1


def test_over_the_front_door_metrics_want_a_key(ports):
    for key in ("", "a-key-that-nobody-made-0000"):
        with pytest.raises(HTTPError) as refused:
            scrape(f"http://127.0.0.1:{ports['http']}", key)
        assert refused.value.code == 401
        refused.value.close()
