"""Counters, gauges and histograms that cost a comparison until `begin` was called, and an append to a list after.

prometheus_client collects and writes them; its own counters take a lock and a search through the bounds for every
measure, of which a worker makes three for each task. Source: the exposition format and the naming rules of https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MOST_SERIES = 2_000  # of one metric; further ones are counted together, under OTHER
OTHER = "(other)"
SUMMED_TOGETHER = 512  # measures that a series keeps as they came
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DEFINED: dict[str, Metric] = {}
_lock = threading.Lock()
_registry: CollectorRegistry | None = None


class Sums:
    """What was added up, and how often each bound held: of one series.

    Adding is one append, which threads may do at the same time; what was appended is summed up now and then.
    """

    __slots__ = ("_fresh", "_lock", "bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = ()) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0
        self._fresh: list[float] = []
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Note one more."""
        self._fresh.append(value)
        if len(self._fresh) >= SUMMED_TOGETHER:
            self.sum_up()

    def sum_up(self) -> None:
        """Bring `counts` and `total` up to date."""
        with self._lock:
            fresh = self._fresh[:]
            del self._fresh[: len(fresh)]  # what is appended meanwhile stays
            self.total += sum(fresh)
            if self.bounds:
                for value in fresh:
                    self.counts[bisect_left(self.bounds, value)] += 1


class Metric:
    """One metric: its name with its unit, what it means, and its labels."""

    kind = ""

    def __init__(self, name: str, meaning: str, labels: Sequence[str] = ()) -> None:
        if name in DEFINED:
            raise ValueError(f"{name} is defined twice")
        self.name, self.meaning, self.labels = name, meaning, tuple(labels)
        self._is_counted = False
        self._series: dict[tuple[str, ...], Any] = {}
        DEFINED[name] = self

    def begin(self, registry: CollectorRegistry) -> None:
        """Be collected by `registry` from now on."""
        self._series, self._is_counted = {}, True
        if not self.labels:
            self._series[()] = self._new(())
        registry.register(self)

    def describe(self) -> Iterable[Any]:
        """Return what is collected, without its values: the registry asks for names alone."""
        return [self._family()]

    def collect(self) -> Iterable[Any]:
        """Return the values as they are now, for prometheus_client."""
        raise NotImplementedError

    def _family(self) -> Any:
        raise NotImplementedError

    def _new(self, labels: tuple[str, ...]) -> Any:
        return Sums()

    def _of(self, labels: tuple[str, ...]) -> Any:
        found = self._series.get(labels)
        if found is None:
            if len(labels) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {', '.join(self.labels) or '(none)'}")
            with _lock:
                if len(self._series) >= MOST_SERIES:
                    labels = (OTHER,) * len(self.labels)
                found = self._series.get(labels)
                if found is None:
                    found = self._series[labels] = self._new(labels)
        return found

    def _summed(self) -> list[tuple[tuple[str, ...], Any]]:
        with _lock:
            series = list(self._series.items())
        for _, sums in series:
            sums.sum_up()
        return series


class Counter(Metric):
    """Only grows; begins at 0 with the process."""

    kind = "counter"

    def _family(self) -> Any:
        from prometheus_client.core import CounterMetricFamily

        return CounterMetricFamily(self.name, self.meaning, labels=self.labels)

    def collect(self) -> Iterable[Any]:
        """As `Metric.collect`."""
        family = self._family()
        for labels, sums in self._summed():
            family.add_metric(labels, sums.total)
        return [family]

    def inc(self, *labels: str, by: float = 1) -> None:
        """Count `by` more."""
        if self._is_counted:
            self._of(labels).add(by)


class Gauge(Metric):
    """Goes up and down."""

    kind = "gauge"

    def _family(self) -> Any:
        from prometheus_client.core import GaugeMetricFamily

        return GaugeMetricFamily(self.name, self.meaning, labels=self.labels)

    def _new(self, labels: tuple[str, ...]) -> Any:
        return [0.0]

    def collect(self) -> Iterable[Any]:
        """As `Metric.collect`."""
        family = self._family()
        with _lock:
            series = list(self._series.items())
        for labels, value in series:
            family.add_metric(labels, value[0])
        return [family]

    def set(self, value: float, *labels: str) -> None:
        """It is `value` now."""
        if self._is_counted:
            self._of(labels)[0] = float(value)

    def inc(self, *labels: str, by: float = 1) -> None:
        """Go up by `by`, down where that is negative."""
        if self._is_counted:
            value = self._of(labels)
            with _lock:
                value[0] += by

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Have these series, and no others."""
        if not self._is_counted:
            return
        with _lock:
            for gone in self._series.keys() - values.keys():
                del self._series[gone]
        for labels, value in values.items():
            self.set(value, *labels)


class Histogram(Metric):
    """How often a measure came to at most each bound."""

    kind = "histogram"

    def __init__(self, name: str, meaning: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, meaning, labels)
        self.bounds = tuple(float(bound) for bound in bounds)

    def _family(self) -> Any:
        from prometheus_client.core import HistogramMetricFamily

        return HistogramMetricFamily(self.name, self.meaning, labels=self.labels)

    def _new(self, labels: tuple[str, ...]) -> Any:
        return Sums(self.bounds)

    def collect(self) -> Iterable[Any]:
        """As `Metric.collect`."""
        family = self._family()
        for labels, sums in self._summed():
            at_most = [*map(str, self.bounds), "+Inf"]
            family.add_metric(labels, list(zip(at_most, accumulate(sums.counts), strict=True)), sums.total)
        return [family]

    def observe(self, value: float, *labels: str) -> None:
        """Note one more measure."""
        if self._is_counted:
            self._of(labels).add(value)


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
