"""The witness reads what a real server wrote, and sees what is no longer there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from streammesh import lua
from streammesh.embedded import EmbeddedServer
from streammesh.keys import Keys
from streammesh.lua.services import ShowLifeScript
from streammesh.testing.conditions import wait_until_sync

from tests.faults.append_log import Rewritten, transactions
from tests.faults.witness import read_facts

KEYS = Keys("w")
HEAD = orjson.dumps({"headers": {"id": "t1", "task": "s.handle"}})
BODY = orjson.dumps([[{"id": "e1", "source": "tests"}], {}, {}])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with EmbeddedServer(tmp_path / "redis", options=("--auto-aof-rewrite-percentage", "0")) as started:
        yield started


@pytest.fixture
def client(server: Any) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as opened:
        yield opened


def test_a_queue_entry_that_was_deleted_at_once_is_seen(server: Any, client: Any) -> None:
    queue = KEYS.queue("s")
    entry = client.xadd(queue, {"h": HEAD, "b": BODY})
    client.xdel(queue, entry)

    facts = read_facts(server.folder, KEYS, {"s.handle"})

    assert [hand.task for hand in facts.handed[("tests", "e1", "s.handle")]] == ["t1"]


def test_a_retry_is_no_second_hand_off_and_a_bare_copy_is(server: Any, client: Any) -> None:
    queue, due = KEYS.queue("s"), KEYS.due()
    client.zadd(due, {"task:t1": 1})
    with client.pipeline() as promoted:
        promoted.zrem(due, "task:t1").xadd(queue, {"h": HEAD, "b": BODY}).execute()
    client.xadd(queue, {"h": HEAD, "b": BODY, "n": "1"})

    assert not read_facts(server.folder, KEYS, {"s.handle"}).handed
    client.xadd(queue, {"h": HEAD, "b": BODY})
    client.xadd(queue, {"h": HEAD, "b": BODY})

    def written() -> bool:  # Redis writes its file a moment later where the disk is slow
        handed = read_facts(server.folder, KEYS, {"s.handle"}).handed
        return len(handed[("tests", "e1", "s.handle")]) == 2

    wait_until_sync("both are in the file", written)
    facts = read_facts(server.folder, KEYS, {"s.handle"})
    assert facts.again == 2


def test_what_one_script_wrote_is_one_transaction(server: Any, client: Any) -> None:
    places = {
        "alive": KEYS.alive("x"),
        "last_seen": KEYS.last_seen(),
        "editions": KEYS.editions("x"),
        "format": KEYS.format(),
    }
    call = ShowLifeScript(**places, name="a@b:1", forget_after=0, role="x", mine=1, edition="").call(bytes)
    lua.run_sync(client, call)

    found = [[command[0] for command in commands] for commands in transactions(server.folder)]

    assert any({b"ZADD", b"ZREMRANGEBYSCORE"} <= set(names) for names in found)


def test_what_was_written_before_a_kill_and_after_it_is_read(server: Any, client: Any) -> None:
    client.set("before", 1)
    server.stop(kill=True)
    server.start()
    client.set("after", 1)

    keys = [command[1] for commands in transactions(server.folder) for command in commands]
    assert (b"before" in keys, b"after" in keys) == (True, True)


def test_a_file_that_was_rewritten_is_no_witness(server: Any, client: Any) -> None:
    client.set("before", 1)
    client.bgrewriteaof()
    while (
        client.info("persistence")["aof_rewrite_in_progress"]
        or client.info("persistence")["aof_rewrite_scheduled"]
    ):
        pass

    with pytest.raises(Rewritten):
        list(transactions(server.folder))
