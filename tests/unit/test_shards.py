"""Which shard an event belongs to, and one answer of several shards'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from streammesh.errors import EventConflict, MeshUnavailable
from streammesh.events.publisher import Published
from streammesh.settings import MeshSettings
from streammesh.shards import PartlyStored, shard_of, stored_in_parts

from services.api.problems import Problem
from services.api.shards.joined_answers import (
    joined_cursor,
    merged_page,
    merged_services,
    merged_subscriptions,
    split_cursor,
    summed,
)
from services.api.shards.stream import positions_of


def settings(**values: Any) -> MeshSettings:
    return MeshSettings(_env_file=None, **values)


def test_the_shard_of_an_event_never_changes():
    """Events that are stored are found by it: these numbers may not change in any version."""
    assert [shard_of(None, "shop", f"id-{n}", 3) for n in range(6)] == [2, 2, 1, 2, 1, 2]
    assert shard_of("customer-7", "shop", "a", 3) == shard_of("customer-7", "other", "b", 3)
    assert shard_of("anything", "shop", "a", 1) == 0


def test_shards_are_about_equally_full():
    found = Counter(shard_of(None, "shop", str(n), 4) for n in range(4_000))

    assert sorted(found) == [0, 1, 2, 3]
    assert min(found.values()) > 850


def test_a_mesh_of_one_shard_is_its_own_shard():
    whole = settings()

    assert whole.of_shard(0) is whole


def test_a_shard_has_a_name_and_a_server_of_its_own():
    whole = settings(shards=2, redis_url="redis://a:1/0  redis://b:2/0")

    assert [whole.of_shard(n).namespace for n in (0, 1)] == ["mesh.0", "mesh.1"]
    assert [whole.of_shard(n).redis_url for n in (0, 1)] == ["redis://a:1/0", "redis://b:2/0"]
    assert [settings(shards=2).of_shard(n).redis_url for n in (0, 1)] == [settings().redis_url] * 2
    stored = settings(shards=2, history_url="sqlite:///a.db sqlite:///b.db")
    assert [stored.of_shard(n).history_url for n in (0, 1)] == ["sqlite:///a.db", "sqlite:///b.db"]
    with pytest.raises(ValueError, match="there is no shard 2"):
        whole.of_shard(2)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shards": 3, "redis_url": "redis://a redis://b"}, "names 2 servers and MESH_SHARDS is 3"),
        ({"redis_url": "redis://a redis://b"}, "names 2 servers and MESH_SHARDS is 1"),
        ({"shards": 2, "shard": 2}, "MESH_SHARD: is 2, and there are 2"),
        ({"shards": 2, "history_url": "sqlite:///a.db"}, "MESH_HISTORY_URL: names 1 and MESH_SHARDS is 2"),
        ({"shards": 0}, "greater than or equal to 1"),
        ({"shards": 2, "redis_url": "redis://a nonsense"}, "should hold no spaces"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        settings(**values)


async def test_a_batch_is_told_in_its_order():
    async def store(number: int, part: Sequence[str]) -> list[Published]:
        return [Published(one, "s", "t", False, f"{number}") for one in part]

    found = await stored_in_parts(["a", "b", "c"], [1, 0, 1], store)

    assert [(one.id, one.entry) for one in found] == [("a", "1"), ("b", "0"), ("c", "1")]


async def test_where_one_shard_is_away_it_is_said_what_was_stored():
    async def store(number: int, part: Sequence[str]) -> list[Published]:
        if number == 1:
            raise MeshUnavailable("away")
        return [Published(one, "s", "t", False, "") for one in part]

    with pytest.raises(PartlyStored, match=r"1 of 3 events were stored") as caught:
        await stored_in_parts(["a", "b", "c"], [1, 0, 1], store)
    assert [one.id for one in caught.value.stored] == ["b"]
    with pytest.raises(MeshUnavailable, match=r"^away$"):
        await stored_in_parts(["a"], [1], store)


async def test_a_conflict_names_the_place_in_the_whole_batch():
    async def store(number: int, part: Sequence[str]) -> list[Published]:
        raise EventConflict(1, "s", part[1])

    with pytest.raises(EventConflict) as caught:
        await stored_in_parts(["a", "b"], [2, 2], store)
    assert (caught.value.index, caught.value.event_id) == (1, "b")


def test_a_cursor_of_all_shards_comes_apart_as_it_was_joined():
    joined = joined_cursor(["x", None, "z"])

    assert joined == "x,-,z"
    assert split_cursor(joined, 3) == ["x", "-", "z"]
    assert split_cursor(None, 2) == [None, None]
    assert joined_cursor([None, None]) is None
    for wrong in ("x,y", "x,,z", ""):
        with pytest.raises(ValueError, match="3 shards"):
            split_cursor(wrong, 3)


def test_a_page_has_the_newest_of_all_shards_first():
    pages = [
        {"events": [{"id": "a", "time": "3"}, {"id": "b", "time": "1"}], "next": "n", "position": "5-0", "history_away": False},
        None,
        {"events": [{"id": "c", "time": "2"}], "next": None, "position": "7-0", "history_away": True},
    ]  # fmt: skip

    page = merged_page("events", pages)

    assert [one["id"] for one in page["events"]] == ["a", "c", "b"]
    assert (page["next"], page["position"], page["history_away"]) == ("n,-,-", "5-0,7-0", True)


def test_services_and_subscriptions_are_told_once():
    service = {
        "service": "mail", "registered": True, "subscriptions": [], "workers": 1, "processes": ["a"], "last_seen": None,
        "queued": 2, "waiting": 1, "held": 0, "lag": 4, "lag_exact": True, "falls_per_second": None, "gone_in_seconds": None, "oldest_waiting_seconds": None, "dead_letters": 1,
    }  # fmt: skip
    other = {
        **service,
        "processes": ["b"],
        "lag_exact": False,
        "falls_per_second": None,
        "gone_in_seconds": None,
        "oldest_waiting_seconds": 2.0,
        "last_seen": "2026",
    }

    [found] = merged_services([{"services": [service]}, {"services": [other]}])["services"]
    assert (found["workers"], found["lag"], found["lag_exact"], found["processes"]) == (
        2,
        8,
        False,
        ["a", "b"],
    )
    assert (found["oldest_waiting_seconds"], found["last_seen"]) == (2.0, "2026")

    paused = {"task": "mail.send", "held": 2, "failures": 1, "paused": {"since": "x"}}
    [state] = merged_subscriptions(
        [{"subscriptions": [{**paused, "paused": None}]}, {"subscriptions": [paused]}]
    )["subscriptions"]
    assert (state["held"], state["failures"], state["paused"]) == (4, 2, {"since": "x"})


def test_what_was_done_in_every_shard_is_added_up():
    one = {"dry_run": False, "matched": 2, "left": {"a": 1}, "by": [{"x": 1}], "service": "mail"}
    other = {"dry_run": False, "matched": 3, "left": {"a": 2, "b": 1}, "by": [], "service": "mail"}

    state = {
        "where": {"data.n": {">": 5}},
        "paused": {"since": "x", "failures": 20},
        "held": 2,
        "failures": 1,
    }
    assert summed([state, state]) == {**state, "held": 4, "failures": 2}
    limits = {"limits": {"concurrency": 2}, "set": {"total": 5}, "waiting": 3}
    assert summed([limits, limits]) == {**limits, "waiting": 6}
    removal = {"removed": True, "events": 1}
    assert summed([removal, {"removed": False, "events": 2}]) == {"removed": False, "events": 3}
    assert summed([one, other]) == {
        "dry_run": False, "matched": 5, "left": {"a": 3, "b": 1}, "by": [{"x": 1}], "service": "mail",
    }  # fmt: skip


def test_a_position_names_a_place_in_every_shard():
    assert positions_of("after", None, ["1-0", "2-0"]) == ["1-0", "2-0"]
    assert positions_of("after", "0-0", ["1-0", "2-0"]) == ["0-0", "0-0"]
    assert positions_of("after", "3-0,4-0", ["1-0", "2-0"]) == ["3-0", "4-0"]
    with pytest.raises(Problem, match="names 1 places"):
        positions_of("after", "3-0", ["1-0", "2-0"])
