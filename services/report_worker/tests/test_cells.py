"""Cells as groups, numbers and dates, or a word on where the trouble is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.report_worker.cells import bucket, pick
from services.report_worker.source_table import SourceTable, Wanted
from services.report_worker.tests.test_csv_file import said


def numbers(*cells: object) -> SourceTable:
    return SourceTable(
        [f"g{at}" for at in range(len(cells))], list(cells), list(range(2, 2 + len(cells))), "line", []
    )


def days(*cells: str) -> SourceTable:
    return SourceTable(list(cells), [], list(range(2, 2 + len(cells))))


@pytest.mark.parametrize(
    "blank", ["", " ", "NA", "n/a", "null", "NaN", "-", "None", ".", "#N/A", "<NA>", "—"]
)
def test_a_missing_number_is_none_and_not_zero(blank: str) -> None:
    assert pick(numbers(blank, "-1.5e3"), Wanted("g", "n"), None) == [("g0", None), ("g1", -1500.0)]


@pytest.mark.parametrize("text", ["1_000", "12 USD", "1.234,5", "inf", "-Infinity", "1e400", "0x10", "true"])
def test_text_that_is_no_number_is_refused_with_its_place(text: str) -> None:
    assert said(lambda: pick(numbers("1", text), Wanted("g", "n"), None)).startswith("line 3, column 'n': ")


def test_a_number_of_any_size_is_added_up_or_refused() -> None:
    assert "cannot" not in said(lambda: pick(numbers(10**400), Wanted("g", "n"), None))
    assert pick(numbers("\u22122.5"), Wanted("g", "n"), None) == [("g0", -2.5)]


def test_a_measure_without_any_number_is_refused() -> None:
    wrong = said(lambda: pick(numbers("", "NA"), Wanted("a", "n"), None))
    assert wrong == "no row has a number in column 'n'"


def test_dates_are_cut_down_to_their_month_week_quarter_or_year() -> None:
    table = days("2026-01-01", "2026/1/2", "2026-01-03T10:00:00+09:00", "2026-01-04 10:00", "2026-01", "2026")
    assert {group for group, _ in pick(table, Wanted("day"), "month")} == {"2026-01"}
    assert [group for group, _ in pick(table, Wanted("day"), "week")][:2] == ["2026-W01", "2026-W01"]
    assert {group for group, _ in pick(table, Wanted("day"), "quarter")} == {"2026-Q1"}
    assert {group for group, _ in pick(table, Wanted("day"), "year")} == {"2026"}
    assert pick(table, Wanted("day"), "day")[2][0] == "2026-01-03"


def test_text_that_is_no_date_is_refused_with_its_place() -> None:
    assert said(lambda: pick(days("2026-01-01", "31.12.2026"), Wanted("day"), "month")) == (
        "line 3, column 'day': '31.12.2026' is not a date; write it like 2026-11-22"
    )


@given(st.lists(st.dates(), min_size=2), st.sampled_from(["day", "week", "month", "quarter", "year"]))
def test_the_keys_of_stretches_of_time_sort_as_time_does(days: list[Any], every: str) -> None:
    keys = [bucket(day, every) for day in sorted(days)]
    assert keys == sorted(keys)
