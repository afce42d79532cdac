"""Counters, gauges and histograms that cost a comparison until `begin` was called, and are prometheus_client's after.

Source: the exposition format and the naming rules of https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MOST_SERIES = 2_000  # of one metric; further ones are counted together, under OTHER
OTHER = "(other)"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DEFINED: dict[str, Metric] = {}
_lock = threading.Lock()
_registry: CollectorRegistry | None = None


class Metric:
    """One metric: its name with its unit, what it means, and its labels."""

    kind = ""

    def __init__(self, name: str, meaning: str, labels: Sequence[str] = ()) -> None:
        if name in DEFINED:
            raise ValueError(f"{name} is defined twice")
        self.name, self.meaning, self.labels = name, meaning, tuple(labels)
        self._parent: Any = None
        self._series: dict[tuple[str, ...], Any] = {}
        DEFINED[name] = self

    def begin(self, registry: CollectorRegistry) -> None:
        """Be collected by `registry` from now on."""
        self._parent, self._series = self._make(registry), {}
        if not self.labels:
            self._series[()] = self._parent

    def _make(self, registry: CollectorRegistry) -> Any:
        raise NotImplementedError

    def _of(self, labels: tuple[str, ...]) -> Any:
        found = self._series.get(labels)
        if found is None:
            with _lock:
                if len(self._series) >= MOST_SERIES:
                    labels = (OTHER,) * len(self.labels)
                found = self._series.get(labels) or self._parent.labels(*labels)
                self._series[labels] = found
        return found


class Counter(Metric):
    """Only grows; begins at 0 with the process."""

    kind = "counter"

    def _make(self, registry: CollectorRegistry) -> Any:
        from prometheus_client import Counter as Made

        return Made(self.name, self.meaning, self.labels, registry=registry)

    def inc(self, *labels: str, by: float = 1) -> None:
        """Count `by` more."""
        if self._parent is not None:
            self._of(labels).inc(by)


class Gauge(Metric):
    """Goes up and down."""

    kind = "gauge"

    def _make(self, registry: CollectorRegistry) -> Any:
        from prometheus_client import Gauge as Made

        return Made(self.name, self.meaning, self.labels, registry=registry)

    def set(self, value: float, *labels: str) -> None:
        """It is `value` now."""
        if self._parent is not None:
            self._of(labels).set(value)

    def inc(self, *labels: str, by: float = 1) -> None:
        """Go up by `by`, down where that is negative."""
        if self._parent is not None:
            self._of(labels).inc(by)

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Have these series, and no others."""
        if self._parent is None:
            return
        with _lock:
            for gone in self._series.keys() - values.keys():
                self._parent.remove(*gone)
                del self._series[gone]
        for labels, value in values.items():
            self._of(labels).set(value)


class Histogram(Metric):
    """How often a measure came to at most each bound."""

    kind = "histogram"

    def __init__(self, name: str, meaning: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, meaning, labels)
        self.bounds = tuple(bounds)

    def _make(self, registry: CollectorRegistry) -> Any:
        from prometheus_client import Histogram as Made

        return Made(self.name, self.meaning, self.labels, registry=registry, buckets=self.bounds)

    def observe(self, value: float, *labels: str) -> None:
        """Note one more measure."""
        if self._parent is not None:
            self._of(labels).observe(value)


def is_on() -> bool:
    """Whether anything is counted in this process."""
    return _registry is not None


def registry() -> CollectorRegistry | None:
    """Return where a service's own metrics belong; None where none are told."""
    return _registry


def begin(metrics: Iterable[Metric]) -> None:
    """Count these from now on, beside the process's CPU, memory, file descriptors and garbage collector.

    Harmless when called again. prometheus_client is imported here and nowhere before.
    """
    global _registry
    if _registry is not None:
        return
    from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

    made = CollectorRegistry()
    ProcessCollector(registry=made)
    GCCollector(registry=made)
    for metric in metrics:
        metric.begin(made)
    _registry = made


def exposition() -> bytes:
    """Return all as text that Prometheus reads (`CONTENT_TYPE`); empty before `begin`."""
    if _registry is None:
        return b""
    from prometheus_client import generate_latest

    return generate_latest(_registry)
