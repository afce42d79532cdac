"""One mail from words and addresses, as bytes a server takes. Pure: no clock, no socket, no template.

Whatever ends up in a header is checked here, so that nothing a publisher sends can add a header or a
recipient: values with CR, LF, NUL or another control character are refused, and there is one recipient.

The headers are written raw and not through the policy's header parser, since that decodes RFC 2047 words in
what it is given: a subject `=?utf-8?q?hi=0D=0ABcc:_x?=`, which holds no line end, becomes two headers
(Python 3.11.7). `=?utf-8?q?...?=@example.com` is a valid address, too.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr

from streammesh import Reject
from streammesh.mail_address import parse
from streammesh.mail_text import link_in

from services.email_worker.mail_templates import Words

# 7-bit bodies pass every server unchanged, whether or not it offers 8BITMIME; headers stay as they are set.
POLICY = SMTP.clone(cte_type="7bit", refold_source="none")
SUBJECT_LENGTH = 200  # characters; longer ones are cut, since mail clients show fewer
NAME_LENGTH = 100  # characters; longer "names" are somebody's text, not a name
FILENAME_LENGTH = 80
FORBIDDEN = {"Cc": "a control character", "Zl": "a line separator", "Zp": "a line separator"}
BODY_CONTROLS = frozenset("\n\t")
TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]+)>")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One checked address. The domain is ASCII (IDN as punycode); the local part may need SMTPUTF8."""

    local: str
    domain: str
    name: str = ""

    @property
    def address(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        """Whether only a server with SMTPUTF8 (RFC 6531) can take it."""
        return not self.local.isascii()

    @property
    def masked(self) -> str:
        """The address as it may be shown in results and logs: `a***@example.com`."""
        shown = self.local.strip('"')
        return f"{shown[:1] if len(shown) > 1 else ''}***@{self.domain}"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A PDF that travels with the mail; its file name is made of its title."""

    title: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Mail:
    """What is handed to a server: the envelope (RFC 5321) and the finished bytes (RFC 5322)."""

    sender: Mailbox
    recipient: Mailbox
    message_id: str
    content: bytes


def parse_recipient(text: str, *, local_domains: bool = False) -> Mailbox:
    """Return the one recipient of a mail, `ann+news@bücher.example`; nothing is looked up.

    Raises Reject where it is none, several, or not an address: no retry makes it right.
    """
    try:
        return Mailbox(*parse(text, local_domains=local_domains))
    except ValueError as error:
        raise Reject(f"not one valid e-mail address: {error}") from None


def parse_named(text: str) -> Mailbox:
    """An address that may have a name: `Ann <ann@example.com>`. Raises Reject as `parse_recipient` does."""
    named = NAMED.fullmatch(text.strip())
    name, address = (named["name"].strip().strip('"'), named["address"]) if named else ("", text.strip())
    mailbox = parse_recipient(address, local_domains=True)  # it is the operator's own
    return Mailbox(mailbox.local, mailbox.domain, header_safe("name", name))


def header_safe(what: str, value: str) -> str:
    """`value`, with tabs as spaces. Raises Reject where it holds CR, LF, NUL, another control, or half a character."""
    value = value.replace("\t", " ")
    for character in value:
        category = unicodedata.category(character)
        if category in FORBIDDEN:
            raise Reject(f"the {what} holds {FORBIDDEN[category]} (U+{ord(character):04X})")
        if category == "Cs":
            raise Reject(f"the {what} holds half a character (U+{ord(character):04X})")
    return value


def body_safe(what: str, value: str) -> str:
    """`value` with LF line ends. Raises Reject where it holds what no mail body may: NUL, other controls."""
    value = value.replace("\r\n", "\n")
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in BODY_CONTROLS:
            raise Reject(f"the {what} holds a control character (U+{ord(character):04X})")
    return value


def one_line(text: str) -> str:
    """Return a text from an event as it can stand in a header: control characters and separators become spaces."""
    cleaned = (" " if unicodedata.category(c) in FORBIDDEN or c.isspace() else c for c in text)
    return " ".join("".join(cleaned).split())


def shown_name(name: str | None) -> tuple[str | None, str]:
    """Return (the name to greet by, why there is none though one was given).

    Who registers may type anything as a name and any address as theirs, so a "name" that a mail client
    would show as a link would make this service send other people's advertisements.
    """
    name = one_line(name or "")
    if not name:
        return None, ""
    if len(name) > NAME_LENGTH:
        return None, f"the name is longer than {NAME_LENGTH} characters"
    if "/" in name or "@" in name or link_in(name):
        return None, "the name holds what a mail program would make a link of"
    return name, ""


def attachment_name(title: str) -> str:
    """A file name made of a report's title: letters, digits, `-` and `_` only, ending in `.pdf`."""
    slug = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", title)).strip("-_")
    return f"{slug[:FILENAME_LENGTH] or 'report'}.pdf"


def message_id(task_id: str, domain: str) -> str:
    """`<task id@domain>`: the same for every attempt at the same task, so that a repeat can be recognised."""
    if not TASK_ID.fullmatch(task_id):
        raise Reject("the task id cannot be part of a Message-ID")
    return f"<{task_id}@{domain}>"


def compose(
    words: Words,
    *,
    sender: Mailbox,
    recipient: Mailbox,
    task_id: str,
    at: datetime,
    reply_to: Mailbox | None = None,
    attachment: Attachment | None = None,
) -> Mail:
    """A mail with a text and an HTML part and at most one PDF.

    The recipient's name is not in the header: no value of an event is there but the address and the subject.
    `at` is the Date. Raises Reject where a value cannot stand in a header or a body.
    """
    message = EmailMessage(policy=POLICY.clone(utf8=True) if recipient.needs_utf8 else POLICY)
    headers = {
        "From": _header_address(sender),
        "To": _header_address(recipient),
        "Subject": _header_text("Subject", header_safe("subject", words.subject).strip()[:SUBJECT_LENGTH]),
        "Date": format_datetime(at),
        "Message-ID": message_id(task_id, sender.domain),
        "Auto-Submitted": "auto-generated",  # RFC 3834: holiday notes do not answer this
    }
    if reply_to:
        headers["Reply-To"] = _header_address(reply_to)
    for name, value in headers.items():
        message.set_raw(name, value)
    message.set_content(body_safe("text", words.text))
    message.add_alternative(body_safe("HTML text", words.html), subtype="html")
    if attachment:
        filename = attachment_name(attachment.title)
        message.add_attachment(attachment.content, maintype="application", subtype="pdf", filename=filename)
    content = message.as_bytes()
    _refuse_other_headers(content, {*headers, "MIME-Version", "Content-Type"})
    return Mail(sender, recipient, headers["Message-ID"], content)


def _header_address(mailbox: Mailbox) -> str:
    if not mailbox.name:
        return mailbox.address
    return formataddr((header_safe("name", mailbox.name), mailbox.address), charset="utf-8")


def _header_text(name: str, value: str) -> str:
    """A header value as RFC 2047 has it, folded. `=?` is encoded too, or readers would decode what follows."""
    charset = "us-ascii" if value.isascii() and "=?" not in value else "utf-8"
    return Header(value, charset, maxlinelen=76, header_name=name).encode(linesep="\r\n")


def _refuse_other_headers(content: bytes, expected: set[str]) -> None:
    """The last look before a mail leaves, at its bytes: each expected header once and no other."""
    head = content.partition(b"\r\n\r\n")[0].decode("utf-8").split("\r\n")
    names = sorted(line.partition(":")[0] for line in head if not line.startswith((" ", "\t")))
    if names != sorted(expected) or any("\n" in line or "\r" in line for line in head):
        raise Reject("a value of the event would change the headers of the mail")
