"""What a Redis server says about itself, judged."""

from __future__ import annotations

import pytest
from streammesh.redisio.inspection import Severity, inspect

GOOD = {
    "redis_version": "7.2.4",
    "maxmemory": 1_000,
    "used_memory": 500,
    "mem_not_counted_for_evict": 0,
    "maxmemory_policy": "noeviction",
    "evicted_keys": 0,
    "rejected_connections": 0,
    "connected_clients": 10,
    "maxclients": 10_000,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "role": "master",
    "connected_slaves": 0,
    "cluster_enabled": 0,
}
CONFIG = {"save": "3600 1", "appendfsync": "everysec"}


def test_a_good_server_has_no_findings():
    assert inspect(GOOD, CONFIG) == []


@pytest.mark.parametrize(
    ("more", "code", "severity", "words"),
    [
        ({"redis_version": "6.2.14"}, "redis-too-old", "refused", "older than 7.0"),
        ({"maxmemory_policy": "allkeys-lru"}, "redis-evicts", "refused", "allkeys-lru"),
        ({"maxmemory_policy": "volatile-ttl"}, "redis-evicts", "refused", "would vanish"),
        ({"evicted_keys": 40_000}, "redis-has-evicted", "error", "40,000 keys"),
        ({"maxmemory": 0}, "redis-no-limit", "note", "no maxmemory"),
        ({"used_memory": 800}, "redis-full", "warning", "will be refused from 85%"),
        ({"used_memory": 900}, "redis-full", "error", "90%"),
        ({"aof_enabled": 0}, "redis-not-persistent", "warning", "since its last snapshot"),
        ({"aof_last_write_status": "err"}, "redis-cannot-write", "error", "append-only file"),
        ({"rdb_last_bgsave_status": "err"}, "redis-cannot-write", "error", "snapshot"),
        ({"rejected_connections": 7}, "redis-rejects-connections", "warning", "7 connections"),
        ({"connected_clients": 9_500}, "redis-many-clients", "warning", "9,500 of the 10,000"),
        ({"cluster_enabled": 1}, "redis-is-a-cluster", "error", "node of a cluster"),
        ({"role": "slave"}, "redis-is-a-replica", "error", "replica"),
        (
            {"connected_slaves": 1, "slave0": {"state": "wait_bgsave", "lag": 0}},
            "redis-replica-behind",
            "warning",
            "1 of 1",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_said_with_what_to_do(more, code, severity, words):
    [found] = inspect({**GOOD, **more}, CONFIG)
    assert (found.code, found.severity) == (code, Severity(severity))
    assert words in found.text and found.do


def test_without_config_what_it_would_say_is_not_guessed():
    assert [one.text for one in inspect({**GOOD, "aof_enabled": 0}, None)] == [
        "Redis writes no append-only file: a crash loses what came since its last snapshot"
    ]


def test_a_file_that_is_never_flushed_is_said():
    [found] = inspect(GOOD, {**CONFIG, "appendfsync": "no"})
    assert (found.code, found.severity) == ("redis-fsync-off", Severity.WARNING)
    assert "when its append-only file reaches the disk" in found.text and "everysec" in found.do


def test_no_snapshot_and_no_file_lose_everything():
    [found] = inspect({**GOOD, "aof_enabled": 0}, {"save": "", "appendfsync": "everysec"})
    assert "everything" in found.text


def test_where_somebody_should_take_over_somebody_has_to_be_there():
    assert [one.code for one in inspect(GOOD, CONFIG, follows=True)] == ["redis-no-replica"]
    assert inspect({**GOOD, "cluster_enabled": 1, "connected_slaves": 1}, CONFIG, follows=True) == []


def test_a_policy_without_a_limit_evicts_nothing_yet():
    found = inspect({**GOOD, "maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, CONFIG)
    assert {one.code: one.severity for one in found}["redis-evicts"] is Severity.WARNING


@pytest.mark.parametrize("info", [{}, dict.fromkeys(GOOD, "garbage"), dict.fromkeys(GOOD)])
def test_whatever_a_server_says_is_survived(info):
    inspect(info, None)
    inspect(info, {})
