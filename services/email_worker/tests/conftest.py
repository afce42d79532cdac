"""What the tests of the email worker share: mail servers, certificates, a sender, a mail."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from streammesh.clock import ManualClock

from services.email_worker.mail import Attachment, Mail, compose, parse_recipient
from services.email_worker.mail_templates import Words
from services.email_worker.settings import SmtpServer, parse_sender
from services.email_worker.smtp_sender import Sender
from services.email_worker.tests.mail_server import MailServer

Serve = Callable[..., Awaitable[MailServer]]
SendTo = Callable[..., Sender]

MORNING = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts mail servers; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> MailServer:
            server = MailServer(**options)
            await server.start()
            stack.push_async_callback(server.stop)
            return server

        yield start


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(MORNING)


@pytest.fixture
async def send_to(clock: ManualClock) -> AsyncIterator[SendTo]:
    """Makes senders; they close with the test."""
    async with AsyncExitStack() as stack:

        def make(server: SmtpServer | MailServer, **options: Any) -> Sender:
            address = server.address() if isinstance(server, MailServer) else server
            sender = a_sender(address, **({"clock": clock} | options))
            stack.push_async_callback(sender.close)
            return sender

        yield make


def a_sender(server: SmtpServer, **options: Any) -> Sender:
    chosen: dict[str, Any] = {
        "helo_name": "example.com",
        "connect_timeout": timedelta(seconds=5),
        "reply_timeout": timedelta(seconds=5),
        "accept_timeout": timedelta(seconds=5),
        "idle_close": timedelta(seconds=30),
    }
    return Sender(server, **(chosen | options))


def a_mail(
    to: str = "ann@example.com", *, task_id: str = "task-1", pdf: bytes | None = None, **words: str
) -> Mail:
    said = {"subject": "Welcome", "text": "Hello\n", "html": "<p>Hello</p>\n"} | words
    return compose(
        Words(**said),
        sender=parse_sender("The mesh <no-reply@example.com>"),
        recipient=parse_recipient(to),
        task_id=task_id,
        at=MORNING,
        attachment=Attachment("Sales", pdf) if pdf is not None else None,
    )
