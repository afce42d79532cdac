"""JSON rows in, or a word on where the trouble is; what a bomb would make of memory is counted first."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.report_worker.cells import BLANK, pick
from services.report_worker.json_rows import read_json, rows_table
from services.report_worker.source_table import Limits, SourceError, Wanted
from services.report_worker.tests.test_csv_file import LIMITS, said

WANTED = Wanted("a", "n")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[", "not valid JSON"),
        (b"{}", "a list of objects"),
        (b"[]", "there are no rows"),
        (b"[1]", "row 1 is not an object"),
        (b'[{"a": 1}, {"a": {"b": 1}}]', "row 2, column 'a': should be one value"),
        (b'[{"": 1}]', "there is no column 'a'"),
        (b'[{"a": "\xe9"}]', "the JSON is not UTF-8"),
        (b"[" + b"{}," * 2000 + b"{}]", "more than 1,000 rows"),
        (b"[{" + b'"a":1,' * 200_000 + b'"a":1}]', "more than 100,000 cells"),
        (b"[{" + b'"a":1,' * 20_000 + b'"a":1}]', "more than 16,384 columns"),
        (b'[{"a":[' + b"1," * 200_000 + b"1]}]", "more than 100,000 cells"),
    ],
)
def test_broken_or_too_large_json_is_refused_with_the_row(body: bytes, words: str) -> None:
    assert words in said(lambda: read_json(body, WANTED, LIMITS))


def test_commas_within_texts_are_no_cells() -> None:
    body = b'[{"a": "' + b"{," * 60_000 + b'", "n": 1}]'
    assert len(read_json(body, WANTED, LIMITS)) == 1


def test_json_of_a_windows_program_may_have_a_mark_or_be_utf_16() -> None:
    text = '[{"a": "Köln", "n": 1}]'
    for body in (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")):
        assert read_json(body, WANTED, LIMITS).groups == ["Köln"]


def test_rows_whose_columns_all_differ_take_no_more_memory_than_they_have_cells() -> None:
    rows = [{"a": 1, f"column_{at}": 1} for at in range(10_000)]
    tracemalloc.start()
    table = rows_table(rows, WANTED.__class__("a"), Limits(1, 20_000, 100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table) == 10_000
    assert peak < 8_000_000  # each row times each column would be a hundred million cells


def test_json_rows_may_lack_columns_and_mix_kinds_of_values() -> None:
    table = rows_table([{"a": "x", "n": 1}, {"a": True, "n": None}, {"n": 2.5}, {"a": 3.0}], WANTED, LIMITS)
    assert pick(table, WANTED, None) == [("x", 1.0), ("true", None), (BLANK, 2.5), ("3", None)]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_but_never_anything_else(body: bytes) -> None:
    try:
        read_json(body, WANTED, LIMITS)
    except SourceError:
        pass
