"""Numbers, times and names as a report prints them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.report_worker import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (25678594.0, "25,678,594"),
        (0.0, "0"),
        (-0.0, "0"),
        (-1234.5, "\u22121,234.5"),
        (84.2727, "84.27"),
        (0.0123, "0.0123"),
        (1e20, "1.000e+20"),
        (None, "–"),
    ],
)
def test_a_number_has_separators_and_as_many_decimals_as_it_needs(value: float | None, text: str) -> None:
    assert figures.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (99_999.0, "99,999"),
        (912_251.0, "912 k"),
        (25_678_594.0, "25.7 M"),
        (-2e9, "\u22122.0 B"),
        (1e13, "10.0 T"),
    ],
)
def test_a_large_number_is_shortened(value: float, text: str) -> None:
    assert figures.compact(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00004, "40 µs"),
        (0.0124, "12.4 ms"),
        (0.85, "850 ms"),
        (3.2, "3.20 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (0.9999, "1.00 s"),
        (250, "4 min 10 s"),
        (7500, "2 h 05 min"),
        (None, "–"),
    ],
)
def test_a_length_of_time_has_the_unit_that_suits_it(value: float | None, text: str) -> None:
    assert figures.seconds(value).replace("\u00a0", " ") == text


def test_sizes_shares_counts_and_headings_read_well() -> None:
    assert figures.size(999).replace("\u00a0", " ") == "999 bytes"
    assert figures.size(403_274).replace("\u00a0", " ") == "403 kB"
    assert figures.size(999_999).replace("\u00a0", " ") == "1.0 MB"
    assert [figures.share(*pair) for pair in ((1, 3), (1, 10_000), (0, 5), (0, 0))] == [
        "33.3%",
        "<0.1%",
        "0.0%",
        "0.0%",
    ]
    assert [figures.counted(n, "row") for n in (1, 4635)] == ["1 row", "4,635 rows"]
    assert figures.label("time_of_day") == "Time of day"


def test_times_are_told_in_the_reports_time_zone() -> None:
    at = datetime(2026, 11, 22, 0, 0, tzinfo=UTC)
    assert figures.moment(at, "Asia/Tokyo") == "22 Nov 2026, 09:00 JST"
    assert figures.moment(at, "America/New_York") == "21 Nov 2026, 19:00 EST"


@pytest.mark.parametrize(
    ("key", "every", "text"),
    [
        ("2001-03-14", "day", "14 Mar 2001"),
        ("2001-W07", "week", "2001 week 7"),
        ("2001-03", "month", "Mar 2001"),
        ("2001-Q2", "quarter", "2001 Q2"),
        ("2001", "year", "2001"),
        ("Oslo", None, "Oslo"),
    ],
)
def test_a_stretch_of_time_is_written_as_people_do(key: str, every: str | None, text: str) -> None:
    assert figures.bucket_label(key, every) == text


@given(st.text(max_size=200), st.integers(1, 90))
def test_any_text_becomes_one_short_line_that_xml_can_hold(text: str, most: int) -> None:
    line = figures.printable(text, most)
    assert len(line) <= most and "\n" not in line
    element = ElementTree.Element("a")
    element.text = line
    assert (ElementTree.fromstring(ElementTree.tostring(element)).text or "") == line


def test_what_has_no_shape_is_spelled_out_so_that_two_names_stay_two() -> None:
    assert figures.printable("invoice\u202efdp.exe\x00\ud800") == "invoice[U+202E]fdp.exe[U+0000][U+D800]"
    assert figures.printable("a\x1fb") != figures.printable("a b") == figures.printable("a\u2028\tb")
    assert figures.printable("\u200fשלום\u200e") == "שלום"
