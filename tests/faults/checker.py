"""Compares what publishers were promised with what took effect. It asks the mesh nothing: see `append_log.py`.

A finding is one sentence about one thing. `lost`: something that was promised has not happened. `doubled`:
something that happens once has happened again. What a killed worker had begun and somebody else did again is
neither, since a handler cannot be run exactly once by anybody; it is counted as `repeated`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from streammesh.names import ENDED
from streammesh.notifications import COMPLETED, TASK_TYPES, UNROUTED, position_key

from tests.faults.followers import Seen
from tests.faults.load import Forgotten, History
from tests.faults.mix import BY_THE_MESH, BY_TYPE
from tests.faults.processes import Killed
from tests.faults.records import Run
from tests.faults.witness import Delivery, Facts, Identity

ENDS = {TASK_TYPES[state] for state in ENDED}
OURS = "fault."
SIGNAL_SECONDS = 0.5  # between the moment noted for a kill and the kill, either way, on a busy machine


@dataclass(slots=True)
class Findings:
    """What the checker found."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    forgotten: list[str] = field(
        default_factory=list
    )  # either of them, of events that the server may have forgotten
    repeated: int = 0  # runs of handlers beyond those that were needed
    events: int = 0  # that took effect, those that followed from others included

    _forgivable: set[str] = field(default_factory=set)  # ids of events

    def lose(self, event: str, text: str) -> None:
        """Something promised about an event has not happened."""
        (self.forgotten if event in self._forgivable else self.lost).append(text)

    def double(self, event: str, text: str) -> None:
        """Something about an event happened again."""
        (self.forgotten if event in self._forgivable else self.doubled).append(text)

    @property
    def clean(self) -> bool:
        """Whether nothing was lost and nothing doubled."""
        return not self.lost and not self.doubled


def check(
    history: History,
    facts: Facts,
    runs: Mapping[str, Sequence[Run]],
    *,
    strict: bool = False,
    kills: Sequence[Killed] = (),
    forgetful: Sequence[Forgotten] = (),
) -> Findings:
    """Compare. With `strict` no worker was killed, so a handler that ran more often than needed is doubled.

    Without, it is doubled when none of `kills` met who ran it before: nobody takes a task from the living.
    `forgetful`: times before a server was killed that writes to disk every second only. What happened to events then
    is its own doing, and is counted apart.
    """
    found = Findings(_forgivable=_touched(history, facts, forgetful))
    _stored(found, history, facts)
    tasks = _handed_over(found, facts)
    _ended(found, facts, tasks)
    _told(found, facts, tasks)
    _followed(found, facts, tasks)
    _ran(found, facts, tasks, runs, strict)
    if not strict:
        _again(found, tasks, runs, kills)
    return found


def _touched(history: History, facts: Facts, forgetful: Sequence[Forgotten]) -> set[str]:
    """The events to which something happened just before one of these moments."""

    def touches(at: float) -> bool:
        return any(forgotten.has(at) for forgotten in forgetful)

    if not forgetful:
        return set()
    touched = {sent.id for sent in history.sent if sent.accepted and touches(sent.accepted)}
    touched |= {
        event for (_, event), times in facts.stored.items() if any(touches(at / 1000) for at in times)
    }
    touched |= {note.event for note in facts.told if touches(note.at / 1000)}
    return touched | {event for (_, event), cause in facts.causes.items() if cause in touched}


def _stored(found: Findings, history: History, facts: Facts) -> None:
    sent = {one.identity: one for one in history.sent}
    for identity, one in sent.items():
        if one.refused:
            found.lose(identity[1], f"event {identity} was refused: {one.refused}")
        elif one.accepted and identity not in facts.stored:
            found.lose(identity[1], f"event {identity} was accepted and is not stored")
    for identity, times in facts.stored.items():
        kind = facts.types[identity]
        if not kind.startswith(OURS):
            continue
        found.events += 1
        if len(times) > 1:
            found.double(identity[1], f"event {identity} is stored {len(times)} times")
        if times[0] < facts.holds.get(identity, 0):
            early = (facts.holds[identity] - times[0]) / 1000
            found.lose(identity[1], f"event {identity} was let go {early:.2f} s before it was due")
        if identity not in sent and kind not in BY_THE_MESH:
            found.double(identity[1], f"event {identity} is stored and nobody published it")


def _handed_over(found: Findings, facts: Facts) -> dict[Delivery, str]:
    """Every delivery's task, after a look at how often it was handed over."""
    tasks: dict[Delivery, str] = {}
    for source, event in facts.stored:
        kind = facts.types[(source, event)]
        for name in BY_TYPE[kind].tasks if kind in BY_TYPE else ():
            delivery = (source, event, name)
            count = len(facts.handed.get(delivery, ()))
            if count == 0:
                found.lose(delivery[1], f"delivery {delivery} was never handed over")
            else:
                tasks[delivery] = facts.handed[delivery][0].task
            if count > 1:
                found.double(delivery[1], f"delivery {delivery} was handed over {count} times")
    for delivery in facts.handed:
        if delivery not in tasks:
            found.double(delivery[1], f"delivery {delivery} was handed over and nobody asked for it")
    by_task = Counter(
        hand.task for hands in facts.handed.values() for hand in {h.task: h for h in hands}.values()
    )
    for task, count in by_task.items():
        if count > 1:
            found.doubled.append(f"task {task} stands for {count} deliveries")
    return tasks


def _ended(found: Findings, facts: Facts, tasks: Mapping[Delivery, str]) -> None:
    for delivery, task in tasks.items():
        ends = facts.ended.get(task, [])
        wanted = BY_TYPE[facts.types[delivery[:2]]].tasks[delivery[2]]
        if not ends:
            found.lose(delivery[1], f"task {task} {delivery} never ended")
        elif len(ends) > 1:
            found.double(
                delivery[1], f"task {task} {delivery} ended {len(ends)} times: {[s for _, s in ends]}"
            )
        elif ends[0][1] != wanted:
            found.lose(delivery[1], f"task {task} {delivery} {ends[0][1]} where it should have {wanted}")


def _told(found: Findings, facts: Facts, tasks: Mapping[Delivery, str]) -> None:
    ends, lasts = Counter[str](), Counter[tuple[str, str]]()
    for note in facts.told:
        if note.type in ENDS:
            ends[note.task] += 1
        elif note.type in (COMPLETED, UNROUTED):
            lasts[(note.event, note.type)] += 1
    for delivery, task in tasks.items():
        if task in facts.ended and ends[task] == 0:
            found.lose(delivery[1], f"nobody was told that task {task} ended")
        if ends[task] > 1:
            found.double(delivery[1], f"the end of task {task} was told {ends[task]} times")
    for source, event in facts.stored:
        kind = facts.types[(source, event)]
        if kind not in BY_TYPE:
            continue
        last = COMPLETED if BY_TYPE[kind].tasks else UNROUTED
        if lasts[(event, last)] == 0:
            found.lose(event, f"nobody was told of the end of event {(source, event)}")
        if lasts[(event, last)] > 1:
            found.double(event, f"the end of event {(source, event)} was told {lasts[(event, last)]} times")


def _followed(found: Findings, facts: Facts, tasks: Mapping[Delivery, str]) -> None:
    followers: dict[str, list[Identity]] = defaultdict(list)
    for identity, cause in facts.causes.items():
        followers[cause].append(identity)
    for (source, event, _), task in tasks.items():
        kind = BY_TYPE[facts.types[(source, event)]]
        succeeded = [state for _, state in facts.ended.get(task, ())].count("succeeded")
        after = followers.get(event, [])
        if kind.follows and succeeded and not after:
            found.lose(event, f"task {task} succeeded and what it published is not stored")
        if len(after) > (1 if kind.follows and succeeded else 0):
            found.double(event, f"task {task} succeeded {succeeded} times and left {len(after)} events")


def _ran(
    found: Findings,
    facts: Facts,
    tasks: Mapping[Delivery, str],
    runs: Mapping[str, Sequence[Run]],
    strict: bool,
) -> None:
    for delivery, task in tasks.items():
        kind, mine = BY_TYPE[facts.types[delivery[:2]]], runs.get(task, [])
        succeeded = any(state == "succeeded" for _, state in facts.ended.get(task, ()))
        if succeeded and not any(run.through for run in mine):
            found.lose(delivery[1], f"task {task} {delivery} succeeded and its handler was never through")
        more = max(0, len(mine) - kind.attempts)
        found.repeated += more
        if strict and more:
            found.double(delivery[1], f"task {task} {delivery} ran {len(mine)} times: {_shown(mine)}")


def _again(
    found: Findings,
    tasks: Mapping[Delivery, str],
    runs: Mapping[str, Sequence[Run]],
    kills: Sequence[Killed],
) -> None:
    dead = {kill.pid: kill.at for kill in kills}
    for delivery, task in tasks.items():
        for before, after in pairwise(runs.get(task, ())):
            met = [dead[pid] for pid in (before.pid, before.session) if pid in dead]
            if before.raised is None and not any(
                before.began - SIGNAL_SECONDS <= at <= after.began + SIGNAL_SECONDS for at in met
            ):
                text = f"task {task} {delivery} ran again and nobody who had it was killed"
                found.double(delivery[1], f"{text}: {_shown([before, after])}")


def _shown(runs: Sequence[Run]) -> str:
    return ", ".join(
        f"attempt {r.attempt} in {r.pid} from {r.began:.2f} to {r.through or 0:.2f}" for r in runs
    )


def check_pushed(found: Findings, facts: Facts, seen: Sequence[Seen]) -> None:
    """Every client was told everything once and, of each shard, in order."""
    notes = [note for note in facts.told if note.event_type.startswith(OURS)]
    wanted = [(note.shard, note.position) for note in notes]
    types = {(note.shard, note.position): (note.type, note.event) for note in notes}
    for n, client in enumerate(seen):
        told = _places(client, types)
        counted = Counter(told)
        missed = [place for place in wanted if place not in counted]
        if missed:
            found.lost.append(f"client {n} was not told {len(missed)} of {len(wanted)}: {missed[:3]}")
        twice = [place for place, count in counted.items() if count > 1]
        if twice:
            found.doubled.append(f"client {n} was told {len(twice)} twice: {twice[:3]}")
        for shard in {shard for shard, _ in wanted}:
            mine = [place for number, place in told if number == shard]
            if mine != sorted(mine, key=position_key):
                found.doubled.append(f"client {n} was told things of shard {shard} out of their order")
        unknown = counted.keys() - set(wanted)
        if unknown:
            found.doubled.append(
                f"client {n} was told {len(unknown)} that never happened: {sorted(unknown)[:3]}"
            )
        if client.resyncs:
            found.lost.append(f"client {n} was told {client.resyncs} times that history is gone")


def _places(client: Seen, types: Mapping[tuple[int, str], tuple[str, str]]) -> list[tuple[int, str]]:
    """Shard and position of each notification that a client had. Its position names one in every shard."""
    places: list[tuple[int, str]] = []
    before = [""] * len(client.ids[0].split(",")) if client.ids else []
    for number, id in enumerate(client.ids):
        parts = id.split(",")
        if len(parts) == 1:
            places.append((0, id))
            continue
        new = [(n, place) for n, place in enumerate(parts) if place != before[n]]
        places.append(next((at for at in new if types.get(at) == client.about[number]), (-1, id)))
        before = parts
    return places


def last_position(facts: Facts) -> str:
    """Where a client that has seen everything stands."""
    lasts = ["0-0"] * facts.shards
    for note in facts.told:
        if note.event_type.startswith(OURS):
            lasts[note.shard] = note.position
    return ",".join(lasts)
