"""Chunks merged are the whole, however it was cut."""

from __future__ import annotations

import math
import random
import statistics
from fractions import Fraction
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.report_worker.aggregation import (
    Partial,
    aggregate,
    finish,
    merged,
    ranked,
    split,
    without_gaps,
)

numbers = st.none() | st.floats(-1e100, 1e100) | st.sampled_from([0.1, -0.1, 1e16, -1e16, 1.0])
rows = st.lists(st.tuples(st.sampled_from("abc"), numbers), min_size=1, max_size=60)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[Any], list[list[Any]]]:
    whole = draw(rows)
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    edges = [0, *places, len(whole)]
    return whole, [whole[a:b] for a, b in pairwise(edges)]


@given(cuts(), st.randoms(use_true_random=False))
def test_merged_chunks_equal_the_whole_whatever_the_cut_and_the_order(
    data: tuple[list[Any], list[list[Any]]], shuffle: random.Random
) -> None:
    whole, chunks = data
    parts = [aggregate(chunk) for chunk in chunks]
    shuffle.shuffle(parts)
    together, at_once = merged(parts), aggregate(whole)
    assert together.keys() == at_once.keys()
    for group, partial in together.items():
        one, other = finish(group, partial), finish(group, at_once[group])
        exact = ("rows", "count", "sum", "mean", "min", "max")
        assert [getattr(one, name) for name in exact] == [getattr(other, name) for name in exact]


@given(cuts())
def test_merging_is_associative(data: tuple[list[Any], list[list[Any]]]) -> None:
    parts = [aggregate(chunk) for chunk in data[1]]
    left = merged([merged(parts[:1]), merged(parts[1:])])
    right = merged([merged(parts[:-1]), merged(parts[-1:])])
    assert {g: finish(g, p).sum for g, p in left.items()} == {g: finish(g, p).sum for g, p in right.items()}


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=50))
def test_a_sum_is_the_true_sum_rounded_once(values: list[float]) -> None:
    groups = aggregate([("a", value) for value in values])
    exact = sum(map(Fraction, values))
    assert finish("a", groups["a"]).sum == float(exact)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60), st.integers(1, 59), st.sampled_from([0.0, 1e6])
)
def test_the_standard_deviation_is_that_of_the_standard_library(
    values: list[float], cut: int, offset: float
) -> None:
    values = [value + offset for value in values]
    parts = [aggregate(("a", v) for v in chunk) for chunk in (values[:cut], values[cut:])]
    row = finish("a", merged(parts)["a"])
    assert row.stddev == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-4)


def test_a_part_survives_json_to_the_last_bit() -> None:
    source = random.Random(5)
    partial = Partial()
    for _ in range(1000):
        partial.add(source.uniform(-1, 1) * 10 ** source.randint(-20, 20))
    stored = orjson.loads(orjson.dumps(partial.to_json()))
    assert Partial.from_json(stored) == partial
    assert Partial.from_json(orjson.loads(orjson.dumps(Partial(rows=3).to_json()))) == Partial(rows=3)


def test_merging_leaves_the_parts_as_they_were() -> None:
    parts = [aggregate([("a", 1.0)]), aggregate([("a", 2.0)])]
    merged(parts)
    assert parts == [aggregate([("a", 1.0)]), aggregate([("a", 2.0)])]


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 40))
def test_chunks_cover_every_row_once_and_are_not_too_many(count: int, size: int, most: int) -> None:
    ranges = split(count, size=size, most=most)
    assert [row for start, end in ranges for row in range(start, end)] == list(range(count))
    assert len(ranges) <= most


def test_the_largest_comes_first_and_a_group_without_a_number_last() -> None:
    groups = aggregate([("none", None), ("small", -5.0), ("large", 2.0), ("large", 3.0), ("same", 5.0)])
    assert [row.group for row in ranked(groups, "sum", None)] == ["large", "same", "small", "none"]
    assert next(iter(ranked(groups, "count", None))).group == "large"


def test_time_runs_forward_and_empty_stretches_are_shown() -> None:
    groups = aggregate([("2026-02", 1.0), ("2025-11", 2.0)])
    filled = without_gaps(ranked(groups, "sum", "month"), "month")
    assert [row.group for row in filled] == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert [row.rows for row in filled] == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("every", "first", "last", "count"),
    [
        ("day", "2024-02-27", "2024-03-02", 5),
        ("week", "2026-W52", "2027-W02", 4),
        ("quarter", "2025-Q3", "2026-Q2", 4),
        ("year", "1999", "2002", 4),
        ("year", "9997", "9999", 3),
    ],
)
def test_every_kind_of_stretch_is_counted_through(every: str, first: str, last: str, count: int) -> None:
    groups = aggregate([(first, 1.0), (last, 1.0)])
    assert len(without_gaps(ranked(groups, "sum", every), every)) == count


def test_gaps_of_thousands_of_years_are_left_out() -> None:
    groups = aggregate([("0001-01-01", 1.0), ("9999-12-31", 1.0)])
    assert len(without_gaps(ranked(groups, "sum", "day"), "day")) == 2


def test_huge_numbers_do_not_overflow_into_nothing() -> None:
    row = finish("a", merged([aggregate([("a", 1e100)] * 500), aggregate([("a", -1e100)] * 500)])["a"])
    assert row.sum == 0.0 and row.stddev is not None and math.isfinite(row.stddev)
