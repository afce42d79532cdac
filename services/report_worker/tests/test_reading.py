"""CSV and JSON in, rows out, or a word on where the trouble is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.report_worker.reading import (
    BLANK,
    SourceError,
    bucket,
    pick,
    read,
    read_csv,
    read_json,
    rows_table,
)

MOST = 1000


def said(call: Callable[[], object]) -> str:
    with pytest.raises(SourceError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "city,sales\nOslo,1\nBergen,2\n",
        "\ufeffcity,sales\r\nOslo,1\r\nBergen,2\r\n",
        "city;sales\nOslo;1\nBergen;2",
        "city\tsales\n\nOslo\t1\nBergen\t2\n\n",
        '"city","sales"\n"Oslo","1"\n"Bergen","2"\n',
    ],
)
def test_the_same_rows_come_out_of_every_common_kind_of_csv(text: str) -> None:
    table = read_csv(text.encode(), max_rows=MOST)
    assert table.columns == ("city", "sales")
    assert pick(table, "city", "sales", None) == [("Oslo", 1.0), ("Bergen", 2.0)]


def test_a_quoted_field_may_hold_the_delimiter_a_quote_and_a_line_break() -> None:
    table = read_csv(b'name,n\n"a, ""b""\nc",1\nd,2\n', max_rows=MOST)
    assert table.rows[0] == ['a, "b"\nc', "1"]
    assert table.lines == [3, 4]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the CSV is empty"),
        (b"a,b\n", "a header but no rows"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 fields, the header has 2"),
        (b"a,b\n1,2,3\n", "line 2 has 3 fields, the header has 2"),
        (b"a,a\n1,2\n", "the column 'a' is there twice"),
        (b"a,\n1,2\n", "column 2 has no name"),
        (b'a,b\n"1,2\n', "is not valid CSV"),
        (b"a,b\n1,\xff\n", "line 2 is not UTF-8"),
        (b"a,b\n1,\x00\n", "NUL byte"),
        (b"\x89PNG\r\n\x1a\n", "line 1 is not UTF-8"),
        (b"a,b\n" + b"1,2\n" * (MOST + 1), "more than 1,000 rows"),
        (("a," * 500 + "b\n" + "1," * 500 + "2").encode(), "more than 500 columns"),
    ],
)
def test_a_broken_csv_is_refused_with_the_line(body: bytes, words: str) -> None:
    assert words in said(lambda: read_csv(body, max_rows=MOST))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[", "not valid JSON"),
        (b"{}", "a list of objects"),
        (b"[]", "there are no rows"),
        (b"[1]", "row 1 is not an object"),
        (b'[{"a": 1}, {"a": {"b": 1}}]', "row 2, column 'a': should be one value"),
        (b'[{"": 1}]', "column 1 has no name"),
    ],
)
def test_broken_json_is_refused_with_the_row(body: bytes, words: str) -> None:
    assert words in said(lambda: read_json(body, max_rows=MOST))


def test_too_many_bytes_are_refused_before_they_are_parsed() -> None:
    assert "11 bytes; at most 10" in said(lambda: read(b"a,b\n1,2\n3,4", "csv", max_bytes=10, max_rows=MOST))


def test_json_rows_may_lack_columns_and_mix_kinds_of_values() -> None:
    table = rows_table([{"a": "x", "n": 1}, {"a": True, "n": None}, {"n": 2.5}, {"a": 3.0}], max_rows=MOST)
    assert pick(table, "a", "n", None) == [("x", 1.0), ("true", None), (BLANK, 2.5), ("3", None)]


@pytest.mark.parametrize("blank", ["", " ", "NA", "n/a", "null", "NaN", "-", "None"])
def test_a_missing_number_is_none_and_not_zero(blank: str) -> None:
    table = read_csv(f"a,n\nx,{blank}\ny,-1.5e3\n".encode(), max_rows=MOST)
    assert pick(table, "a", "n", None) == [("x", None), ("y", -1500.0)]


@pytest.mark.parametrize("text", ["1_000", "12 USD", "1.234,5", "inf", "-Infinity", "1e400", "0x10", "true"])
def test_text_that_is_no_number_is_refused_with_its_place(text: str) -> None:
    table = read_csv(f"a;n\nx;1\ny;{text}\n".encode(), max_rows=MOST)
    assert said(lambda: pick(table, "a", "n", None)).startswith("line 3, column 'n': ")


def test_a_column_that_is_not_there_is_answered_with_those_that_are() -> None:
    table = read_csv(b"city,sales\nOslo,1\n", max_rows=MOST)
    assert said(lambda: pick(table, "town", None, None)) == (
        "group_by: there is no column 'town'; there are 'city', 'sales'"
    )
    assert said(lambda: pick(table, "city", "sale", None)).startswith("measure: there is no column 'sale'")


def test_a_measure_without_any_number_is_refused() -> None:
    table = read_csv(b"a,n\nx,\ny,NA\n", max_rows=MOST)
    assert said(lambda: pick(table, "a", "n", None)) == "no row has a number in column 'n'"


def test_dates_are_cut_down_to_their_month_week_quarter_or_year() -> None:
    table = read_csv(
        b"day\n2026-01-01\n2026/1/2\n2026-01-03T10:00:00+09:00\n2026-01-04 10:00\n2026-01\n2026\n",
        max_rows=MOST,
    )
    assert {group for group, _ in pick(table, "day", None, "month")} == {"2026-01"}
    assert [group for group, _ in pick(table, "day", None, "week")][:2] == ["2026-W01", "2026-W01"]
    assert {group for group, _ in pick(table, "day", None, "quarter")} == {"2026-Q1"}
    assert {group for group, _ in pick(table, "day", None, "year")} == {"2026"}
    assert pick(table, "day", None, "day")[2][0] == "2026-01-03"


def test_text_that_is_no_date_is_refused_with_its_place() -> None:
    table = read_csv(b"day\n2026-01-01\n31.12.2026\n", max_rows=MOST)
    assert said(lambda: pick(table, "day", None, "month")) == (
        "line 3, column 'day': '31.12.2026' is not a date; write it like 2026-11-22"
    )


@given(st.lists(st.dates(), min_size=2), st.sampled_from(["day", "week", "month", "quarter", "year"]))
def test_the_keys_of_stretches_of_time_sort_as_time_does(days: list, every: str) -> None:
    keys = [bucket(day, every) for day in sorted(days)]
    assert keys == sorted(keys)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_but_never_anything_else(body: bytes) -> None:
    for kind in ("csv", "json"):
        try:
            table = read(body, kind, max_bytes=MOST, max_rows=MOST)
        except SourceError:
            continue
        assert all(len(row) == len(table.columns) for row in table.rows)
