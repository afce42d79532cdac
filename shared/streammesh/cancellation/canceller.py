"""Cancels the open tasks of a subscription for an event: `cancel_on`.

The hand-off puts each task that may be cancelled into an index by its value, and remembers each event that cancels. A
dispatcher then ends those tasks at once, however busy their workers are; so does, when it gets there, a handler of the
service's own, whose result names them. Both may come to the same task, or be killed in between: each ends once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from streammesh import lua, plain_json
from streammesh.events.envelope import Event
from streammesh.keys import Keys
from streammesh.lua.cancels import (
    CancelsMadeScript,
    FindCancellableScript,
    NoteCancelledScript,
    NoteCancellerScript,
)
from streammesh.settings import MeshSettings
from streammesh.subscriptions.cancel_paths import value_digest
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.cancel_marks import CancelWork
from streammesh.tasks.context import Context
from streammesh.tasks.records import TaskRow, read_task
from streammesh.tasks.settlement import WAS_CANCELLED, Ending, Settlement
from streammesh.tasks.task import Failure, Holder, LedgerAnswer

PAGE = 200  # tasks that are cancelled in one go
MOST_NOTED = 100  # tasks that the result of an event names
FIELDS = (b"state", b"attempt", b"meta", b"entry", b"held", b"workflow")
AtOnce = Callable[[list[lua.Call[Any]]], Awaitable[list[Any]]]


def canceller_subscription(of: Subscription, event_type: str) -> Subscription:
    """The subscription to events of a type that cancel tasks of another one."""
    path = of.cancel_on[event_type][0]
    digest = hashlib.sha256(plain_json.dumps([of.task, event_type, path])).hexdigest()[:8]
    word = re.sub(r"[^a-z0-9]+", "_", event_type.lower()).strip("_")[:64]
    return Subscription(
        service=of.service,
        task=f"{of.service}.cancel_{word}_{digest}",
        type=event_type,
        retries=1_000_000,  # it fails only where Redis does
        priority=9,
        queue=of.queue,
        cancels=(of.task, path),
    )


def canceller_handler(
    of: Subscription, event_type: str, canceller: Callable[[], Canceller]
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """The handler of that subscription: it answers which tasks the event cancelled."""
    path = of.cancel_on[event_type][0]

    async def cancel(event: Event, ctx: Context) -> dict[str, Any]:
        digest = value_digest(event_type, event, path)
        if digest is None:
            return {"cancelled": []}

        async def at_once(calls: list[lua.Call[Any]]) -> list[Any]:
            return [await ctx.run.ask(call) for call in calls]

        return {"cancelled": await canceller().cancel(CancelWork(of.task, digest), at_once, event.id)}

    return cancel


class Canceller:
    """Ends what events cancelled, of one mesh."""

    def __init__(self, keys: Keys, settings: MeshSettings) -> None:
        self._keys, self._settlement = keys, Settlement(keys, settings)

    async def cancel(self, work: CancelWork, at_once: AtOnce, event_id: str | None = None) -> list[str]:
        """Cancel what is open; answers the tasks that the event cancelled, this one or else the newest that did.

        `at_once` makes calls, of which one may fail without the others, and answers their results.
        """
        after, known = "", event_id
        while True:
            [found] = await at_once([self._find_call(work, after)])
            if not found:
                break
            failure = _stored_failure(found[0])
            newest = str((failure.by or {}).get("id"))
            known = event_id or newest
            rows = [row for raw in found[2:] if (row := _row(raw)) is not None]
            calls = [
                self._settlement.call(row.ref, row.place, Holder.ASKED_FIRST, Ending.cancelled(failure))
                for row in rows
            ]
            answers = await at_once(list(calls)) if calls else []
            done = [
                row.id
                for row, answer in zip(rows, answers, strict=True)
                if not isinstance(answer, Exception)
                and answer.answer in (LedgerAnswer.DONE, LedgerAnswer.ASKED)
            ]
            if done and newest == known:
                await at_once([self._note_call(work, known, done)])
            after = found[1].decode("utf-8", "replace")
            if not after:
                break
        if known is None:
            return []
        [noted] = await at_once([self._note_call(work, known, [])])
        return sorted(one.decode("utf-8", "replace") for one in noted)

    def made_call(self, work: CancelWork, score: float) -> lua.Call[bool]:
        """`cancels_made.lua`: that is done, if nothing was added since `score` was seen."""
        return CancelsMadeScript(
            cancelling=self._keys.cancelling(), member=work.member, score=f"{score:.17g}"
        ).call(bool)

    def came_call(self, work: CancelWork, by: bytes, age_ms: int) -> lua.Call[int]:
        """`note_canceller.lua`: an event that cancels was published in another shard, so long ago."""
        return NoteCancellerScript(
            canceller=self._keys.canceller(work.task, work.digest),
            cancelling=self._keys.cancelling(),
            age=age_ms,
            by=by,
            work=work.member,
            changed=self._keys.manifests_changed(),
        ).call(int)

    def _find_call(self, work: CancelWork, after: str) -> lua.Call[list[Any]]:
        keys = self._keys
        return FindCancellableScript(
            cancellable=keys.cancellable(work.task),
            canceller=keys.canceller(work.task, work.digest),
            digest=work.digest,
            after=after,
            most=PAGE,
            task_prefix=keys.task(""),
        ).call(list)

    def _note_call(self, work: CancelWork, event_id: str, tasks: list[str]) -> lua.Call[list[bytes]]:
        key = self._keys.canceller(work.task, work.digest)
        return NoteCancelledScript(canceller=key, event=event_id, most=MOST_NOTED + 2, tasks=tasks).call(list)


def _stored_failure(raw: bytes) -> Failure:
    """As the hand-off stored it; what somebody else wrote there names no event."""
    try:
        error = orjson.loads(raw)["error"]
        return Failure(str(error["reason"]), "Cancelled", by={str(k): str(v) for k, v in error["by"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return WAS_CANCELLED


def _row(raw: list[Any]) -> TaskRow | None:
    task, *values = raw
    return read_task(
        task.decode("utf-8", "replace"),
        {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None},
    )
