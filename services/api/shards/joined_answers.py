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


def merged_keys(documents: Sequence[Document | None], places: Sequence[str | None]) -> Document:
    """Return a page of the keys of a subscription's flow, with the counts of all shards.

    None for a shard that does not know it; of one that had come to its end only the counts are of this page.
    """
    there = [document for document in documents if document is not None]
    merged = summed(there)
    keys: dict[str, Document] = {}
    following: list[str | None] = []
    for document, place in zip(documents, places, strict=True):
        is_over = document is None or place == AT_ITS_END
        following.append(None if is_over or document is None else document["next"])
        for one in () if is_over or document is None else document["keys"]:
            known = keys.get(one["key"])
            keys[one["key"]] = one if known is None else _added_key(known, one)
    return {**merged, "keys": list(keys.values()), "next": joined_cursor(following)}


def _added_key(one: Document, other: Document) -> Document:
    def least(name: str) -> Any:
        return min((value for value in (one[name], other[name]) if value is not None), default=None)

    return {
        "key": one["key"],
        "waiting": one["waiting"] + other["waiting"],
        "running": one["running"] + other["running"],
        "turn": least("turn"),
        "starts_at": least("starts_at"),
    }


def merged_service(documents: Sequence[Document]) -> Document:
    """Return one service's page: what it holds in all shards, and what waits the longest in any."""
    merged: Document = merged_services([{"services": [document]} for document in documents])["services"][0]
    oldest = [document["oldest"] for document in documents if document["oldest"] is not None]
    return {
        **merged,
        "oldest": min(oldest, key=lambda one: str(one["since"]), default=None),
        "holding": [one for document in documents for one in document["holding"]],
    }


def merged_failures(documents: Sequence[Document], most: int) -> Document:
    """Return the most frequent groups of failures, each with what all shards counted of it."""
    groups: dict[tuple[Any, ...], Document] = {}
    for document in documents:
        for one in document["failures"]:
            name = one["service"], one["task"], one["kind"]
            known = groups.get(name)
            if known is None:
                groups[name] = {**one}
                continue
            newest = max(known, one, key=lambda group: str(group["last_at"]))
            first_at, count = min(known["first_at"], one["first_at"]), known["count"] + one["count"]
            groups[name] = {**newest, "count": count, "first_at": first_at}
    ranked = sorted(groups.values(), key=lambda one: str(one["last_at"]), reverse=True)
    ranked.sort(key=lambda one: -int(one["count"]))
    return {
        **documents[0],
        "failures": ranked[:most],
        "since": min(document["since"] for document in documents),
        "counted": sum(document["counted"] for document in documents),
        "complete": all(document["complete"] for document in documents),
        "history_away": any(document["history_away"] for document in documents),
    }


def merged_types(documents: Sequence[Document]) -> Document:
    """Return a page of event types: as far as every shard's page goes."""
    cuts = [document["next"] for document in documents if document["next"] is not None]
    following = min(cuts, default=None)
    by_name: dict[str, list[Document]] = {}
    for document in documents:
        for one in document["types"]:
            by_name.setdefault(one["type"], []).append(one)
    shown = [name for name in sorted(by_name) if following is None or name <= following]
    return {**documents[0], "types": [merged_type(by_name[name]) for name in shown], "next": following}


def merged_type(documents: Sequence[Document]) -> Document:
    """Return one event type, with everybody who was seen publishing it in any shard."""
    publishers: dict[str, Document] = {}
    readers: dict[tuple[Any, ...], Document] = {}
    for document in documents:
        for one in document["publishers"]:
            known = publishers.get(one["source"], one)
            publishers[one["source"]] = {
                **(known if known["declared"] else one),
                "last_seen": _latest(known["last_seen"], one["last_seen"]),
            }
        for reader in document["readers"]:
            readers.setdefault((reader["service"], reader["task"], reader["type"]), reader)
    last = None
    for document in documents:
        last = _latest(last, document["last_seen"])
    return {
        **documents[0],
        "publishers": [publishers[source] for source in sorted(publishers)],
        "readers": list(readers.values()),
        "last_seen": last,
    }


def _latest(one: str | None, other: str | None) -> str | None:
    return max(filter(None, (one, other)), default=None)


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
            known["last_seen"] = _latest(known["last_seen"], one["last_seen"])
            rates = [
                rate for rate in (known["falls_per_second"], one["falls_per_second"]) if rate is not None
            ]
            known["falls_per_second"] = round(sum(rates), 1) if rates else None
            known["gone_in_seconds"] = _longest(known["gone_in_seconds"], one["gone_in_seconds"])
            oldest = [
                age
                for age in (known["oldest_waiting_seconds"], one["oldest_waiting_seconds"])
                if age is not None
            ]
            known["oldest_waiting_seconds"] = max(oldest, default=None)
    return {**documents[0], "services": list(found.values())}


def _longest(one: float | None, other: float | None) -> float | None:
    return max((left for left in (one, other) if left is not None), default=None)


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
            known["last_at"] = _latest(known["last_at"], one["last_at"])
    redis = {**first["redis"]}
    for document in documents[1:]:
        other = document["redis"]
        for field in ("memory", "memory_limit", "clients", "refused_at"):
            redis[field] += other[field]
        rates = [rate for rate in (redis["grows_per_second"], other["grows_per_second"]) if rate is not None]
        redis["grows_per_second"] = round(sum(rates), 1) if rates else None
        left = [one for one in (redis["full_in_seconds"], other["full_in_seconds"]) if one is not None]
        redis["full_in_seconds"] = min(left, default=None)
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
