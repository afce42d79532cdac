"""From an event's payload to the mail that a server takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError
from streammesh import Context, Event, Reject
from streammesh.subscriptions.filters import fits

from services.email_worker.handlers import (
    ReportGenerated,
    UserRegistered,
    mailroom,
    send_report,
    send_welcome,
    service,
)
from services.email_worker.smtp_sender import NotSent
from services.email_worker.tests.conftest import Serve
from services.email_worker.tests.mail_server import MailServer

ANN = {"user_id": 42, "email": "ann@example.com", "name": "Ann"}
REPORT: dict[str, Any] = {
    "report_id": "r1",
    "title": "Sales",
    "object": "reports/r1.pdf",
    "size_bytes": 9,
    "pages": 3,
    "rows": 2500,
    "recipient": "ann@example.com",
    "download_path": "/v1/reports/r1.pdf",
}
LINK = "https://mesh.example/v1/reports/r1.pdf"


@pytest.fixture
async def server(serve: Serve) -> MailServer:
    return await serve()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    (folder / "reports").mkdir(parents=True)
    (folder / "reports" / "r1.pdf").write_bytes(b"%PDF-1.7\n")
    return folder


@pytest.fixture(autouse=True)
def environment(
    server: MailServer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("EMAIL_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
    monkeypatch.setenv("EMAIL_PUBLIC_URL", "https://mesh.example")
    monkeypatch.setenv("REPORT_STORE_URL", str(store))
    mailroom.cache_clear()
    yield monkeypatch
    mailroom.cache_clear()


@pytest.fixture(autouse=True)
async def closed_at_the_end(environment: pytest.MonkeyPatch) -> Any:
    yield
    await mailroom().sender.close()


def attempt(task_id: str = "task-1") -> Context:
    """As much of a context as the handlers look at."""
    return cast(Context, SimpleNamespace(task_id=task_id))


async def welcome(task_id: str = "task-1", **changes: Any) -> dict[str, object]:
    return await send_welcome(UserRegistered.model_validate(ANN | changes), attempt(task_id))


async def report(**changes: Any) -> dict[str, object]:
    return await send_report(ReportGenerated.model_validate(REPORT | changes), attempt())


def only_mail(server: MailServer) -> EmailMessage:
    (taken,) = server.mails
    message = message_from_bytes(taken.content, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


async def test_who_registers_is_welcomed(server: MailServer) -> None:
    result = await welcome()
    message = only_mail(server)
    assert server.mails[0].recipients == ["ann@example.com"]
    assert message["Subject"] == "Welcome to streammesh, Ann"
    assert "Hello Ann," in text_of(message) and "https://mesh.example" in text_of(message)
    assert result == {
        "status": "sent",
        "message_id": "<task-1@example.com>",
        "recipient": "a***@example.com",
        "attached": False,
        "server": "2.0.0 queued as 4711",
    }


async def test_a_welcome_is_in_the_users_language(server: MailServer) -> None:
    await welcome(locale="de-AT")
    assert only_mail(server)["Subject"] == "Willkommen bei streammesh, Ann"


async def test_a_name_that_is_an_advertisement_is_not_passed_on(server: MailServer) -> None:
    await welcome(name="Win a prize at https://evil.example")
    assert only_mail(server)["Subject"] == "Welcome to streammesh"
    assert b"evil" not in server.mails[0].content


async def test_what_is_left_out_of_a_mail_is_said_in_its_result(server: MailServer) -> None:
    assert "link" in str((await welcome(name="Win at evil.example"))["left_out"])
    assert "left_out" not in await welcome()


async def test_a_title_with_a_line_separator_is_mailed_all_the_same(server: MailServer) -> None:
    await report(title="Sales\u2028by\x0bmonth")
    assert "Sales by month" in only_mail(server)["Subject"]


async def test_reports_go_only_to_whom_the_operator_allows(
    server: MailServer, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("EMAIL_RECIPIENTS", '["*@example.com", "bob@else.where"]')
    mailroom.cache_clear()
    await report(recipient="Ann@Example.COM")
    with pytest.raises(Reject, match="EMAIL_RECIPIENTS"):
        await report(recipient="ann@example.com.evil.org")
    assert [taken.recipients for taken in server.mails] == [["Ann@example.com"]]


@pytest.mark.parametrize("address", ["ann..lee@docomo.ne.jp", '"ann lee"@example.com', " ann@example.com "])
async def test_an_odd_address_arrives_at_the_server_as_one_address(server: MailServer, address: str) -> None:
    await welcome(email=address)
    (taken,) = server.mails
    assert [one.replace('"', "") for one in taken.recipients] == [address.strip().replace('"', "")]


async def test_a_name_is_text_and_nothing_else(server: MailServer) -> None:
    await welcome(name="{{7*7}}<b>\r\nBcc: x")
    message = only_mail(server)
    assert message["Subject"] == "Welcome to streammesh, {{7*7}}<b> Bcc: x"
    assert message["Bcc"] is None
    html = message.get_body(("html",))
    assert html is not None and "&lt;b&gt;" in html.get_content()


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@example.com,b@example.com", "a@example.com\r\nBcc: b@example.com"]
)
async def test_a_wrong_address_is_rejected_and_nothing_is_sent(email: str, server: MailServer) -> None:
    with pytest.raises(Reject, match="not one valid e-mail address"):
        await welcome(email=email)
    assert not server.connections


async def test_a_second_attempt_at_the_same_task_has_the_same_message_id(server: MailServer) -> None:
    server.answers["DATA"].append("451 later")
    with pytest.raises(NotSent):
        await welcome("task-7")
    first, again = await welcome("task-7"), await welcome("task-7")
    assert first["message_id"] == again["message_id"] == "<task-7@example.com>"
    assert (await welcome("task-8"))["message_id"] == "<task-8@example.com>"


async def test_a_refusal_for_good_is_rejected_with_the_servers_words(server: MailServer) -> None:
    server.answers["RCPT"].append("550 5.1.1 no such user here")
    with pytest.raises(Reject, match=r"RCPT TO: 550 5\.1\.1 no such user here"):
        await welcome()


async def test_a_report_comes_with_its_pdf(server: MailServer) -> None:
    result = await report()
    message = only_mail(server)
    (pdf,) = message.iter_attachments()
    assert (pdf.get_filename(), pdf.get_content()) == ("Sales.pdf", b"%PDF-1.7\n")
    assert message["Subject"] == "Your report is ready: Sales"
    assert "attached" in text_of(message) and LINK in text_of(message)
    assert result["attached"] is True


def nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "reports" / "r1.pdf").unlink()


def large(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event says 9 bytes; the store knows better."""
    monkeypatch.setenv("EMAIL_ATTACH_LIMIT_BYTES", "100")
    (store / "reports" / "r1.pdf").write_bytes(b"x" * 101)


def no_attachments(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL_ATTACH_LIMIT_BYTES", "0")


@pytest.mark.parametrize("case", [nothing, large, no_attachments])
async def test_a_report_that_cannot_be_attached_is_linked(
    case: Callable[[Path, pytest.MonkeyPatch], None],
    server: MailServer,
    store: Path,
    environment: pytest.MonkeyPatch,
) -> None:
    case(store, environment)
    result = await report()
    message = only_mail(server)
    assert not list(message.iter_attachments())
    assert "attached" not in text_of(message) and LINK in text_of(message)
    assert result["attached"] is False


async def test_a_report_that_the_server_finds_too_large_is_linked_instead(server: MailServer) -> None:
    server.answers["MAIL"].append("552 5.3.4 message too big for this server")
    result = await report()
    assert not list(only_mail(server).iter_attachments())
    assert result["attached"] is False


async def test_a_report_whose_object_lies_outside_the_store_is_rejected(
    server: MailServer, store: Path
) -> None:
    (store.parent / "secret.txt").write_text("secret")
    with pytest.raises(Reject, match="not the name of a stored report"):
        await report(object="../secret.txt")
    assert not server.mails


async def test_a_title_that_holds_a_header_stays_one_line_of_the_subject(server: MailServer) -> None:
    await report(title="Sales\r\nBcc: x@example.com")
    message = only_mail(server)
    assert "Sales Bcc: x@example.com" in message["Subject"] and message["Bcc"] is None


async def test_a_title_with_half_a_character_is_rejected(server: MailServer) -> None:
    with pytest.raises(Reject, match="the subject holds"):
        await report(title="Sales \ud800")
    assert not server.mails


@pytest.mark.parametrize(
    "path", ["javascript:alert(1)", "https://evil.example/x", "/a b", '/"onclick=', "", "/\r\n"]
)
def test_a_download_path_that_is_no_path_does_not_fit(path: str) -> None:
    with pytest.raises(ValidationError):
        ReportGenerated.model_validate(REPORT | {"download_path": path})


@pytest.mark.parametrize(
    ("recipient", "source", "wanted"),
    [
        ("ann@example.com", "report_worker", True),
        (None, "report_worker", False),
        ("ann@example.com", "somebody", False),  # or anybody's report could be mailed to anybody
    ],
)
def test_a_report_without_a_recipient_or_of_somebody_else_becomes_no_task(
    recipient: str | None, source: str, wanted: bool
) -> None:
    (subscription,) = (s for s in service.manifest().subscriptions if s.type == "report.generated")
    event = Event(
        id="1",
        source=source,
        type="report.generated",
        time="2026-11-22T06:00:00Z",
        data=REPORT | {"recipient": recipient},
    )
    assert fits(event, subscription.where) is wanted
    without = replace(event, data={"report_id": "r1"})
    assert not fits(without, subscription.where)


def test_a_wrong_setting_stops_the_worker_with_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services.email_worker"],
        env={**os.environ, "EMAIL_SMTP_URL": "mail.example.com"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("EMAIL_SMTP_URL: should be smtp://")
    assert ended.stderr.count("\n") == 1
