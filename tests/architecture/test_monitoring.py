"""Alerts, dashboard and documents speak of metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from streammesh.telemetry import catalogue

from deploy import grafana_dashboard

FOLDER = Path("deploy/monitoring")
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
DASHBOARD = FOLDER / "grafana/dashboards/streammesh.json"
SERIES = {
    metric.name + end
    for metric in catalogue.all_metrics()
    for end in (("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",))
}
LABELS = {metric.name: set(metric.labels) for metric in catalogue.all_metrics()}


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"streammesh_[a-z_]+", text))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_for_what_is_measured_and_is_in_the_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert metrics_in(rule["expr"]) <= SERIES
    asked = re.findall(r"(streammesh_[a-z_]+)\{([^}]*)\}", rule["expr"])
    for metric, which in asked:
        assert set(re.findall(r"(\w+)\s*=~?", which)) <= LABELS[metric]
    assert f"\n## {name}\n" in Path("docs/runbook.md").read_text()


def test_the_dashboard_is_what_its_source_makes() -> None:
    command = "python -m deploy.grafana_dashboard > " + str(DASHBOARD)
    assert DASHBOARD.read_text() == grafana_dashboard.render(), f"run: {command}"


def test_the_dashboard_asks_for_what_is_measured() -> None:
    made = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in made["panels"] for target in panel.get("targets", ())]
    assert len(queries) >= 16
    assert set().union(*map(metrics_in, queries)) <= SERIES
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])


def test_the_page_has_each_metric() -> None:
    lines = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.meaning} |"
        for metric in catalogue.all_metrics()
    ]
    page = Path("docs/metrics.md").read_text()
    assert "\n".join(lines) in page, "put this into docs/metrics.md:\n" + "\n".join(lines)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ],
    ids=" ".join,
)
def test_prometheus_takes_it(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
