"""Every refusal of Redis has one meaning, however redis-py or a script words it."""

from __future__ import annotations

import pytest
import redis
from redis._parsers import BaseParser
from streammesh.redisio.refusals import Refusal, Refused, code_of, is_unavailable, refusal_of

SCRIPT = " script: 5f9c, on @user_script:12."


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("READONLY You can't write against a read only replica.", Refusal.ELSEWHERE),
        ("READONLY You can't write against a read only replica." + SCRIPT, Refusal.ELSEWHERE),
        ("READONLY Can not run script with write flag on readonly replica.", Refusal.ELSEWHERE),
        ("MOVED 3999 127.0.0.1:6381", Refusal.ELSEWHERE),
        ("CLUSTERDOWN The cluster is down", Refusal.ELSEWHERE),
        ("CLUSTERDOWN Hash slot not served", Refusal.ELSEWHERE),
        (
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            Refusal.ELSEWHERE,
        ),
        (
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            Refusal.ELSEWHERE,
        ),
        ("EXECABORT Transaction discarded because of: READONLY You can't write", Refusal.ELSEWHERE),
        ("ASK 3999 127.0.0.1:6381", Refusal.AGAIN),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Refusal.AGAIN),
        ("LOADING Redis is loading the dataset in memory", Refusal.AGAIN),
        (
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            Refusal.AGAIN,
        ),
        ("NOREPLICAS Not enough good replicas to write.", Refusal.AGAIN),
        (
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist",
            Refusal.AGAIN,
        ),
        ("ERR max number of clients reached", Refusal.AGAIN),
        ("OOM command not allowed when used memory > 'maxmemory'.", Refusal.FULL),
        (
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            Refusal.FULL,
        ),
        ("NOAUTH Authentication required.", Refusal.DENIED),
        ("WRONGPASS invalid username-password pair or user is disabled.", Refusal.DENIED),
        ("NOPERM User w has no permissions to run the 'info' command", Refusal.DENIED),
        ("NOSCRIPT No matching script.", Refusal.UNKNOWN_SCRIPT),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Refusal.FAULT),
        ("NOGROUP No such key 'x' or consumer group", Refusal.FAULT),
        ("UNBLOCKED the stream key no longer exists", Refusal.FAULT),
        ("ERR unknown command", Refusal.FAULT),
        ("CROSSSLOT Keys in request don't hash to the same slot", Refusal.FAULT),
    ],
)
def test_each_answer_has_one_meaning(words, meaning):
    error = BaseParser.parse_error(words)
    assert refusal_of(error) is meaning
    waits = meaning not in (Refusal.FAULT, Refusal.UNKNOWN_SCRIPT)
    assert is_unavailable(error) is waits


@pytest.mark.parametrize(
    "error",
    [redis.ConnectionError("gone"), redis.TimeoutError("silent"), ConnectionRefusedError(), OSError()],
)
def test_no_answer_at_all_is_a_lost_connection(error):
    assert refusal_of(error) is Refusal.LOST and is_unavailable(error)


@pytest.mark.parametrize("error", [KeyError("READONLY"), ValueError("LOADING"), redis.DataError("x")])
def test_what_is_no_answer_of_redis_is_a_fault(error):
    assert refusal_of(error) is Refusal.FAULT


def test_what_a_connection_makes_of_a_refusal_says_the_same():
    told = BaseParser.parse_error("MOVED 3999 127.0.0.1:6381")
    refused = Refused(told, refusal_of(told))
    assert refusal_of(refused) is Refusal.ELSEWHERE
    assert str(refused).startswith("MOVED ") and code_of(refused) == "MOVED"
    assert isinstance(refused, redis.ConnectionError)
