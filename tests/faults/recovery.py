"""How long the slowest took to come back; each function says what is measured. Seconds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from tests.faults.processes import Killed
from tests.faults.records import Run
from tests.faults.witness import Facts, Taken


def slowest_hand_off(facts: Facts) -> float:
    """From an event's place in its stream to its task on the queue."""
    return max(
        (
            (hands[0].at - facts.stored[(source, event)][0]) / 1000
            for (source, event, _), hands in facts.handed.items()
            if (source, event) in facts.stored
        ),
        default=0.0,
    )


def slowest_end(facts: Facts) -> float:
    """From an event's place in its stream to the end of its task."""
    return max(
        (
            (facts.ended[hands[0].task][0][0] - facts.stored[(source, event)][0]) / 1000
            for (source, event, _), hands in facts.handed.items()
            if (source, event) in facts.stored and hands[0].task in facts.ended
        ),
        default=0.0,
    )


def slowest_takeover(runs: Mapping[str, Sequence[Run]], facts: Facts, kills: Iterable[Killed]) -> float:
    """From the kill of who had a task, begun or not, to the moment in which the next who got it began it.

    Who got it next may be killed as well before it begins; then the time counts from that kill.
    """
    dead = {kill.pid: kill.at for kill in kills}
    waits = [0.0]
    for task, mine in runs.items():
        for before, after in pairwise(mine):  # a child of a pool, whose worker lives on
            if before.broke_off and before.pid in dead and after.session == before.session:
                waits.append(after.began - dead[before.pid])
        for entry in facts.entries[task]:
            holders = facts.taken.get(entry, [])
            for former, holder in pairwise(holders):
                killed = dead.get(_process(former))
                began = [
                    run.began
                    for run in mine
                    if _process(holder) in (run.session, run.pid) and run.began >= holder.at / 1000
                ]
                if killed and began and former.at / 1000 <= killed <= began[0]:
                    waits.append(began[0] - killed)
    return max(waits)


def _process(taken: Taken) -> int:
    """The process id in a consumer's name: `host-pid-random`, or `service-pid@host` where another broker serves it."""
    named = re.search(r"-(\d+)(?:-[^-]*$|@)", taken.consumer)
    assert named is not None, taken.consumer
    return int(named[1])


def interrupted(runs: Mapping[str, Sequence[Run]], kills: Iterable[Killed]) -> tuple[int, int]:
    """How many kills met a process, or its child, in the middle of a handler, and how many handlers that were."""
    dead = {kill.pid: kill.at for kill in kills}
    met = [
        pid
        for mine in runs.values()
        for run in mine
        for pid in {run.pid, run.session} & dead.keys()
        if run.began <= dead[pid] < (run.through or run.raised or math.inf)
    ]
    return len(set(met)), len(met)


def slowest_return(
    facts: Facts, backs: Iterable[float], accepted: Sequence[float], services: Sequence[str]
) -> float:
    """From the moment in which Redis was back until everything had worked again.

    That is: an event was accepted by the API, one handed over by a dispatcher, and of every service a task
    begun and one ended. `accepted` are the times of the 202s. A return after which one of these never
    happened, because the load was over, does not count.
    """
    worked: list[list[float]] = [sorted(accepted)]
    worked.append(sorted(hand.at / 1000 for hands in facts.handed.values() for hand in hands))
    for service in services:
        for kind in ("task.started", "task.succeeded"):
            worked.append([n.at / 1000 for n in facts.told if n.service == service and n.type == kind])
    slowest = 0.0
    for back in backs:
        firsts = [next((at for at in times if at > back), None) for times in worked]
        if None not in firsts:
            slowest = max(slowest, max(first for first in firsts if first is not None) - back)
    return slowest


def shard_return(
    facts: Facts, shard: int, since: float, accepted: Iterable[float], services: Sequence[str]
) -> float:
    """As `slowest_return`, of one shard since one moment; endless where something never worked there again."""
    moments = [min((at for at in accepted if at > since), default=math.inf)]
    for service in services:
        for kind in ("task.queued", "task.started", "task.succeeded"):
            mine = (
                note.at / 1000
                for note in facts.told
                if note.shard == shard and note.service == service and note.type == kind
            )
            moments.append(min((at for at in mine if at > since), default=math.inf))
    return max(moments) - since
