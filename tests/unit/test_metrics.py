"""What is counted is told as Prometheus reads it, and what nobody asks for costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from streammesh.health import Health, serve_health
from streammesh.telemetry import catalogue, metrics
from streammesh.telemetry.metrics import MOST_SERIES, OTHER, Counter, Gauge, Histogram

UNITS = ("_total", "_seconds", "_bytes", "_ready", "_events", "_tasks")
COUNTS = {  # gauges that count things which their name says
    *("push_streams", "dispatchers", "beats", "apis", "workers", "dead_letters"),
    *("paused_subscriptions", "findings", "flow_slow_keys"),
}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def undefined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "DEFINED", {})


def values(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize("metric", catalogue.all_metrics(), ids=lambda metric: metric.name)
def test_each_name_says_its_unit(metric: metrics.Metric) -> None:
    bare = metric.name.removeprefix("streammesh_")
    assert re.fullmatch(r"streammesh_[a-z_]+", metric.name)
    assert metric.name.endswith(UNITS) or bare in COUNTS
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert metric.meaning and not {"id", "event", "type", "subject"} & set(metric.labels)


def test_nothing_is_counted_and_nothing_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys; from streammesh.telemetry import catalogue, metrics;"
        "catalogue.PUSHED.inc(by=3); catalogue.LAG.replace({('a',): 1}); catalogue.RUN.observe(1, 'a.b');"
        "assert metrics.exposition() == b'' and not metrics.is_on();"
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_series_beyond_the_bound_is_counted_with_others(undefined, registry) -> None:
    counter = Counter("x_total", "x", ["a", "b"])
    counter.begin(registry)
    for number in range(MOST_SERIES + 5):
        counter.inc(str(number), "b")

    found = values(registry, "x_total")
    assert len(found) == MOST_SERIES + 1
    assert found[OTHER, OTHER] == 5


def test_a_service_that_is_gone_has_no_series_any_more(undefined, registry) -> None:
    gauge = Gauge("x", "x", ["service"])
    gauge.begin(registry)
    gauge.replace({("a",): 1, ("b",): 2})
    gauge.replace({("b",): 3})

    assert values(registry, "x") == {("b",): 3}


def test_a_histogram_has_the_bounds_it_was_given(undefined, registry) -> None:
    histogram = Histogram("x_seconds", "x", (), (0.1, 1))
    histogram.begin(registry)
    histogram.observe(0.5)

    assert values(registry, "x_seconds_bucket") == {("0.1",): 0, ("1.0",): 1, ("+Inf",): 1}


def test_one_name_is_one_metric(undefined) -> None:
    Counter("x_total", "x")
    with pytest.raises(ValueError, match="twice"):
        Counter("x_total", "x")


def test_a_process_tells_its_metrics_beside_its_health() -> None:
    health = Health()
    health.works_while("redis", lambda: "is away")
    health.measured_by(lambda: catalogue.PUSH_STREAMS.set(7))
    health.measured_by(lambda: print(1 / 0))  # what cannot be measured keeps nothing else back
    server = serve_health(health, "127.0.0.1", 0, measured=True)

    with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
        assert answer.headers["content-type"] == metrics.CONTENT_TYPE
        told = list(text_string_to_metric_families(answer.read().decode()))

    samples = {(s.name, *s.labels.values()): s.value for family in told for s in family.samples}
    assert samples["streammesh_push_streams",] == 7
    assert samples["streammesh_ready", "redis"] == 0
    assert samples["process_resident_memory_bytes",] > 1e6


def test_where_metrics_are_off_it_says_so(monkeypatch) -> None:
    monkeypatch.setattr(metrics, "_registry", None)
    server = serve_health(Health(), "127.0.0.1", 0)
    with pytest.raises(HTTPError) as refused:
        urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5)
    assert refused.value.code == 404
    assert b"MESH_METRICS" in refused.value.read()
    refused.value.close()


def test_what_threads_count_at_the_same_time_is_all_counted(undefined, registry) -> None:
    counter, histogram = Counter("x_total", "x"), Histogram("y_seconds", "y", ["task"], (0.1, 1))
    counter.begin(registry)
    histogram.begin(registry)

    def count() -> None:
        for number in range(5_000):
            counter.inc()
            histogram.observe(number % 3, "a")
            if number % 50 == 0:
                list(registry.collect())

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert values(registry, "x_total") == {(): 20_000}
    assert values(registry, "y_seconds_count") == {("a",): 20_000}
    assert values(registry, "y_seconds_bucket")["a", "1.0"] == 4 * 3_334
    assert values(registry, "y_seconds_sum")["a",] == sum(4 * (number % 3) for number in range(5_000))
