"""What is taken for a link, for a line, and for an address, by everybody who lets a text into a mail."""

from __future__ import annotations

import pytest
from streammesh.mail_address import parse
from streammesh.mail_text import link_in, one_line


@pytest.mark.parametrize(
    "text",
    [
        "Win at evil.example",
        "EVIL.COM/x",
        "http:\u200b//x",
        "ftp://x",
        "www.evil",
        "ann@example",
        "evil\uff0ecom",
        "evil\uff61com",
        "evil\u3002com",
        "evil\u2024com",
        "ｅｖｉｌ.com",
        "пример.рф",
        "xn--80ak6aa92e.com",
        "ev\u00adil.com",
    ],
)
def test_what_a_mail_program_makes_a_link_of_is_found(text):
    assert link_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "Report 2026.11.27",
        "v1.2 of it",
        "e.g. this",
        "U.S. sales",
        "Hr. Meier",
        "1.5 Mio.",
        "今月の売上。合計",
        "売上。Q4",
        "Umsatz…mehr",
    ],
)
def test_what_none_makes_a_link_of_is_not(text):
    assert link_in(text) is None


@pytest.mark.parametrize(
    "text", [" ", "\u3000", "\u200b\u200d", "\ufeff ", "a\nb", "a\u2028b", "a\x00", "\ud800", "\u202eevil"]
)
def test_a_title_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match=r"read|character"):
        one_line(text)


@pytest.mark.parametrize("text", ["", "Ümsätze", "مبيعات \u200f2026", "خانه\u200cها", "👩\u200d👩\u200d👧"])
def test_letters_that_are_needed_and_not_seen_are_kept(text):
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [("bob", "no @"), ("", "no @"), ("@example.com", "before the @"), ("bob@intra", "EMAIL_LOCAL_DOMAINS")],
)
def test_what_is_no_address_is_said(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)
