"""What a service may not ask of a mesh of several shards, each of which counts its own tasks only."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from streammesh.shards import PARTITION_KEY
from streammesh.subscriptions.manifest import Manifest

log = structlog.get_logger(__name__)


def limits_beyond_shard(manifest: Manifest) -> Iterator[str]:
    """Yield each limit by a key whose events may be in several shards, and what to do. Pure."""
    for one in manifest.subscriptions:
        if one.flow is not None and one.flow.key not in (None, PARTITION_KEY):
            yield (
                f"{one.task}: its limits are by key={one.flow.key!r}, and a shard counts its own tasks only; publish its "
                f'events with that value as their partitionkey, and say key="{PARTITION_KEY}"'
            )


def bound_to_shard(manifest: Manifest) -> list[str]:
    """Return the tasks that have a limit without a key. Pure."""
    return [one.task for one in manifest.subscriptions if one.flow is not None and one.flow.key is None]


def fits_shards(manifest: Manifest, shards: int) -> bool:
    """Say what holds within each shard; answer whether the service may start, with the reason in the log."""
    if shards == 1:
        return True
    wrong = list(limits_beyond_shard(manifest))
    for problem in wrong:
        log.error("manifest.refused", service=manifest.service, reason=problem)
    if not wrong and (bound := bound_to_shard(manifest)):
        log.warning("manifest.within_shard", service=manifest.service, tasks=bound)
    return not wrong
