"""When a pool's child is given its next task while it still runs one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from streammesh.worker.prefork_feed import SHORT, Feeding


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def feeding(clock):
    return Feeding(True, clock)


def run(feeding, clock, child, seconds):
    feeding.given(child)
    clock.now += seconds
    return feeding.ended(child)


def warmed(feeding, clock):
    child = SimpleNamespace()
    for _ in range(100):
        run(feeding, clock, child, SHORT / 10)
    return child


def test_a_child_without_another_task_is_free_and_one_with_another_is_not(feeding, clock):
    child = SimpleNamespace()
    feeding.given(child)
    feeding.given(child)

    assert not feeding.ended(child)
    assert feeding.ended(child)


def test_nothing_is_known_to_be_short_at_first(feeding):
    child = SimpleNamespace()
    feeding.given(child)

    assert not feeding.wants_more(child)


def test_where_tasks_are_short_a_child_is_given_one_more_and_no_second(feeding, clock):
    child = warmed(feeding, clock)
    feeding.given(child)
    assert feeding.wants_more(child)
    feeding.given(child)
    assert not feeding.wants_more(child)


def test_a_child_that_is_free_is_not_asked(feeding, clock):
    assert not feeding.wants_more(warmed(feeding, clock))


def test_a_child_whose_task_has_turned_out_long_gets_no_other(feeding, clock):
    child = warmed(feeding, clock)
    feeding.given(child)
    clock.now += SHORT * 1.1

    assert not feeding.wants_more(child)


def test_one_long_task_ends_it_for_all_children_until_many_were_short(feeding, clock):
    child = warmed(feeding, clock)
    run(feeding, clock, child, 1.0)
    others = SimpleNamespace()
    short_ones = 0
    while True:
        feeding.given(others)
        if feeding.wants_more(others):
            break
        clock.now += SHORT / 10
        feeding.ended(others)
        short_ones += 1

    assert short_ones > 20


def test_the_time_of_a_waiting_task_counts_from_when_the_one_before_it_ended(feeding, clock):
    child = warmed(feeding, clock)
    feeding.given(child)
    feeding.given(child)
    clock.now += SHORT * 0.9
    feeding.ended(child)

    assert feeding.wants_more(child), "it has only just begun"


def test_what_nobody_was_seen_to_give_does_no_harm(feeding):
    child = SimpleNamespace()

    assert feeding.ended(child)
    assert feeding.ended(child)
