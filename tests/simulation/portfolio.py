"""Which scenarios are tried, and how often relative to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation import (
    administration,
    batches,
    beyond,
    cancels,
    chunks,
    departures,
    durable,
    forwarding,
    limits,
    operations,
    past,
    places,
    shards,
    small,
    webhooks,
    workflows,
)
from tests.simulation.faults import FORGETS, KINDS
from tests.simulation.scenarios import Scenario, whole_mesh


@dataclass(frozen=True)
class Entry:
    """A scenario and its share of the schedules."""

    name: str
    scenario: Callable[..., Scenario]
    weight: int


PORTFOLIO = (
    Entry("two dispatchers", small.two_dispatchers, 20),
    Entry("two routers", departures.routed, 6),
    Entry("publishing again", small.publishing_again, 12),
    Entry("one client resuming", small.one_client_resuming, 10),
    Entry("two beats", small.two_beats, 8),
    Entry("two workers", small.two_workers, 8),
    Entry("the whole mesh", whole_mesh, 2),
    Entry("pausing", operations.pausing, 4),
    Entry("cancelling", operations.cancelling, 4),
    Entry("dead letters", operations.dead_letters, 4),
    Entry("purging", operations.purging, 3),
    Entry("leaving", departures.leaving, 5),
    Entry("deployment", departures.deployment, 3),
    Entry("removal", departures.removal, 4),
    Entry("vanishing", departures.vanishing, 2),
    Entry("trimming", departures.trimming, 3),
    Entry("api keys", administration.api_keys, 8),
    Entry("changing schedules", administration.changing_schedules, 6),
    Entry("alerts", administration.alerts, 3),
    Entry("wrong types", administration.wrong_types, 3),
    Entry("other broker", forwarding.other_broker, 4),
    Entry("workflows", workflows.workflows, 3),
    Entry("durable handlers", durable.durable, 5),
    Entry("places", places.places, 5),
    Entry("limits", limits.limits, 4),
    Entry("batches", batches.batches, 5),
    Entry("cancelling events", cancels.cancels, 4),
    Entry("streams of chunks", chunks.chunks, 3),
    Entry("backfills", past.backfills, 4),
    Entry("two shards", shards.two_shards, 8),
    Entry("over two shards", beyond.over_shards, 6),
    Entry("webhooks", webhooks.webhooks, 6),
    Entry("url services", webhooks.url_services, 4),
)
BY_NAME = {entry.name: entry for entry in PORTFOLIO}


def recordable(entry: Entry) -> Scenario:
    """Return the scenario with a server that forgets nothing: a real one cannot be made to do so at a moment."""
    kinds = tuple(kind for kind in KINDS if kind != FORGETS)
    made: Scenario = entry.scenario(kinds=kinds)
    return made
