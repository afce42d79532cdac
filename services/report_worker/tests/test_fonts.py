"""Every script that people write in can be read in a report, or the report is refused; no letter is an empty box."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.report_worker import svg_chart
from services.report_worker.fonts import families, missing, spelled_out
from services.report_worker.pdf import check_letters, typeset, with_letters_spelled_out
from services.report_worker.source_table import SourceError
from services.report_worker.tests.test_pdf import document

MADE = datetime(2026, 11, 22, 6, tzinfo=UTC)
NOWHERE = "\U00013000"  # an Egyptian hieroglyph


@pytest.fixture(autouse=True)
def _only_the_fonts_that_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a font for everything would hide what these tests are about."""
    from services.report_worker import fonts

    every = fonts.fonts().fonts()
    ours = [font for font in every if fonts._is_ours(font)]
    fonts._paths.cache_clear()
    monkeypatch.setattr(fonts, "fonts", lambda: type("Ours", (), {"fonts": lambda self: ours})())


@pytest.mark.parametrize(
    "text",
    [
        "売上報告書", "销售报告 北京", "銷售報告", "매출 보고서", "รายงาน กรุงเทพฯ", "تقرير المبيعات", "דוח", "रिपोर्ट", "отчёт",
        "έκθεση", "🎉", "👩\u200d💻", "🇩🇪", "❤️", "👍🏽", "é e\u0301", "→ ≤ ✓ € ₹ ₩", "a\u00adb\u200bc\u2028",
    ],
)  # fmt: skip
def test_the_fonts_that_come_along_have_every_letter_of(text: str) -> None:
    assert missing(text) == []


def test_a_letter_that_no_font_has_is_named_before_anything_is_set() -> None:
    assert missing(f"a{NOWHERE}b{NOWHERE}") == [NOWHERE]
    with pytest.raises(SourceError, match=r"no font here has '.' \(U\+13000\), which is in 'species .'"):
        check_letters(document(summary=[f"species {NOWHERE}"]))


def test_a_letter_in_a_chart_alone_is_found_too() -> None:
    content = document()
    chart = content["sections"][0]["chart"]
    assert chart is not None
    chart["labels"] = [NOWHERE]
    with pytest.raises(SourceError):
        check_letters(content)


def test_what_others_wrote_is_spelled_out_where_it_cannot_be_set() -> None:
    assert spelled_out(f"a {NOWHERE}", missing(NOWHERE)) == "a [U+13000]"
    content = with_letters_spelled_out(document(title=f"x {NOWHERE}"))
    assert content["title"] == "x [U+13000]"
    check_letters(content)


def test_chinese_characters_are_drawn_as_in_the_language_they_stand_in() -> None:
    assert "Noto Sans CJK JP" in families("東京のまち")
    assert "Noto Sans CJK KR" in families("서울 漢字")
    assert "Noto Sans CJK SC" in families("北京") and "Noto Sans CJK JP" not in families("北京")
    assert families("x")[:2] == ["IBM Plex Sans", "Noto Sans"]


def test_labels_of_a_chart_fit_however_wide_their_letters_are() -> None:
    assert svg_chart.fitting("北海道札幌市中央区北一条西二丁目三番地") == "北海道札幌市中央区北一条西二…"
    assert svg_chart.fitting("x" * 31) == "x" * 29 + "…"
    assert svg_chart.fitting("👩‍💻 ❤️") == "👩💻 ❤"


@pytest.mark.parametrize(
    "text", ["売上報告書 매출 销售", "รายงาน กรุงเทพฯ रिपोर्ट", "تقرير المبيعات", "👩‍💻 🎉 ❤️"]
)
def test_a_text_in_any_of_them_is_set_and_typst_finds_each_letter(text: str) -> None:
    from services.report_worker.tests.test_pdf import made_of

    reader, _, _ = made_of(document(title=text, summary=[text]))
    fonts = [
        font.get_object()
        for page in reader.pages
        for font in cast("Any", page)["/Resources"]["/Font"].values()
    ]
    assert any("Noto" in font["/BaseFont"] for font in fonts)
    assert reader.metadata is not None and reader.metadata.title == text


def test_a_sequence_that_typst_cannot_set_after_all_is_a_refusal_and_no_box() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text y="9">1\ufe0f\u20e3</text></svg>'
    )
    with pytest.raises(SourceError, match="no font here can set the sequence"):
        typeset(document(), [svg], made=MADE)
