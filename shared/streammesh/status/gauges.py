"""The state of the mesh as gauges for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streammesh.settings import MeshSettings
from streammesh.status.snapshot import Snapshot
from streammesh.status.whole import findings_of_all, joined
from streammesh.telemetry import catalogue


def show(each: Sequence[Snapshot], settings: MeshSettings) -> None:
    """Set every gauge of the mesh as a whole from one look at each shard; a service that is gone has no series any more."""
    found = joined(each)
    catalogue.DISPATCHERS.set(found.dispatchers)
    catalogue.BEATS.set(found.beats)
    catalogue.APIS.set(found.apis)
    services = {(state.service,): state for state in found.services}
    catalogue.WORKERS.replace({name: state.workers for name, state in services.items()})
    catalogue.LAG.replace({name: state.lag for name, state in services.items()})
    catalogue.QUEUED.replace({name: state.queued for name, state in services.items()})
    catalogue.WAITING.replace({name: state.waiting for name, state in services.items()})
    catalogue.HELD.replace({name: state.held for name, state in services.items()})
    flows = {(task,): flow for task, flow in found.flows.items()}
    catalogue.FLOW_WAITING.replace({task: flow.waiting for task, flow in flows.items()})
    catalogue.FLOW_RUNNING.replace({task: flow.running for task, flow in flows.items()})
    catalogue.FLOW_SLOW.replace({task: flow.slow for task, flow in flows.items()})
    catalogue.FLOW_SKIPPED.replace({task: flow.skipped for task, flow in flows.items()})
    catalogue.FLOW_FOLDED.replace({task: flow.folded for task, flow in flows.items()})
    catalogue.DEAD_LETTERS.replace({name: state.dead_letters for name, state in services.items()})
    ages: dict[tuple[str, ...], float] = {
        name: max(0, found.now_ms - state.oldest_ms) / 1000 if state.oldest_ms else 0.0
        for name, state in services.items()
    }
    catalogue.OLDEST.replace(ages)
    catalogue.PAUSED.replace({(pause.task,): 1 for pause in found.paused})
    catalogue.OUTBOX.replace({(str(one.shard),): one.events for one in found.outboxes})
    catalogue.REDIS_MEMORY.set(found.redis.memory)
    catalogue.REDIS_MEMORY_LIMIT.set(found.redis.memory_limit)
    catalogue.REDIS_PING.set(found.redis.ping_ms / 1000)
    wrong = Counter((one.code, str(one.severity)) for one in findings_of_all(each, settings))
    catalogue.FINDINGS.replace({labels: float(count) for labels, count in wrong.items()})


def hide() -> None:
    """Take back what is only true of a mesh that answers."""
    of_services = (catalogue.WORKERS, catalogue.LAG, catalogue.QUEUED, catalogue.WAITING, catalogue.HELD)
    for gauge in (
        *of_services,
        *(catalogue.FLOW_WAITING, catalogue.FLOW_RUNNING, catalogue.FLOW_SLOW, catalogue.FLOW_SKIPPED),
        catalogue.FLOW_FOLDED,
        catalogue.DEAD_LETTERS,
        catalogue.OLDEST,
        catalogue.PAUSED,
        catalogue.OUTBOX,
        catalogue.FINDINGS,
    ):
        gauge.replace({})
