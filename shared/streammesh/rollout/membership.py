"""Rollout: what a service's manifest is while several editions of its code live side by side. Pure.

The newest edition decides about what it has, and what only an earlier one has stays routed to it. So a worker that
joins takes nothing away from those beside it, nor does one of the earlier edition that is started again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streammesh.edition import MOST, Edition, digest_of, digest_of_schema
from streammesh.errors import InvalidManifest
from streammesh.subscriptions.manifest import Manifest, Subscription, check

HOW = "take another name, or start it once with MESH_TAKEOVER=true if the name is yours"
FRESH_MS = 10_000  # since its last sign of life an edition has workers that run
LEFT_MS = (
    60_000  # how long an earlier edition counts after its last sign of life: a worker may be started again
)


class NameTaken(InvalidManifest):
    """Another team has registered this service name; nothing was stored, and the worker ends."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What is known about the others of a service when a worker joins.

    `stored`: the manifest there is. `seen`: the digest of an edition -> its last sign of life (ms). `living`: how many
    other workers live. `newest_ms`: how long the newest edition counts after its last sign of life.
    """

    stored: Manifest | None
    seen: Mapping[str, int]
    now_ms: int
    living: int
    newest_ms: int


def edition_of(mine: Manifest, since: int = 0) -> Edition:
    """Return what a worker's own manifest says it runs; names that a handler had before are among it."""
    tasks: dict[str, str] = {}
    for one in mine.subscriptions:
        digest = digest_of_schema(mine.schemas.get(one.task))
        tasks |= dict.fromkeys((*one.formerly, one.task), digest)
    return Edition(digest_of(mine.to_json()), since, tasks)


def joined(mine: Manifest, around: Neighbours, *, owner: str = "", takeover: bool = False) -> Manifest:
    """Return what is to be stored when a worker with the manifest `mine` joins. Raises NameTaken.

    `owner`: the digest of its key. With `takeover` it takes the name for itself, whoever had it.
    """
    stored, edition = around.stored, edition_of(mine, around.now_ms)
    if stored is None or takeover:
        return replace(mine, editions=(edition,), owner=owner)
    known = {one.digest: one for one in stored.editions}
    if not known:  # written by an earlier version of the mesh, or by hand
        before = edition_of(replace(stored, owner=""), around.now_ms - 1)
        known[before.digest] = before
    _refuse_another_team(mine, stored, edition, around.living, owner)
    newest = max(one.since for one in known.values())
    if edition.digest not in known:
        edition = replace(edition, since=max(around.now_ms, newest + 1))
    else:
        edition = known[edition.digest]
    kept = [one for one in known.values() if one.digest != edition.digest and _counts(one, newest, around)]
    editions = sorted([*kept, edition], key=lambda one: -one.since)[:MOST]
    if edition not in editions:
        editions[-1] = edition
    while True:
        merged = _merged(mine, stored, edition, editions, owner or stored.owner)
        try:
            check(merged)
            return merged
        except InvalidManifest:
            if len(editions) == 1:
                raise
            editions.remove(next(one for one in reversed(editions) if one.digest != edition.digest))


def is_due(stored: Manifest, edition: Edition, around: Neighbours) -> bool:
    """Return whether a worker of this edition should join anew: it is not among those that are stored, or one has left."""
    if all(one.digest != edition.digest for one in stored.editions):
        return True
    newest = max(one.since for one in stored.editions)
    return any(one.digest != edition.digest and not _counts(one, newest, around) for one in stored.editions)


def refuse_a_stranger(stored: Manifest, edition: Edition, around: Neighbours) -> None:
    """Raise NameTaken for an edition that came later than living ones of another team, which started at the same time."""
    since = next((one.since for one in stored.editions if one.digest == edition.digest), around.now_ms)
    before = {
        task
        for one in stored.editions
        if one.since < since and around.now_ms - around.seen.get(one.digest, 0) < FRESH_MS
        for task in one.tasks
    }
    if before and around.living and not stored.owner and edition.tasks and not before & edition.tasks.keys():
        raise _taken(stored.service, around.living, before, edition.tasks)


def others_that_know(
    stored: Manifest,
    seen: Mapping[str, int],
    now_ms: int,
    task: str,
    *,
    but: str,
    unfit: frozenset[str] = frozenset(),
) -> list[Edition]:
    """Return the living editions but one that know a task, and read its payload by none of the schemas `unfit`."""
    return [
        one
        for one in stored.editions
        if one.digest != but
        and one.tasks.get(task, None) is not None
        and one.tasks[task] not in unfit
        and now_ms - seen.get(one.digest, 0) < LEFT_MS
    ]


def _counts(one: Edition, newest: int, around: Neighbours) -> bool:
    kept = around.newest_ms if one.since == newest else LEFT_MS
    # One that no worker ever showed is of a mesh that shows none; it counts from when it was noticed.
    last = around.seen.get(one.digest, one.since if one.digest not in around.seen else 0)
    return around.now_ms - last < max(kept, LEFT_MS)


def _refuse_another_team(mine: Manifest, stored: Manifest, edition: Edition, living: int, owner: str) -> None:
    if stored.owner:
        if owner != stored.owner:
            why = (
                "this worker has another MESH_SERVICE_KEY" if owner else "this worker has no MESH_SERVICE_KEY"
            )
            raise NameTaken(f"the service name {mine.service!r} is registered with a key, and {why}: {HOW}")
        return
    if any(one.digest == edition.digest for one in stored.editions) or not living:
        return
    theirs = {one.task for one in stored.subscriptions}
    if edition.tasks and theirs and not theirs & edition.tasks.keys():
        raise _taken(mine.service, living, theirs, edition.tasks)


def _taken(service: str, living: int, theirs: Iterable[str], ours: Iterable[str]) -> NameTaken:
    return NameTaken(
        f"the service name {service!r} is taken: {living} of its workers live, and none of their handlers "
        f"({', '.join(sorted(theirs)[:3])}) is one of this worker's ({', '.join(sorted(ours)[:3])}): {HOW}"
    )


def _merged(
    mine: Manifest, stored: Manifest, edition: Edition, editions: list[Edition], owner: str
) -> Manifest:
    """Return what all these editions want, each task as the newest that has it says."""
    if len(editions) == 1:
        return replace(mine, editions=tuple(editions), owner=owner)
    own = {one.task: one for one in mine.subscriptions}
    known = {one.task: one for one in stored.subscriptions}
    wanted: dict[str, Subscription] = {}
    schemas: dict[str, Any] = {}
    taken_over: set[str] = set()
    for one in editions:
        is_mine = one.digest == edition.digest
        source, described = (own, mine.schemas) if is_mine else (known, stored.schemas)
        for task in one.tasks:
            subscription = source.get(task)
            if subscription is None or task in wanted or task in taken_over:
                continue
            wanted[task] = subscription
            if task in described:
                schemas[task] = described[task]
        taken_over |= {name for subscription in wanted.values() for name in subscription.formerly}
    first, second = (mine, stored) if editions[0].digest == edition.digest else (stored, mine)
    return Manifest(
        mine.service,
        first.version,
        subscriptions=tuple(wanted.values()),
        schemas=schemas,
        queues=tuple(dict.fromkeys((*first.queues, *second.queues))),
        publishes={**second.publishes, **first.publishes},
        steps={**second.steps, **first.steps},
        editions=tuple(editions),
        owner=owner,
    )
