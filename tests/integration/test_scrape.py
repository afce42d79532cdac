"""A whole mesh as Prometheus sees it: what was published, handed over, run, pushed, and what waits.

A real Prometheus beside it (Debian's package `prometheus`) answers every query of the dashboard and of the alerts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.testing.conditions import wait_until_sync
from streammesh.testing.programs import Programs

KEY = "a-key-for-these-tests-1234"
MODULES = ("services.api", "services.dispatcher", "tests.probe", "tests.probe_sync")
MONITORING = Path("deploy/monitoring")
SERIES = re.compile(r"(?:streammesh|process)_[a-z_]+")
# Told once it has happened: nothing was parked, nothing is paused in this mesh.
LATER = {"streammesh_events_parked_total", "streammesh_paused_subscriptions"}
Ask = Callable[..., Any]
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
                    seconds=120,
                )
            wait_until_sync("the API listens", lambda: ready(found["http"]), seconds=120)
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


def queries() -> list[str]:
    """Return every query of the dashboard, and every alert's."""
    board = json.loads((MONITORING / "grafana/dashboards/streammesh.json").read_text())
    drawn = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [*drawn, *(rule["expr"] for group in rules for rule in group["rules"])]


@pytest.fixture(scope="module")
def prometheus(ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    [job] = config["scrape_configs"]
    del job["dns_sd_configs"], job["relabel_configs"]  # here each is found by its health port alone
    job["static_configs"] = [
        {"targets": [f"127.0.0.1:{ports[one]}"], "labels": {"job": one}} for one in MODULES
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(MONITORING / "alerts.yml", folder)
    port = free_port()
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10) as client,
    ):

        def ask(path: str, **parameters: str) -> Any:
            try:
                answer = client.get(path, params=parameters).json()
            except (httpx.TransportError, ValueError):  # it is starting
                return None
            return answer["data"] if answer["status"] == "success" else None

        try:
            wait_until_sync("Prometheus answers", lambda: ask("query", query="1"), seconds=40)
            yield ask
        finally:
            process.terminate()


def test_each_series_of_the_dashboard_and_of_the_alerts_is_there(ports, prometheus):
    api = f"http://127.0.0.1:{ports['http']}"
    with httpx.Client(base_url=api, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
        for kind in ("probe.noop", "sync.noop"):
            sent = client.post("/v1/events", json={"type": kind, "data": {}}).json()
            with client.stream("GET", sent["links"]["notifications"]) as stream:
                assert "event.completed" in "".join(stream.iter_text())
    wanted = {name for query in queries() for name in SERIES.findall(query)}
    assert len(wanted) > 20

    def missing() -> set[str]:
        return wanted - LATER - set(prometheus("label/__name__/values") or ())

    try:
        wait_until_sync("all are there", lambda: not missing(), seconds=40)
    except TimeoutError:
        assert not missing(), "no process of the mesh tells these"

    def health() -> dict[str, str]:
        return {one["labels"]["job"]: one["health"] for one in prometheus("targets")["activeTargets"]}

    wait_until_sync("each was scraped once", lambda: "unknown" not in health().values(), seconds=40)
    assert health() == dict.fromkeys(MODULES, "up")


def test_it_takes_every_query_and_every_alert(prometheus):
    for query in queries():
        assert prometheus("query", query=query.replace("$__rate_interval", "1m")) is not None, query
    [group] = prometheus("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}  # unknown: not looked at yet

    def alert() -> list[str]:
        return [one["labels"]["alertname"] for one in prometheus("alerts")["alerts"]]

    wait_until_sync(
        "it says that this mesh has no Beat", lambda: any("Beat" in one for one in alert()), seconds=20
    )
