"""Whether a Redis server is fit for a mesh: what it says about itself, in sentences that say what to do. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OLDEST = (7, 0)  # scripts with flags, exact consumer lags
NEARLY = 0.9  # of the mark, and of the clients that the server takes
LAGS_SECONDS = 10


class Severity(StrEnum):
    """How bad it is."""

    REFUSED = "refused"  # a process does not start with such a server, or only where a setting says so
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"  # worth knowing; a mesh that is small or tried out is well without


@dataclass(frozen=True, slots=True)
class ServerFinding:
    """One thing that is wrong: `code` for programs, `text` for people, `do` what to do."""

    code: str
    severity: Severity
    text: str
    do: str
    setting: str = ""  # the setting that has a process start all the same


def inspect(
    info: Mapping[str, Any], config: Mapping[str, str] | None, *, mark: int = 85, follows: bool = False
) -> list[ServerFinding]:
    """What is wrong with a server, the worst first.

    `info`: INFO's fields, as redis-py reads them. `config`: what CONFIG GET says, None where it may not be asked.
    `mark`: MESH_MEMORY_MARK. `follows`: whether the mesh's URL is Sentinel's or a cluster's, so that a replica
    may take over.
    """
    found = [
        *_version(info),
        *_memory(info, mark),
        *_disk(info, config),
        *_clients(info),
        *_copies(info, follows),
    ]
    return sorted(found, key=lambda one: list(Severity).index(one.severity))


def _version(info: Mapping[str, Any]) -> Iterator[ServerFinding]:
    text = str(info.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", text)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        yield ServerFinding(
            "redis-too-old",
            Severity.REFUSED,
            f"Redis {text[:20]} is older than {OLDEST[0]}.{OLDEST[1]}",
            "upgrade to Redis 7.0 or Valkey 8, or newer",
        )


def _memory(info: Mapping[str, Any], mark: int) -> Iterator[ServerFinding]:
    policy, most = str(info.get("maxmemory_policy", "noeviction")), _number(info, "maxmemory")
    if policy != "noeviction":
        yield ServerFinding(
            "redis-evicts",
            Severity.REFUSED if most else Severity.WARNING,
            f"Redis evicts keys when it is full (maxmemory-policy {policy[:20]}): accepted events would vanish",
            "set `maxmemory-policy noeviction`",
            setting="MESH_ALLOW_EVICTION",
        )
    if evicted := _number(info, "evicted_keys"):
        yield ServerFinding(
            "redis-has-evicted",
            Severity.ERROR,
            f"Redis has evicted {evicted:,} keys since it started: accepted events may be lost",
            "set `maxmemory-policy noeviction`, and look at what other programs keep in this Redis",
        )
    if not most:
        yield ServerFinding(
            "redis-no-limit",
            Severity.NOTE,
            "Redis has no maxmemory: it grows until the machine ends it",
            "set `maxmemory` to about three quarters of the machine's memory",
        )
        return
    used = 100 * max(0, _number(info, "used_memory") - _number(info, "mem_not_counted_for_evict")) / most
    if used > NEARLY * mark:
        refused = "is" if used > mark else "will be"
        yield ServerFinding(
            "redis-full",
            Severity.ERROR if used > mark else Severity.WARNING,
            f"Redis uses {used:.0f}% of its maxmemory; publishing {refused} refused from {mark}% on",
            "raise maxmemory, or shorten MESH_RETENTION and MESH_RESULT_TTL",
        )


def _disk(info: Mapping[str, Any], config: Mapping[str, str] | None) -> Iterator[ServerFinding]:
    writes_log = bool(_number(info, "aof_enabled"))
    if not writes_log:
        saves = None if config is None else bool(config.get("save"))
        lost = "everything" if saves is False else "what came since its last snapshot"
        yield ServerFinding(
            "redis-not-persistent",
            Severity.WARNING,
            f"Redis writes no append-only file: a crash loses {lost}",
            "set `appendonly yes`",
        )
    elif config is not None and config.get("appendfsync") == "no":
        yield ServerFinding(
            "redis-fsync-off",
            Severity.WARNING,
            "Redis leaves it to the system when its append-only file reaches the disk",
            "set `appendfsync everysec`",
        )
    failed = [
        what
        for what, status in (
            ("its append-only file", "aof_last_write_status" if writes_log else ""),
            ("a new append-only file", "aof_last_bgrewrite_status" if writes_log else ""),
            ("its snapshot", "rdb_last_bgsave_status"),
        )
        if info.get(status, "ok") != "ok"
    ]
    if failed:
        yield ServerFinding(
            "redis-cannot-write",
            Severity.ERROR,
            f"Redis could not write {' and '.join(failed)}",
            "look at its disk and its log: it may refuse all writes",
        )


def _clients(info: Mapping[str, Any]) -> Iterator[ServerFinding]:
    if rejected := _number(info, "rejected_connections"):
        yield ServerFinding(
            "redis-rejects-connections",
            Severity.WARNING,
            f"Redis has rejected {rejected:,} connections since it started: more came than maxclients",
            "raise `maxclients` and its limit of open files",
        )
    most, now = _number(info, "maxclients"), _number(info, "connected_clients")
    if most and now > NEARLY * most:
        yield ServerFinding(
            "redis-many-clients",
            Severity.WARNING,
            f"{now:,} of the {most:,} clients that Redis takes are connected",
            "raise `maxclients`, or run fewer processes",
        )


def _copies(info: Mapping[str, Any], follows: bool) -> Iterator[ServerFinding]:
    if _number(info, "cluster_enabled") and not follows:
        yield ServerFinding(
            "redis-is-a-cluster",
            Severity.ERROR,
            "this Redis is a node of a cluster, and the mesh would not follow its slot",
            "write redis+cluster://host,host,host into MESH_REDIS_URL",
        )
    if info.get("role") == "slave":
        yield ServerFinding(
            "redis-is-a-replica",
            Severity.ERROR,
            "this Redis is a replica: it refuses writes",
            "name its master in MESH_REDIS_URL, or let Sentinel name it: redis+sentinel://",
        )
        return
    replicas = [
        one for name, one in info.items() if re.fullmatch(r"slave\d+", name) and isinstance(one, Mapping)
    ]
    behind = [one for one in replicas if one.get("state") != "online" or _number(one, "lag") > LAGS_SECONDS]
    if behind:
        yield ServerFinding(
            "redis-replica-behind",
            Severity.WARNING,
            f"{len(behind)} of {len(replicas)} replicas do not follow: a failover to them would lose events",
            "look at the replica's log and the network between them",
        )
    if follows and not _number(info, "connected_slaves"):
        yield ServerFinding(
            "redis-no-replica",
            Severity.WARNING,
            "Redis has no replica: when it fails nobody takes over",
            "start a replica",
        )


def _number(info: Mapping[str, Any], name: str) -> int:
    value = info.get(name, 0)
    return int(value) if isinstance(value, int | float) else 0
