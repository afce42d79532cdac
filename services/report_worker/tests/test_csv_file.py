"""CSV as the world writes it comes out right, or is refused with its line and column."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.report_worker.cells import pick
from services.report_worker.csv_file import read_csv
from services.report_worker.source_table import Limits, SourceError, SourceTable, Wanted

LIMITS = Limits(bytes=1_000_000, rows=1000, cells=100_000)
SALES = [("Oslo", 1.5), ("Bergen", 2.0)]


def said(call: Callable[[], object]) -> str:
    with pytest.raises(SourceError) as caught:
        call()
    return str(caught.value)


def read(body: str | bytes, group_by: str = "city", measure: str | None = "sales", **how: str) -> SourceTable:
    body = body.encode() if isinstance(body, str) else body
    return read_csv(body, Wanted(group_by, measure), LIMITS, **how)


def picked(body: str | bytes, group_by: str = "city", measure: str | None = "sales", **how: str) -> object:
    return pick(read(body, group_by, measure, **how), Wanted(group_by, measure), None)


@pytest.mark.parametrize(
    "text",
    [
        "city,sales\nOslo,1.5\nBergen,2\n",
        "\ufeffcity,sales\r\nOslo,1.5\r\nBergen,2\r\n",
        "city,sales\rOslo,1.5\rBergen,2\r",
        "city;sales\nOslo;1.5\nBergen;2",
        "city\tsales\n\nOslo\t1.5\nBergen\t2\n\n",
        "city|sales\nOslo|1.5\nBergen|2",
        "city sales\nOslo   1.5\nBergen 2",
        '"city","sales"\n"Oslo","1.5"\n"Bergen","2"\n',
        'city, "sales"\n"Oslo", "1.5"\n"Bergen", 2\n',
        "sep=;\r\ncity;sales\r\nOslo;1.5\r\nBergen;2\r\n",
        '"sep=|"\ncity|sales\nOslo|1.5\nBergen|2\n',
        "sep=,\ncity,sales\nOslo,1.5\nBergen,2\n",
        ",city,sales\n0,Oslo,1.5\n1,Bergen,2\n",  # pandas
        '"","city","sales"\n"1","Oslo",1.5\n"2","Bergen",2\n',  # R's write.csv
        '"city","sales"\n"1","Oslo",1.5\n"2","Bergen",2\n',  # R's write.table
        "city,sales,\nOslo,1.5,\nBergen,2,\n",
        "city,sales,,\nOslo,1.5\nBergen,2,,\n",
        "city,sales\nOslo,1.5,\nBergen,2,,\n",
        "city,sales\nOslo,1.5\n,\nBergen,2\n,\n,\n",  # Excel
        "city,note,note,sales\nOslo,a,b,1.5\nBergen,,,2\n",
        '"a;b;c;d",city,sales\n"1;2;3",Oslo,1.5\n"x;y;z",Bergen,2\n',
        '"one, two, three";city;sales\n"1,2,3,4";Oslo;1.5\n"5,6";Bergen;2\n',
        f"text,city,sales\n{'x' * 200_000},Oslo,1.5\ny,Bergen,2\n",
    ],
)
def test_the_same_rows_come_out_of_every_common_kind_of_csv(text: str) -> None:
    assert picked(text) == SALES


def test_a_quoted_field_may_hold_the_delimiter_a_quote_and_a_line_break() -> None:
    table = read(b'name,n\n"a, ""b""\nc",1\nd,2\n', "name", "n")
    assert table.groups == ['a, "b"\nc', "d"]
    assert table.lines == [2, 4]


def test_a_column_without_a_name_is_called_by_its_number() -> None:
    assert picked(",n\nx,1\ny,2\n", "column 1", "n") == [("x", 1.0), ("y", 2.0)]
    assert picked("n,column 1\n1,x\n", "column 1", None) == [("x", None)]


def test_a_name_that_is_there_twice_matters_only_where_it_is_asked_for() -> None:
    body = b"a,n,a\n1,2,3\n"
    assert picked(body, "n", None) == [("2", None)]
    assert said(lambda: read(body, "a", "n")) == (
        "group_by: there is more than one column 'a': columns 1 and 3; choose one by its place, such as 'column 1'"
    )
    assert picked(body, "column 3", "n") == [("3", 2.0)]


def test_names_are_the_same_however_their_accents_are_composed() -> None:
    assert picked("Größe,n\nx,1\n", "Gro\u0308ße", "n") == [("x", 1.0)]


def test_a_decimal_comma_is_read_where_it_is_said() -> None:
    table = read("city;sales\nOslo;1.234,5\nBergen;-2,25\n")
    assert pick(table, Wanted("city", "sales"), None, ",") == [("Oslo", 1234.5), ("Bergen", -2.25)]
    assert "or say decimal ','" in said(lambda: picked("city;sales\nOslo;1,5\n"))
    wrong = read("city;sales\nOslo;1.5\n")
    assert "line 2, column 'sales': '1.5' is not a number; with decimal ','" in said(
        lambda: pick(wrong, Wanted("city", "sales"), None, ",")
    )


def test_rows_left_out_are_counted() -> None:
    assert read("city,sales\nOslo,1\n,\n,\nBergen,2\n").notes == ["2 rows without any value left out"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the CSV is empty"),
        (b" \n\n", "the CSV is empty"),
        (b"a,b\n", "a header but no rows"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 fields, the header has 2: column 2 ('b') is missing"),
        (b"a,b\n1,2,\n1,2,3\n", "line 3 has 3 fields, the header has 2: column 3 is one too many ('3')"),
        (b'a,b\n3,4\n"1,2\n', "line 3, column 1: a quote is opened and never closed"),
        (b'a,b\n1,"2\n\n3,4\n', "line 2, column 2: a quote is opened and never closed"),
        (b'a,b\n"x,y","O"Brien"\n', "line 2, column 2: 'Brien\"' follows a closing quote"),
        (b'a,b\n"x\ny","O"Brien"\n', "line 3, column 2: 'Brien\"' follows a closing quote"),
        (b"a,b\n1,\x00\n", "line 2, character 3 is a NUL byte"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "NUL byte"),
        (b"a,b\n" + b"1,2\n" * 1001, "more than 1,000 rows"),
        (
            ("a," * 20_000 + "b\n" + "1," * 20_000 + "2").encode(),
            "the header has 20,001 columns, at most 16,384",
        ),
        (("x," * 900 + "a,b\n" + ("1," * 901 + "2\n") * 200).encode(), "more than 100,000 cells"),
    ],
)
def test_a_broken_csv_is_refused_with_its_line_and_column(body: bytes, words: str) -> None:
    assert words in said(lambda: read(body, "a", "b"))


def test_a_column_that_is_not_there_is_answered_with_those_that_are() -> None:
    assert said(lambda: read("city,sales\nOslo,1\n", "town", None)) == (
        "group_by: there is no column 'town'; there are 'city', 'sales'"
    )
    assert said(lambda: read("city,sales\nOslo,1\n", "city", "sale")).startswith(
        "measure: there is no column 'sale'"
    )


CITIES = "都市,人口\n東京,13960000\n大阪,8839000\n名古屋,2320000\n"
STRASSEN = "Straße;n\nKöln;3\nMünchen;4\n"


@pytest.mark.parametrize(
    ("text", "codec", "words"),
    [
        (CITIES, "utf-8", []),
        (CITIES, "utf-16", ["read as UTF-16"]),
        (CITIES, "shift_jis", ["read as Shift_JIS (cp932), which was guessed"]),
        (STRASSEN, "cp1252", ["read as cp1252, which was guessed"]),
        ("a\tn\nx\t1\n", "utf-16-le", ["read as UTF-16, which was guessed"]),
        ("город,число\nМосква,3\nСанкт-Петербург,4\n", "cp1251", ["read as cp1251, which was guessed"]),
        ("도시,인구\n서울,977\n부산,342\n", "cp949", ["read as cp949, which was guessed"]),
    ],
)
def test_an_encoding_is_found_and_the_report_says_so(text: str, codec: str, words: list[str]) -> None:
    group, number = text.replace(";", ",").replace("\t", ",").partition("\n")[0].split(",")
    table = read(text.encode(codec), group, number)
    assert table.groups[0] == text.splitlines()[1].replace(";", ",").replace("\t", ",").partition(",")[0]
    assert table.notes == words


def test_an_encoding_that_is_said_is_used_and_has_to_fit() -> None:
    body = CITIES.encode("euc_jp")
    assert read(body, "都市", "人口", encoding="euc_jp").groups == ["東京", "大阪", "名古屋"]
    assert read(STRASSEN.encode("latin-1"), "Straße", "n", encoding="latin-1").groups[0] == "Köln"
    assert read(("\ufeff" + STRASSEN).encode("utf-16-le"), "Straße", "n", encoding="utf-16-le").groups
    assert said(lambda: read(b"a,b\n1,\xff\n", "a", "b", encoding="utf-8")).startswith(
        "line 2, character 3 is not valid utf-8"
    )


@given(st.binary(max_size=200), st.sampled_from(["a", "column 1", "0"]))
def test_any_bytes_are_read_or_refused_but_never_anything_else(body: bytes, name: str) -> None:
    try:
        table = read(body, name, None)
    except SourceError:
        return
    assert len(table.groups) == len(table.lines) > 0


@given(st.text(alphabet='a,;"\n\r \t1', max_size=60))
def test_any_mix_of_separators_and_quotes_is_read_or_refused(text: str) -> None:
    try:
        read("a,b\n" + text, "a", "b")
    except SourceError:
        pass
