"""Makes one answer of those that the shards gave. Pure.

A page holds what each shard has of it, in the page's order; its cursor is the cursors of all shards. So nothing is left
out and nothing comes twice; over several pages only each shard's own part is in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Document = dict[str, Any]
AT_ITS_END = "-"  # in the place of a shard's cursor
SEPARATOR = ","
ORDERS: Mapping[
    str, tuple[str, ...]
] = {  # what the newest of a page has most of: the first of these that is there
    "events": ("time",),
    "tasks": ("ended_at", "queued_at"),
    "dead_letters": ("at", "dead_at", "parked_at"),
}


def split_cursor(cursor: str | None, shards: int) -> list[str | None]:
    """Return each shard's cursor, None where it begins, AT_ITS_END where it has no more. Raises ValueError."""
    if cursor is None:
        return [None] * shards
    parts = cursor.split(SEPARATOR)
    if len(parts) != shards or not all(parts):
        raise ValueError(f"is none of a mesh of {shards} shards")
    return list(parts)


def joined_cursor(cursors: Sequence[str | None]) -> str | None:
    """Return one cursor for all shards, of which None has no more; None where nothing is left."""
    if not any(cursors):
        return None
    return SEPARATOR.join(one or AT_ITS_END for one in cursors)


def joined_position(positions: Sequence[str]) -> str:
    """Return the position in the notifications of all shards."""
    return SEPARATOR.join(positions)


def merged_page(name: str, pages: Sequence[Document | None], *, is_oldest_first: bool = False) -> Document:
    """Return one page of the shards' pages of `name`; None for a shard that has come to its end."""
    there = [page for page in pages if page is not None]
    merged: Document = {**there[0]}
    rows = [(one, place) for page in there for place, one in enumerate(page[name])]
    order = _order(name, [one for one, _ in rows])
    if name == "events" and there[0].get("standings"):
        standings = [one for page in there for one in page["standings"]]
        ranked = sorted(range(len(rows)), key=lambda i: order(rows[i][0]), reverse=True)
        merged["standings"] = [standings[i] for i in ranked]
        merged[name] = [rows[i][0] for i in ranked]
    else:
        merged[name] = sorted((one for one, _ in rows), key=order, reverse=not is_oldest_first)
    merged["next"] = joined_cursor([page["next"] if page else None for page in pages])
    if "history_away" in merged:
        merged["history_away"] = any(page["history_away"] for page in there)
    if "position" in merged:
        merged["position"] = joined_position([page["position"] for page in there])
    return merged


def _order(name: str, rows: Sequence[Document]) -> Callable[[Document], str]:
    fields = ORDERS[name]

    def of(row: Document) -> str:
        return next((str(row[field]) for field in fields if row.get(field)), "")

    return of


def merged_subscriptions(documents: Sequence[Document]) -> Document:
    """Return each subscription once: paused where any shard has it paused, with what waits in all."""
    found: dict[str, Document] = {}
    for document in documents:
        for one in document["subscriptions"]:
            known = found.setdefault(one["task"], {**one, "held": 0, "failures": 0})
            known["held"] += one["held"]
            known["failures"] += one["failures"]
            known["paused"] = known["paused"] or one["paused"]
    return {"subscriptions": list(found.values())}


SUMMED = ("workers", "queued", "waiting", "held", "lag", "dead_letters")


def merged_services(documents: Sequence[Document]) -> Document:
    """Return each service once: sums, the oldest that waits, and all processes."""
    found: dict[str, Document] = {}
    for document in documents:
        for one in document["services"]:
            known = found.get(one["service"])
            if known is None:
                found[one["service"]] = {**one, "processes": list(one["processes"])}
                continue
            for field in SUMMED:
                known[field] += one[field]
            known["processes"] += one["processes"]
            known["registered"] = known["registered"] or one["registered"]
            known["lag_exact"] = known["lag_exact"] and one["lag_exact"]
            known["last_seen"] = max(filter(None, (known["last_seen"], one["last_seen"])), default=None)
            oldest = [
                age
                for age in (known["oldest_waiting_seconds"], one["oldest_waiting_seconds"])
                if age is not None
            ]
            known["oldest_waiting_seconds"] = max(oldest, default=None)
    return {**documents[0], "services": list(found.values())}


COUNTED = (  # of a deed that is done in every shard; what else it answers is the same in each
    *("events", "tasks", "calls", "matched", "replayed", "dropped"),
    *("waiting", "running", "skipped", "folded", "slow_keys", "held", "failures"),
)


def summed(documents: Sequence[Document]) -> Document:
    """Return answers of the same deed done in every shard as one: what it counts is added, the rest is the first's."""
    merged: Document = {**documents[0]}
    for document in documents[1:]:
        for field in COUNTED:
            if field in document:
                merged[field] += document[field]
        for field, count in document.get("left", {}).items():
            merged["left"] = {**merged["left"], field: merged["left"].get(field, 0) + count}
    if "by" in merged:
        merged["by"] = [group for document in documents for group in document["by"]]
    if "more" in merged:
        merged["more"] = any(document["more"] for document in documents)
    if "removed" in merged:
        merged["removed"] = all(document["removed"] for document in documents)
    if "seconds" in merged:
        merged["seconds"] = max(document["seconds"] for document in documents)
    return merged


ONLY_IN_FIRST = ("no-scheduler", "no-beat")  # Beat is the mesh's, and runs over its first shard


def merged_status(documents: Sequence[Document]) -> Document:
    """Return how the whole mesh is: as bad as its worst shard; each finding says of which it is."""
    first = documents[0]
    findings = [
        {**finding, "text": f"shard {number}: {finding['text']}"}
        for number, document in enumerate(documents)
        for finding in document["findings"]
        if number == 0 or finding["code"] not in ONLY_IN_FIRST
    ]
    severities = {finding["severity"] for finding in findings}
    streams: dict[str, Document] = {}
    for document in documents:
        for one in document["streams"]:
            known = streams.setdefault(one["domain"], {**one, "kept": 0, "published": 0})
            known["kept"] += one["kept"]
            known["published"] += one["published"]
            known["last_at"] = max(filter(None, (known["last_at"], one["last_at"])), default=None)
    redis = {**first["redis"]}
    for document in documents[1:]:
        other = document["redis"]
        for field in ("memory", "memory_limit", "clients"):
            redis[field] += other[field]
        redis["ping_ms"] = max(redis["ping_ms"], other["ping_ms"])
        for field in ("persistent", "last_write_ok"):
            redis[field] = redis[field] and other[field]
    return {
        **first,
        "status": "failing" if "error" in severities else "degraded" if severities else "ok",
        "problems": [finding["text"] for finding in findings],
        "findings": findings,
        "redis": redis,
        "dispatchers": min(document["dispatchers"] for document in documents),
        "services": merged_services(documents)["services"],
        "streams": list(streams.values()),
        "totals": _sum_of([document["totals"] for document in documents]),
    }


def _sum_of(tables: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(table.get(name, 0) for table in tables) for name in {**tables[0]}}
