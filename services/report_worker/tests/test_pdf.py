"""The PDF: its words, its pages, and that data stays data."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pypdf import PdfReader

from services.report_worker import svg_chart
from services.report_worker.document import Bar, Card, Document, Section, Table, column
from services.report_worker.pdf import pictures, typeset

MADE = datetime(2026, 11, 22, 6, tzinfo=UTC)


def document(rows: int = 3, **changes: Any) -> Document:
    table = Table(
        columns=[column("#"), column("Species", "left", wide=True), column("Share", "left")],
        rows=[[str(at), f"species {at}", Bar(share=at / rows, text=f"{at}%")] for at in range(1, rows + 1)],
        total=["", "All", "100%"],
    )
    chart = svg_chart.Chart(
        kind="bars",
        labels=["goose"],
        series=[svg_chart.Series(name="cost", values=[1.0])],
        measured_in="number",
        alt="A chart of geese.",
    )
    base = Document(
        title="What strikes cost",
        subtitle="Sum of cost by species",
        organisation="Example Ltd",
        report_id="r-1",
        made="22 Nov 2026",
        cards=[Card(label="rows", value="4,635", note="all counted")],
        summary=["Canada goose is the largest."],
        sections=[Section(title="The table", note="In USD.", chart=chart, table=table, empty="")],
        facts=[["Source", "FAA"], ["Licence", "Public domain"]],
    )
    return Document(**{**base, **changes})  # type: ignore[typeddict-item]


def made_of(content: Document) -> tuple[PdfReader, list[str], int]:
    charts = [svg_chart.draw(s["chart"]) if s["chart"] else None for s in content["sections"]]
    pdf, pages = typeset(content, charts, made=MADE)
    reader = PdfReader(io.BytesIO(pdf))
    return reader, [page.extract_text() for page in reader.pages], pages


def test_everything_that_a_document_says_is_in_the_pdf() -> None:
    reader, texts, pages = made_of(document())
    assert pages == len(reader.pages) == 1
    for words in (
        "What strikes cost", "Sum of cost by species", "Example Ltd", "22 Nov 2026", "ROWS", "4,635", "all counted",
        "Canada goose is the largest.", "The table", "In USD.", "species 3", "100%", "Public domain",
        "Report r-1", "Page 1 of 1",
    ):  # fmt: skip
        assert words in texts[0], words


def test_a_long_table_breaks_over_pages_with_its_header_and_numbers_repeated() -> None:
    _, texts, pages = made_of(document(rows=150))
    assert pages == len(texts) >= 4
    for number, text in enumerate(texts, start=1):
        assert f"Page {number} of {pages}" in text
        assert "What strikes cost" in text
    with_rows = [text for text in texts if "species " in text]
    assert all("Species" in text and "Share" in text for text in with_rows)
    shown = re.findall(r"species (\d+)", "\n".join(texts))
    assert shown == [str(at) for at in range(1, 151)]


def test_the_pdf_says_what_it_is_and_can_be_read_aloud() -> None:
    reader, _, _ = made_of(document())
    assert reader.metadata is not None
    assert (reader.metadata.title, reader.metadata.author) == ("What strikes cost", "Example Ltd")
    assert reader.metadata.creation_date == MADE
    root: Any = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and root["/Lang"] == "en" and "/StructTreeRoot" in root
    assert b"pdfuaid:part" in root["/Metadata"].get_object().get_data()
    assert "/OpenAction" not in root and "/JavaScript" not in root.get("/Names", {})


def test_the_same_document_is_the_same_bytes() -> None:
    assert typeset(document(), [None], made=MADE) == typeset(document(), [None], made=MADE)


def test_the_moment_may_have_microseconds_and_any_time_zone() -> None:
    tokyo = MADE.astimezone(ZoneInfo("Asia/Tokyo")).replace(microsecond=123456)
    assert typeset(document(), [None], made=tokyo) == typeset(document(), [None], made=MADE)


@pytest.mark.parametrize(
    "nasty",
    [
        '#panic("no") *bold* _it_ $x$ @ref <label> `raw` // no comment /* or this */',
        '#read("/etc/passwd") #sys.inputs \\u{41} "quotes" \'single\'',
        '= Heading\n- list\n+ enum\n#import "x.typ": *',
        "]} #{ [ ( \\",
        "https://example.com/~x -- --- ... ~",
    ],
)
def test_data_is_set_as_text_and_never_as_markup(nasty: str) -> None:
    line = " ".join(nasty.split())
    content = document(
        title=line[:120],
        subtitle=line,
        report_id="r",
        organisation=line,
        summary=[line],
        facts=[[line, line]],
    )
    content["cards"] = [Card(label="x", value=line, note=line)]
    content["sections"][0]["title"] = line
    table = content["sections"][0]["table"]
    assert table is not None
    table["rows"] = [[line, line, Bar(share=9.0, text=line)]]
    _, texts, _ = made_of(content)
    bare = "".join(line.split())
    # Quotes and dashes may come out as typographic ones only if they were taken for markup.
    assert "".join("".join(texts).split()).count(bare) >= 6


def test_a_document_without_charts_tables_cards_or_facts_is_a_page_too() -> None:
    section = Section(title="Nothing", note="", chart=None, table=None, empty="There was nothing.")
    _, texts, pages = made_of(document(cards=[], summary=[], facts=[], sections=[section]))
    assert pages == 1 and "There was nothing." in texts[0]


def test_letters_beyond_latin_do_not_stop_it() -> None:
    _, texts, _ = made_of(document(title="Ελλάδα Київ 日本 🙂", summary=["naïve façade"]))
    assert "Ελλάδα Київ" in texts[0] and "naïve façade" in texts[0]
    assert "Page 1 of 1" in texts[0]


def test_pages_can_be_had_as_pictures() -> None:
    images = pictures(document(rows=60), [None], ppi=40)
    assert len(images) == 2
    assert all(image.startswith(b"\x89PNG") for image in images)
