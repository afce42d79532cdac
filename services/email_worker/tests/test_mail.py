"""What a mail is made of, and that no value of an event can add to it."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import SMTPUTF8, default
from typing import Any, cast

import pytest
from aiosmtplib.email import parse_address
from hypothesis import given, settings
from hypothesis import strategies as st
from streammesh import Reject

from services.email_worker.mail import (
    Mail,
    Mailbox,
    attachment_name,
    compose,
    header_safe,
    one_line,
    parse_recipient,
    shown_name,
)
from services.email_worker.mail_templates import Words
from services.email_worker.settings import parse_sender
from services.email_worker.tests.conftest import MORNING, a_mail

HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
WORD = re.compile(r"=\?utf-8\?([bq])\?([^?]*)\?=")
# A line end hidden in an RFC 2047 word: the standard library's header parser decodes it and writes two headers.
HIDDEN = [
    "=?utf-8?q?hi=0D=0ABcc:_evil@example.com?=",
    "=?utf-8?b?aGkKQmNjOiBldmlsQGV4YW1wbGUuY29t?= x",
    "=?utf-8?q?=00=0A=0A<script>?= " + "y" * 100,
    "a =?utf-8?q?b?=\t=?utf-8?q?=0Ac?= d",
]


def headers_of(mail: Mail) -> dict[str, str]:
    """The header lines as they go over the wire, unfolded, by name. Fails when a name is there twice."""
    head = mail.content.partition(b"\r\n\r\n")[0].decode()
    lines = re.sub(r"\r\n(?=[ \t])", "", head).split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def decoded(value: str) -> str:
    """A header value as a mail client shows it (RFC 2047), by the standard library's old, separate decoder."""
    return str(make_header(decode_header(value))) if WORD.search(value) else value


def read(mail: Mail) -> EmailMessage:
    message = message_from_bytes(mail.content, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def test_a_mail_has_a_text_part_and_an_html_part() -> None:
    message = read(a_mail(text="Hello Ann\n", html="<p>Hello Ann</p>\n"))
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    body = message.get_body(("plain",))
    assert body is not None and body.get_content() == "Hello Ann\r\n"


def test_a_mail_carries_exactly_the_headers_it_should() -> None:
    found = headers_of(a_mail(task_id="0b1c"))
    assert list(found) == HEADERS
    assert found["From"] == "The mesh <no-reply@example.com>"
    assert found["To"] == "ann@example.com"
    assert found["Message-ID"] == "<0b1c@example.com>"
    assert found["Date"] == "Sun, 22 Nov 2026 06:00:00 +0000"
    assert found["Auto-Submitted"] == "auto-generated"


def test_every_attempt_at_one_task_has_the_same_message_id_and_another_task_another() -> None:
    first, again, other = a_mail(task_id="t1"), a_mail(task_id="t1", text="changed"), a_mail(task_id="t2")
    assert first.message_id == again.message_id != other.message_id


def test_a_long_sender_domain_leaves_the_message_id_in_one_piece() -> None:
    sender = parse_sender("no-reply@" + "very-long-department." * 5 + "example.com")
    mail = compose(
        Words("s", "t", "h"),
        sender=sender,
        recipient=parse_recipient("a@example.com"),
        task_id="9f1b9c1e-4a52-5f0e-9f65-0f2c9d6b7a11",
        at=MORNING,
    )
    assert headers_of(mail)["Message-ID"] == f"<9f1b9c1e-4a52-5f0e-9f65-0f2c9d6b7a11@{sender.domain}>"


def test_a_pdf_is_attached_under_a_name_made_of_its_title() -> None:
    message = read(a_mail(pdf=b"%PDF-1.7 ..."))
    assert message.get_content_type() == "multipart/mixed"
    (attached,) = message.iter_attachments()
    assert attached.get_content_type() == "application/pdf"
    assert attached.get_filename() == "Sales.pdf"
    assert attached.get_content() == b"%PDF-1.7 ..."


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Sales 2026/Q3", "Sales-2026-Q3.pdf"),
        ("../../etc/passwd", "etc-passwd.pdf"),
        ("Größe", "Größe.pdf"),
        ("\r\n\0", "report.pdf"),
        ('x".exe; filename="y', "x-exe-filename-y.pdf"),
        ("", "report.pdf"),
    ],
)
def test_a_file_name_has_only_letters_digits_and_dashes(title: str, name: str) -> None:
    assert attachment_name(title) == name


@pytest.mark.parametrize(
    "character", ["\r", "\n", "\0", "\r\n", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]
)
def test_a_line_end_or_control_character_in_a_subject_is_refused(character: str) -> None:
    with pytest.raises(Reject, match="the subject holds"):
        a_mail(subject=f"Hello{character}Bcc: evil@example.com")


@pytest.mark.parametrize("subject", HIDDEN)
@pytest.mark.parametrize("to", ["ann@example.com", "jörg@example.com"])
def test_a_line_end_hidden_in_an_encoded_word_stays_text(subject: str, to: str) -> None:
    found = headers_of(a_mail(to, subject=subject))
    assert list(found) == HEADERS
    assert decoded(found["Subject"]) == subject.replace("\t", " ")


@pytest.mark.parametrize("domain", ["example.com", "very-long-department." * 5 + "example.com"])
def test_an_address_that_is_an_encoded_word_stays_an_address(domain: str) -> None:
    address = f"=?utf-8?q?x=0D=0ABcc=3Aevil=40example.com?=@{domain}"
    mail = a_mail(address)
    assert headers_of(mail)["To"] == address == mail.recipient.address
    assert list(headers_of(mail)) == HEADERS


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann",
        "ann@",
        "@example.com",
        "ann@localhost",
        "ann@example.com, bob@example.com",
        "ann@example.com;bob@example.com",
        "ann@example.com\r\nBcc: bob@example.com",
        "ann\0@example.com",
        "ann@exa\0mple.com",
        "ann@example.com>",
        "<ann@example.com>",
        "Ann <ann@example.com>",
        "ann@example.com SIZE=1",
        "ann@example.com> SIZE=1 <x@example.com",
        '"ann\r\nRCPT TO:<bob@example.com>"@example.com',
        "ann@[127.0.0.1]",
        "ann@example..com",
        "ann@" + "x" * 300 + ".com",
        "ann\u2028@example.com",
        "ann@example.com\ud800",
    ],
)
def test_what_is_not_one_plain_address_is_rejected(address: str) -> None:
    with pytest.raises(Reject, match="not one valid e-mail address"):
        parse_recipient(address)


@pytest.mark.parametrize(
    ("address", "sent_to", "needs_utf8"),
    [
        ("ann+news@example.com", "ann+news@example.com", False),
        ("ann@bücher.example", "ann@xn--bcher-kva.example", False),
        ("jörg@bücher.example", "jörg@xn--bcher-kva.example", True),
        ("o'brien@Example.COM", "o'brien@example.com", False),
        ("用户@例子.广告", "用户@xn--fsqu00a.xn--4rr70v", True),
        ("ann..lee@docomo.ne.jp", '"ann..lee"@docomo.ne.jp', False),
        ("ann.@ezweb.ne.jp", '"ann."@ezweb.ne.jp', False),
        (".ann@softbank.ne.jp", '".ann"@softbank.ne.jp', False),
        ('"ann..lee"@docomo.ne.jp', '"ann..lee"@docomo.ne.jp', False),
        ('"ann lee"@example.com', '"ann lee"@example.com', False),
        ('"a,b@c"@example.com', '"a,b@c"@example.com', False),
        (" ann@example.com\n", "ann@example.com", False),
        ("\u3000ann@example.com ", "ann@example.com", False),
    ],
)
def test_addresses_that_exist_are_taken(address: str, sent_to: str, needs_utf8: bool) -> None:
    mail = a_mail(address)
    assert (mail.recipient.address, mail.recipient.needs_utf8) == (sent_to, needs_utf8)
    assert headers_of(mail)["To"] == sent_to


def test_only_a_mail_to_an_international_local_part_has_bytes_beyond_ascii() -> None:
    words: dict[str, Any] = {"subject": "Größe 大", "text": "Grüße\n", "html": "<p>Grüße</p>\n"}
    assert a_mail("ann@bücher.example", **words).content.isascii()
    assert not a_mail("jörg@example.com", **words).content.isascii()


@pytest.mark.parametrize(
    ("address", "masked"),
    [("ann@example.com", "a***@example.com"), ("a@example.com", "***@example.com")],
)
def test_an_address_is_masked_for_results(address: str, masked: str) -> None:
    assert parse_recipient(address).masked == masked


@pytest.mark.parametrize(
    "name", ["Ann", "J. R. R. Tolkien", "J.R.R. Tolkien", "O'Brien-Smith", "Müller", "山田 太郎"]
)
def test_a_name_is_greeted_by(name: str) -> None:
    assert shown_name(name) == (name, "")


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "  ",
        "https://evil.example",
        "Win at evil.example now",
        "x/y",
        "a@b",
        "t.co",
        "evil.\u200bexample",
        "evil\uff0eexample",
        "b.xn--p1ai",
        "n" * 101,
        "\n\t",
    ],
)
def test_what_a_mail_client_would_show_as_a_link_is_not_greeted_by(name: str | None) -> None:
    shown, why_not = shown_name(name)
    assert shown is None
    assert bool(why_not) is bool((name or "").strip())  # what is left out is said


@pytest.mark.parametrize("between", [" \r\n  ", "\t", "\u2028", "\u2029", "\x0b", "\x00", "\x85", "\x1f"])
def test_a_separator_or_control_character_in_a_name_or_title_is_one_space(between: str) -> None:
    assert shown_name(f" Ann {between}Lee{between}") == ("Ann Lee", "")
    assert one_line(f"Sales{between}2026") == "Sales 2026"


@pytest.mark.parametrize(
    "address", ["ann@mailhost", "ann@printer.local", "ann@localhost", "ann.@mail", "ann@a.b.local"]
)
def test_hosts_of_ones_own_network_are_taken_where_the_operator_says_so(address: str) -> None:
    with pytest.raises(Reject, match="EMAIL_LOCAL_DOMAINS"):
        parse_recipient(address)
    local, _, domain = address.partition("@")
    found = parse_recipient(address, local_domains=True)
    assert (found.domain, found.local.strip('"')) == (domain, local)
    for wrong in ("ann@a_b", "ann@[127.0.0.1]", "ann@-x", "a b@host", "ann@host\nx"):
        with pytest.raises(Reject):
            parse_recipient(wrong, local_domains=True)


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x08", "\ud800"])
@pytest.mark.parametrize("part", ["text", "html"])
def test_a_control_character_in_a_body_is_refused(part: str, character: str) -> None:
    with pytest.raises(Reject, match="control character"):
        a_mail(**cast("Any", {part: f"Hello{character}"}))


def test_a_body_line_of_any_length_is_carried_in_short_lines() -> None:
    mail = a_mail(text="x" * 5000 + "\n")
    assert max(len(line) for line in mail.content.split(b"\r\n")) <= 998  # RFC 5322 2.1.1
    body = read(mail).get_body(("plain",))
    assert body is not None and body.get_content() == "x" * 5000 + "\r\n"


def test_a_task_id_that_cannot_stand_in_a_message_id_is_refused() -> None:
    for wrong in ("", "a b", "a>b", "a\nb", "a@b", "x" * 200):
        with pytest.raises(Reject):
            a_mail(task_id=wrong)


def test_a_name_of_the_sender_that_holds_a_line_end_is_refused() -> None:
    with pytest.raises(Reject):
        header_safe("name", "Ann\r\nBcc: x")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=260)


@settings(max_examples=300, deadline=None)
@given(
    subject=st.one_of(TEXT, st.text("=?utf8bq_0DA \t:aé日", max_size=260)),
    to=st.sampled_from(["a@example.com", "é@example.com"]),
)
def test_any_subject_arrives_as_it_is_or_is_rejected(subject: str, to: str) -> None:
    try:
        mail = a_mail(to, subject=subject)
    except Reject:
        assert any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029" for c in subject)
        return
    found = headers_of(mail)
    assert list(found) == HEADERS
    assert decoded(found["Subject"]) == subject.replace("\t", " ").strip()[:200]


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_any_text_is_either_no_recipient_or_exactly_one(text: str) -> None:
    try:
        mailbox = parse_recipient(text)
    except Reject:
        return
    assert isinstance(mailbox, Mailbox)
    mail = a_mail(text)
    assert parse_address(mailbox.address) == mailbox.address
    assert headers_of(mail)["To"] == mailbox.address
    assert list(headers_of(mail)) == HEADERS
    message = message_from_bytes(mail.content, policy=SMTPUTF8)
    assert len(message["To"].addresses) == 1


@settings(max_examples=200, deadline=None)
@given(
    local=st.text("=?utf8bqBC0DA3=_+-'{}|~!#$%&*^`/", min_size=1, max_size=64),
)
def test_no_local_part_adds_a_header(local: str) -> None:
    mail = a_mail(f"{local}@example.com")
    assert (
        parse_address(mail.recipient.address) == mail.recipient.address
    )  # as the SMTP client puts it in RCPT TO
    assert headers_of(mail)["To"] == f"{local}@example.com"
    assert list(headers_of(mail)) == HEADERS
