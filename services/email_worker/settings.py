"""What the email worker is told: `EMAIL_*`, and `REPORT_STORE_URL` which it shares with the report worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, FilePath, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh import Reject
from streammesh.setting_kinds import Duration, StoreUrl, checked_url

from services.email_worker.mail import Mailbox, parse_named

Security = Literal["plain", "starttls", "tls"]
SCHEMES: dict[str, tuple[Security, int]] = {
    "smtp": ("plain", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),
}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SENDER_NAME_BYTES = 40  # so that it fits one RFC 2047 word, which is 75 characters


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail goes, how the way there is protected, and who logs in (nobody where `username` is None)."""

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str = field(default="", repr=False)


class EmailSettings(BaseSettings):
    """The settings of the email worker."""

    model_config = SettingsConfigDict(
        env_prefix="EMAIL_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    smtp_url: SecretStr = Field(
        SecretStr("smtp://127.0.0.1:1025"),
        description="The mail server: smtp://, smtp+starttls:// or smtps://, as user:password@host:port.",
    )
    from_address: str = Field(
        "streammesh <no-reply@example.com>",
        description="Who the mails are from: an address, or Name <address>.",
    )
    reply_to: str | None = Field(None, description="Where answers go, if not to the sender.")
    product: str = Field("streammesh", max_length=60, description="What the mails call this installation.")
    public_url: str = Field(
        "http://127.0.0.1:8000",
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="Where the API is for those who read the mails; links in mails start with it.",
    )
    helo_name: str | None = Field(
        None, pattern=r"^[!-~]+$", description="The name said in EHLO; empty means the sender's domain."
    )
    tls_ca: FilePath | None = Field(
        None, description="CA file that signed the server's certificate, if not a public one."
    )
    connect_timeout: Duration = Field(
        timedelta(seconds=10), description="How long connecting, TLS and login may take together."
    )
    reply_timeout: Duration = Field(
        timedelta(seconds=20), description="How long one answer of the server may take."
    )
    accept_timeout: Duration = Field(
        timedelta(seconds=60),
        description="How long the server may take to accept a whole mail. Too short a time makes repeats.",
    )
    idle_close: Duration = Field(
        timedelta(seconds=30), description="The connection is closed after this long without a mail."
    )
    attach_limit_bytes: int = Field(
        5_000_000, ge=0, description="A report larger than this is linked instead of attached."
    )

    local_domains: bool = Field(
        False,
        description="Whether mail may go to hosts without a dot and below .local: those of your own network.",
    )
    recipients: list[str] = Field(
        [],
        description='Who reports may be mailed to, as a JSON list of patterns such as ["*@example.com"]; empty: anybody.',
    )

    @field_validator("smtp_url")
    @classmethod
    def _smtp_url(cls, value: SecretStr) -> SecretStr:
        parse_smtp_url(value.get_secret_value())
        return value

    @field_validator("from_address", "reply_to")
    @classmethod
    def _mailbox(cls, value: str | None) -> str | None:
        if value:
            parse_sender(value)
        return value or None

    @field_validator("connect_timeout", "reply_timeout", "accept_timeout", "idle_close")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value < timedelta(milliseconds=10):
            raise ValueError("should be at least 10ms")
        return value

    @field_validator("public_url")
    @classmethod
    def _no_slash_at_the_end(cls, value: str) -> str:
        return checked_url(value, ("http", "https")).rstrip("/")

    @property
    def server(self) -> SmtpServer:
        """The parsed `smtp_url`."""
        return parse_smtp_url(self.smtp_url.get_secret_value())

    @property
    def sender(self) -> Mailbox:
        """The parsed `from_address`."""
        return parse_sender(self.from_address)

    @property
    def answers(self) -> Mailbox | None:
        """The parsed `reply_to`."""
        return parse_sender(self.reply_to) if self.reply_to else None


class ReportStoreSettings(BaseSettings):
    """Where the report worker puts its PDF files, for attaching them."""

    model_config = SettingsConfigDict(
        env_prefix="REPORT_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    store_url: StoreUrl = Field(
        "var/store",
        description="Where reports are kept: a local folder, or s3://bucket/prefix (also gs://, az://).",
    )


def parse_smtp_url(url: str) -> SmtpServer:
    """The server that a URL names. Raises ValueError, without the password, saying what it should be."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError("should be smtp://, smtp+starttls:// or smtps://, then user:password@host:port")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("should end after host:port; write / ? # @ : of a password as %2F %3F %23 %40 %3A")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("should have a port between 1 and 65535") from None
    security, default_port = SCHEMES[parts.scheme]
    username = unquote(parts.username) if parts.username else None
    if username and security == "plain" and parts.hostname not in LOOPBACK:
        raise ValueError("would send the password in the clear; use smtp+starttls:// or smtps://")
    return SmtpServer(parts.hostname, port or default_port, security, username, unquote(parts.password or ""))


def parse_sender(text: str) -> Mailbox:
    """A sender's address. Raises ValueError where no server would take it as one."""
    try:
        mailbox = parse_named(text)
    except Reject as wrong:
        raise ValueError(f"should be an address or Name <address>: {wrong.reason}") from None
    if mailbox.needs_utf8:
        raise ValueError("should have ASCII letters before the @, since not every server takes others")
    if len(mailbox.name.encode()) > SENDER_NAME_BYTES:
        raise ValueError(f"should have a name of at most {SENDER_NAME_BYTES} bytes")
    return mailbox
