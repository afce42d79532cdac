"""Controls: the product with one safeguard taken out. A simulation that finds nothing wrong with these proves nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from streammesh import lua
from streammesh.batches.list_handler import BatchContext
from streammesh.lua import signature
from streammesh.tasks.task import AttemptOutcome

from services.api.push.follower import Follower
from services.api.push.hub import Hub
from services.dispatcher import lanes
from tests.faults.controls.hasty import HastyLane
from tests.faults.controls.ungated import GATES, ROUTE_GATES
from tests.simulation import (
    batches,
    beyond,
    cancels,
    chunks,
    departures,
    durable,
    limits,
    past,
    places,
    small,
    webhooks,
)
from tests.simulation.scenarios import Scenario


@dataclass(frozen=True)
class Mutant:
    """`holes`: per script, what is replaced by what, each there exactly once; `patches`: attributes of objects.

    `is_rare`: too few schedules find it for a control; its token is kept.
    """

    name: str
    scenario: Scenario
    holes: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    patches: tuple[tuple[Any, str, Any], ...] = ()
    is_rare: bool = False

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Within: the product is broken like this. Raises ValueError when a script has changed since."""
        broken = {name: _with_holes(lua.script(name), holes) for name, holes in self.holes.items()}
        whole = lua.script
        with ExitStack() as stack:
            stack.enter_context(
                patch.object(signature, "script", lambda name: broken.get(name) or whole(name))
            )
            for target, attribute, value in self.patches:
                stack.enter_context(patch.object(target, attribute, value))
            yield


def _with_holes(script: lua.Script, holes: dict[bytes, bytes]) -> lua.Script:
    text = script.text
    for gate, hole in holes.items():
        if text.count(gate) != 1:
            raise ValueError(f"{script.name}.lua has changed: {gate!r} is not in it once")
        text = text.replace(gate, hole)
    return lua.Script(script.name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


def _is_over(self: AttemptOutcome) -> bool:
    """Leave no entry alone that was not taken in the same step."""
    return self not in (AttemptOutcome.SKIPPED, AttemptOutcome.NOT_HANDED_OVER, AttemptOutcome.LOST)


def _attach_anywhere(self: Hub, follower: Follower) -> bool:
    """Attach a follower that has not caught up."""
    self._attach(follower)
    follower.attached_at = (0, 0)
    return True


def _give_payloads(self: BatchContext, tasks: Sequence[str], payloads: Sequence[Any]) -> None:
    """Set the payloads alone."""
    self.payloads = payloads


FREEZES = ("long freeze", "die after", "die before", "reply lost")
BROKEN = "script ?"  # what a script with a hole is called where faults strike
FAILING: dict[str, Any] = {
    "trouble": "some fail", "most": 4, "linger": 0.2, "concurrency": None, "cancels": None, "stays": 0.0,
}  # fmt: skip
MUTANTS = (
    Mutant(
        "the hand-off's gate",
        small.two_dispatchers(budget=4, kinds=FREEZES),
        {"handoff": dict(GATES)},
    ),
    Mutant(
        "the fencing token",
        small.two_workers(budget=4, kinds=FREEZES),
        {
            "settle": {
                b"(attempt ~= token or was ~= 'started' or (entry ~= '' and row[5] ~= entry))": b"false",
                b"  if ENDED[was] then\n": b"  if false then\n",
            }
        },
    ),
    Mutant(
        "the lease",
        small.two_workers(budget=4, kinds=FREEZES),
        {
            "queue_take": {
                b"if row[3] >= lease then stale[#stale + 1] = row else": b"if false then stale[1] = row else"
            }
        },
    ),
    Mutant(
        "the order of acknowledging and queueing",
        small.two_dispatchers(budget=4, kinds=FREEZES),
        {"handoff": dict(GATES)},
        ((small, "Lane", HastyLane),),
    ),
    Mutant(
        "the position that the router moves",
        departures.routed(budget=4, kinds=FREEZES),
        {"route": dict(ROUTE_GATES)},
    ),
    Mutant(
        "publishing once",
        small.publishing_again(budget=4, kinds=FREEZES),
        {
            "publish_once": {
                b"local at = known and redis.call('HGET', e.row, kind.field)": b"local at = false"
            }
        },
    ),
    Mutant(
        "the gate of a tick",
        small.two_beats(budget=4, kinds=FREEZES),
        {
            "tick": {
                b"if math.floor(stands_at) ~= move.stood_at then return false end": b"",
                b"said[i] = is_stored(event) or 'stored'": b"said[i] = 'stored'",
            }
        },
    ),
    Mutant(
        "the position of a follower",
        small.one_client_resuming(budget=4),
        patches=((Hub, "attach_at_end", _attach_anywhere),),
    ),
    Mutant(
        "the waking of a retry",
        small.two_workers(budget=0),
        {"retry_later": {b"write('ZADD', due, due_at, member)": b""}},
    ),
    Mutant(
        "follow-up events within the outcome",
        small.two_workers(budget=4, kinds=FREEZES),
        {"settle": {b"local conflict = store_all(one.follow_ups)": b"local conflict = false"}},
    ),
    Mutant(
        "the record of a step",
        durable.durable(budget=4, kinds=FREEZES),
        {
            "record_step": {
                b"redis.call('HSET', one.task_row, field, made, 'steps'": b"redis.call('HSET', one.task_row, 'x', made, 'steps'"
            }
        },
    ),
    Mutant(
        "the waking of a wait",
        durable.durable(budget=0),
        {
            "signal": {
                b"if state ~= 'waiting' or row[2] ~= w.name then return true end": b"if state then return true end"
            }
        },
    ),
    Mutant(
        "the place of a key",
        places.places(budget=2, kinds=FREEZES),
        {
            name: {b"return not f.most or flow_running(f, key) < f.most": b"return true"}
            for name in ("handoff", "route", "settle", "retry_later", "promote", "suspend")
        },
    ),
    Mutant(
        "the place of a disabled webhook",
        webhooks.webhooks(budget=0),
        {"store_webhook": {b"if redis.call('HEXISTS', state, 'behind') == 0 then": b"if false then"}},
    ),
    Mutant(
        "the keeping of a delivery that did not arrive",
        webhooks.webhooks(budget=0),
        {
            "settle_webhook": {
                b"if one.outcome == 'delivered' or (holds and one.outcome ~= 'again') then": b"if true then"
            }
        },
    ),
    Mutant(
        "the memory of an event that cancels",
        cancels.cancels(budget=0),
        {
            name: {b"if said[1] and said[2] and said[1] > mark.published then": b"if false then"}
            for name in ("handoff", "route")
        },
    ),
    Mutant(
        "the age of an event that cancels in another shard",
        beyond.over_shards(budget=0),
        {"note_canceller": {b"published = moment_ago(age, now)": b"published = 0"}},
    ),
    Mutant(
        "the epoch of a stream of chunks",
        chunks.chunks(budget=0),
        {"write_chunks": {b"if by ~= owner then": b"if not by then"}},
    ),
    Mutant(
        "the rate of a key",
        limits.limits(budget=0),
        {
            name: {b"local at = f.throttle and rate_wait(f, f.throttle, key)": b"local at = false"}
            for name in ("handoff", "route")
        },
    ),
    Mutant(
        "the look of a singleton",
        limits.limits(budget=0),
        {name: {b"local other = one_of(f, t.key)": b"local other = nil"} for name in ("handoff", "route")},
    ),
    Mutant(
        "the border between the past and what comes live",
        past.backfills(budget=0),
        {"backfill": {b"is_before(served[2], served[1]) and served[1] or served[2]": b"'0-0'"}},
    ),
    Mutant(
        "the right of a run to end what it took along",
        batches.batches(budget=2, kinds=("long freeze",), one_in=2, only=(BROKEN,), **FAILING),
        {
            "settle": {
                b"if was ~= 'queued' or not is_of_batch(task, token, row[13]) then return 'lost' end": b""
            }
        },
    ),
)


# What the simulation found in the product, each without its mend. `found.txt` has a token of each.
MENDED = (
    Mutant(
        "the group of a removed service stays away",
        departures.removal(budget=4, kinds=FREEZES),
        {
            "join_group": {
                b"if is_service and redis.call('EXISTS', version) == 1 and redis.call('HEXISTS', manifests, group) == 0"
                b" then return 0 end": b""
            }
        },
    ),
    *(mutant for mutant in MUTANTS if mutant.name == "the place of a disabled webhook"),
    Mutant(
        "the entry of an attempt that another goes on with",
        small.two_workers(),
        patches=((AttemptOutcome, "leaves_entry", property(_is_over)),),
        is_rare=True,
    ),
    Mutant(
        "the names of what a batch publishes",
        batches.batches(budget=0, **FAILING),
        patches=((BatchContext, "give", _give_payloads),),
    ),
    Mutant(
        "who of a batch is named where the first was cancelled",
        batches.batches(budget=0, **{**FAILING, "cancels": 1}),
        {
            "settle": {
                b"answers[i] = one.state == 'folded' and refused[one.token] and 'lost' or settle(one)": b"answers[i] = settle(one)"
            }
        },
    ),
    Mutant(
        "a group of nobody that somebody else took away",
        batches.batches(),
        patches=((lanes, "ResponseError", RecursionError),),
        is_rare=True,
    ),
)
CONTROLS = tuple(dict.fromkeys(mutant.name for mutant in (*MUTANTS, *MENDED) if not mutant.is_rare))
BY_NAME = {mutant.name: mutant for mutant in (*MUTANTS, *MENDED)}
TOKENS = Path(__file__).with_name("found.txt")


def tokens() -> dict[str, str]:
    """Return the token of each that was found once, by the name of its control."""
    lines = TOKENS.read_text().splitlines()
    return {name: token for name, _, token in (line.partition("\t") for line in lines)}
