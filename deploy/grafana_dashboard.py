"""Writes the Grafana dashboard from what the mesh measures.

    python -m deploy.grafana_dashboard > deploy/monitoring/grafana/dashboards/streammesh.json

Source of the shapes: Grafana's dashboard JSON model, schema version 39.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

HEIGHT = 8  # of a panel; a row has 24 columns
SOURCE = {"type": "prometheus", "uid": "prometheus"}


class Panel(NamedTuple):
    """A graph: its title, what it says, its unit, and queries with the legend of each."""

    title: str
    says: str
    unit: str
    queries: Sequence[tuple[str, str]]


def _rate(metric: str, by: str, which: str = "") -> str:
    return f"sum by ({by}) (rate(streammesh_{metric}{which}[$__rate_interval]))"


def _quantile(metric: str, by: str, part: float) -> str:
    inner = f"sum by (le, {by}) (rate(streammesh_{metric}_bucket[$__rate_interval]))"
    return f"histogram_quantile({part}, {inner})"


ROWS: dict[str, tuple[Panel, ...]] = {
    "What goes through": (
        Panel(
            "Published", "Events that came to the API", "short", [(_rate("events_published_total", "result"), "{{result}}")]
        ),
        Panel("Handed over", "Tasks that events became", "short", [(_rate("deliveries_total", "service"), "{{service}}")]),
        Panel(
            "Attempts", "By what became of them", "short", [(_rate("attempts_total", "outcome"), "{{outcome}}")]
        ),
        Panel(
            "Pushed",
            "Notifications written to clients, and streams that are open",
            "short",
            [
                ("sum(rate(streammesh_notifications_pushed_total[$__rate_interval]))", "notifications/s"),
                ("sum(streammesh_push_streams)", "streams"),
            ],
        ),
    ),
    "What waits": (
        Panel("Oldest", "Age of the oldest that waits", "s", [("max by (service) (streammesh_oldest_waiting_seconds)", "{{service}}")]),
        Panel("Lag", "Events not handed over yet", "short", [("max by (service) (streammesh_lag_events)", "{{service}}")]),
        Panel(
            "Queues",
            "Tasks in queues, and those that no worker has",
            "short",
            [
                ("max by (service) (streammesh_queued_tasks)", "{{service}} queued"),
                ("max by (service) (streammesh_waiting_tasks)", "{{service}} waiting"),
            ],
        ),
        Panel(
            "Set aside",
            "Held while paused, and dead letters",
            "short",
            [
                ("max by (service) (streammesh_held_tasks)", "{{service}} held"),
                ("max by (service) (streammesh_dead_letters)", "{{service}} dead letters"),
            ],
        ),
    ),
    "How long it takes": (
        Panel("Published to queued, p99", "In the stream and the dispatcher", "s", [(_quantile("publish_to_queue_seconds", "service", 0.99), "{{service}}")]),
        Panel("Queued to run, p99", "In the queue", "s", [(_quantile("queue_to_run_seconds", "task", 0.99), "{{task}}")]),
        Panel("Run, p50 and p99", "In the handler", "s", [(_quantile("run_seconds", "task", 0.5), "{{task}} p50"), (_quantile("run_seconds", "task", 0.99), "{{task}} p99")]),
        Panel("HTTP, p99", "To an answer's head", "s", [(_quantile("http_request_duration_seconds", "route", 0.99), "{{route}}")]),
    ),
    "What it stands on": (
        Panel(
            "Alive",
            "Processes",
            "short",
            [
                ("max by (service) (streammesh_workers)", "{{service}}"),
                ("max(streammesh_dispatchers)", "dispatchers"),
                ("max(streammesh_apis)", "apis"),
                ("max(streammesh_beats)", "schedulers"),
            ],
        ),
        Panel("Redis's memory", "Used, and its limit", "bytes", [("max(streammesh_redis_memory_bytes)", "used"), ("max(streammesh_redis_memory_limit_bytes) > 0", "limit")]),
        Panel("CPU", "Of each process", "percentunit", [('rate(process_cpu_seconds_total{job=~"streammesh|api|dispatcher|scheduler|.*worker"}[$__rate_interval])', "{{job}} {{instance}}")]),
        Panel("Memory", "Of each process", "bytes", [('process_resident_memory_bytes{job=~"streammesh|api|dispatcher|scheduler|.*worker"}', "{{job}} {{instance}}")]),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for name, row in ROWS.items():
        place = {"h": 1, "w": 24, "x": 0, "y": top}
        panels.append({"type": "row", "title": name, "gridPos": place, "id": len(panels) + 1, "panels": []})
        width = 24 // len(row)
        for column, panel in enumerate(row):
            place = {"h": HEIGHT, "w": width, "x": column * width, "y": top + 1}
            panels.append(_panel(panel, place, len(panels) + 1))
        top += 1 + HEIGHT
    return {
        "uid": "streammesh",
        "title": "streammesh",
        "tags": ["streammesh"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int], number: int) -> dict[str, Any]:
    targets = [
        {"datasource": SOURCE, "expr": query, "legendFormat": legend, "refId": chr(ord("A") + at)}
        for at, (query, legend) in enumerate(panel.queries)
    ]
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def render() -> str:
    """Return it as text."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    print(render(), end="")
