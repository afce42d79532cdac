"""What one edition of a service cannot run and another that lives may: kept for that one, and no dead letter.

A worker puts such a task back, longer each time, and another worker is given it then; how long that may go on is bounded
by the other edition's life. Steps without I/O, as in `attempt.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import structlog

from streammesh import lua
from streammesh.edition import Edition
from streammesh.errors import Misfit
from streammesh.keys import Keys
from streammesh.lua.services import LookBesideScript
from streammesh.rollout.membership import others_that_know
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import readable
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.settlement import Ask, Elsewhere
from streammesh.tasks.task import Failure, LedgerAnswer, QueuePlace, TaskRef

KIND = "OtherEdition"
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0  # seconds
log = structlog.get_logger(__name__)


class Beside(NamedTuple):
    """A service's manifest, the last sign of life (ms) of each of its editions, and what a task's row says."""

    now_ms: int
    manifest: Manifest | None
    unfit: frozenset[str]  # digests of schemas that the task's payload did not fit
    waits: int
    seen: Mapping[str, int]

    def others(self, task: str, edition: str, schema: str | None = None) -> list[Edition]:
        """Return the living editions beside this one that know a task, and may be able to read it."""
        if self.manifest is None:
            return []
        unfit = self.unfit if schema is None else self.unfit | {schema}
        return others_that_know(self.manifest, self.seen, self.now_ms, task, but=edition, unfit=unfit)


def look_call(keys: Keys, service: str, task_id: str) -> lua.Call[Beside]:
    """`look_beside.lua`."""
    return LookBesideScript(
        manifests=keys.manifests(),
        editions=keys.editions(service),
        task_row=keys.task_in(service, task_id),
        service=service,
    ).call(_parse)


def kept_for_another(
    ledger: Ledger,
    edition: str,
    schema: str,
    random: Callable[[], float],
    ref: TaskRef,
    place: QueuePlace,
    attempt: int,
    error: Misfit,
) -> Elsewhere:
    """Put a task back whose payload does not fit `schema`, if a living edition but this one may read it."""
    if not edition or not place.entry:
        return None
    beside: Beside = yield Ask(look_call(ledger.keys, ref.service, ref.task_id))
    others = beside.others(ref.name, edition, schema)
    if not others:
        return None
    wait = min(FIRST_WAIT * 1.5 ** min(beside.waits, 12), LONGEST_WAIT) * (0.5 + random() / 2)
    reason = f"{error.reason}; edition {others[0].digest} of {ref.service} may read it, and is waited for"
    failure = Failure(reason[:1_000], KIND, refused=True)
    unfit = sorted(beside.unfit | {schema})
    answer = yield Ask(ledger.retry_later(ref, place, attempt, timedelta(seconds=wait), failure, unfit))
    log.warning(
        "task.other_edition", attempt=attempt, reason=reason, wait=round(wait, 3), answer=answer.value
    )
    return LedgerAnswer(answer)


def _parse(answer: list[Any]) -> Beside:
    now, manifest, unfit, waits, *seen = answer
    return Beside(
        int(now),
        readable(manifest) if manifest else None,
        frozenset(unfit.decode("utf-8", "replace").split()),
        int(waits) if waits.isdigit() and len(waits) < 10 else 0,
        {
            digest.decode("utf-8", "replace"): int(float(ms))
            for digest, ms in zip(seen[::2], seen[1::2], strict=False)
        },
    )
