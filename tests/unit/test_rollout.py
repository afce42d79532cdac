"""A service's manifest while several editions of its code live side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streammesh.rollout.membership import NameTaken, Neighbours, edition_of, is_due, joined, refuse_a_stranger
from streammesh.subscriptions.manifest import MAX_SUBSCRIPTIONS, Manifest, Subscription

NOW = 1_000_000_000
HOUR = 3_600_000
NUMBER, TEXT = {"type": "integer"}, {"type": "string"}


def edition(*names, schema=None, formerly=(), publishes=None):
    wants = tuple(
        Subscription("shop", f"shop.{name}", "order.placed", formerly=formerly if name == names[0] else ())
        for name in names
    )
    schemas = {one.task: schema for one in wants} if schema else {}
    return Manifest("shop", subscriptions=wants, schemas=schemas, publishes=publishes or {})


def around(stored, *seen, now=NOW, living=1, ago=0):
    return Neighbours(stored, {edition_of(one).digest: now - ago for one in seen}, now, living, HOUR)


def tasks(manifest):
    return [one.task.removeprefix("shop.") for one in manifest.subscriptions]


def rolled(old, new):
    """What is stored once `new` has joined beside `old`."""
    first = joined(old, around(None, living=0))
    return joined(new, around(first, old, now=NOW + 1_000))


def test_what_only_the_old_edition_has_stays_routed_while_it_lives_and_a_minute_longer():
    old, new = edition("bill", "ship"), edition("bill", "pack")
    both = rolled(old, new)
    assert tasks(both) == ["bill", "pack", "ship"]

    gone = around(both, old, new, now=NOW + 50_000, ago=0)
    assert not is_due(both, edition_of(new), gone)
    left = replace(gone, now_ms=NOW + 200_000)
    assert is_due(both, edition_of(new), replace(left, seen={edition_of(new).digest: NOW + 200_000}))
    assert tasks(joined(new, replace(left, seen={edition_of(new).digest: NOW + 200_000}))) == ["bill", "pack"]


def test_an_old_worker_that_starts_again_takes_nothing_from_the_new_edition():
    old, new = edition("bill", schema=NUMBER), edition("bill", "pack", schema=TEXT)
    both = rolled(old, new)
    again = joined(old, around(both, old, new, now=NOW + 2_000))
    assert again == both
    assert again.schemas["shop.bill"] == TEXT  # the newest decides about what it has


def test_the_newest_edition_is_kept_while_it_is_away_for_as_long_as_its_tasks_would_wait():
    old, new = edition("bill"), edition("bill", "pack")
    both = rolled(old, new)
    away = around(both, old, now=NOW + HOUR // 2)
    assert not is_due(both, edition_of(old), away)
    later = around(both, old, now=NOW + 2 * HOUR)
    assert tasks(joined(old, later)) == ["bill"]


def test_a_handler_that_says_what_it_was_called_takes_the_old_name_over():
    old, new = edition("bill"), edition("invoice", formerly=("shop.bill",))
    assert tasks(rolled(old, new)) == ["invoice"]  # one event, one task: not one for each name


def test_a_manifest_without_editions_is_one_that_is_kept_for_a_while():
    plain = edition("bill")
    both = joined(edition("bill", "pack"), around(plain))
    assert len(both.editions) == 2
    assert tasks(joined(edition("pack"), around(plain, living=0))) == ["pack", "bill"]


def test_editions_and_what_they_want_are_bounded():
    stored = joined(edition("a"), around(None, living=0))
    for n in range(20):
        one = edition("a", f"b{n}")
        before = {e.digest: NOW + n for e in stored.editions}
        stored = joined(one, Neighbours(stored, before, NOW + n, 1, HOUR))
    assert len(stored.editions) == 8
    many = edition(*(f"n{n}" for n in range(MAX_SUBSCRIPTIONS)))
    assert len(joined(many, around(rolled(edition("x"), edition("x", "y")), living=0)).editions) == 1


def test_a_worker_with_none_of_the_living_workers_handlers_is_refused_and_told_what_to_do():
    stored = joined(edition("bill"), around(None, living=0))
    with pytest.raises(NameTaken, match=r"'shop' is taken.*shop\.bill.*shop\.mail.*MESH_TAKEOVER=true"):
        joined(edition("mail"), around(stored))
    assert tasks(joined(edition("mail"), around(stored, living=0))) == ["mail", "bill"]
    assert tasks(joined(edition("mail"), around(stored), takeover=True)) == ["mail"]


def test_of_two_strangers_that_start_at_the_same_moment_the_later_ends():
    first, second = edition("bill"), edition("mail")
    stored = joined(second, around(joined(first, around(None, living=0)), living=0))
    both = around(stored, first, second)
    refuse_a_stranger(stored, edition_of(first), both)
    with pytest.raises(NameTaken):
        refuse_a_stranger(stored, edition_of(second), both)


def test_a_key_proves_whose_the_name_is():
    stored = joined(edition("bill"), around(None, living=0), owner="k1")
    assert tasks(joined(edition("mail"), around(stored), owner="k1")) == ["mail", "bill"]
    for other in ("", "k2"):
        with pytest.raises(NameTaken, match="MESH_SERVICE_KEY"):
            joined(edition("bill", "mail"), around(stored, living=0), owner=other)
    assert joined(edition("mail"), around(stored), owner="k2", takeover=True).owner == "k2"


def test_a_stored_manifest_whose_editions_are_garbage_is_read_all_the_same():
    raw = rolled(edition("bill"), edition("pack", "bill")).to_json()
    for broken in (b'"editions":7', b'"editions":[1,{"digest":[],"since":0,"tasks":0}]'):
        begin = raw.index(b'"editions":')
        end = raw.index(b'],"owner"') + 1
        read = Manifest.from_json(raw[:begin] + broken + raw[end:])
        assert read.editions == () and tasks(read) == ["pack", "bill"]
