"""What the email worker subscribes to, and the mail that each event becomes."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import structlog
from pydantic import BaseModel, Field
from streammesh import Context, Reject, Service
from streammesh.mail_address import is_allowed
from streammesh.settings import load_settings

from services.email_worker.mail import Attachment, one_line, parse_recipient, shown_name
from services.email_worker.mailroom import Mailroom, open_mailroom
from services.email_worker.settings import EmailSettings, ReportStoreSettings
from services.email_worker.smtp_sender import MailTooLarge

log = structlog.get_logger()
service = Service("email_worker")

# A mail server may be away for hours and mail is still worth sending then: with the backoff growing to ten
# minutes and jitter, a hundred retries are about eight hours.
RETRIES = 100
# Long enough to wait for the connection and then for a slow server: to break off while it accepts makes repeats.
TIMEOUT = 180

PathOfApi = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/%-]{1,500}$")]


class UserRegistered(BaseModel):
    """Somebody registered. `name` and `locale` (`de`, `de-AT`) may be missing."""

    user_id: int | str
    email: str = Field(max_length=320)
    name: str | None = None
    locale: str | None = Field(None, max_length=35)


class ReportGenerated(BaseModel):
    """A report is in the store, under the key `object`; `recipient` is who is told."""

    report_id: str
    title: str
    object: str = Field(min_length=1, max_length=1024)
    size_bytes: int = Field(ge=0)
    pages: int | None = None
    rows: int | None = None
    recipient: str = Field(max_length=320)
    download_path: PathOfApi


@cache
def mailroom() -> Mailroom:
    """The process's mailroom, from the environment. Raises SystemExit(2) for a wrong setting."""
    return open_mailroom(load_settings(EmailSettings), load_settings(ReportStoreSettings))


@service.on("user.registered", retries=RETRIES, timeout=TIMEOUT)
async def send_welcome(user: UserRegistered, ctx: Context) -> dict[str, object]:
    """Welcome who registered, in their language where there is a translation."""
    room = mailroom()
    recipient = parse_recipient(user.email, local_domains=room.settings.local_domains)
    name, why_not = shown_name(user.name)
    values: dict[str, object] = {
        "name": name,
        "address": user.email.strip(),
        "home": room.settings.public_url,
    }
    sent = await room.mail("welcome", values, to=recipient, task_id=ctx.task_id, locale=user.locale)
    return {**sent, "left_out": why_not} if why_not else sent


# Only what the report worker says of itself: with an event of one's own one could have any report mailed to oneself.
@service.on(
    "report.generated",
    where={"source": "report_worker", "data.recipient": {"exists": True}},
    retries=RETRIES,
    timeout=TIMEOUT,
)
async def send_report(report: ReportGenerated, ctx: Context) -> dict[str, object]:
    """Tell the recipient that the report is ready, with the PDF, or with a link where it is too large or away."""
    room = mailroom()
    recipient = parse_recipient(report.recipient, local_domains=room.settings.local_domains)
    if not is_allowed(recipient.address, room.settings.recipients):
        raise Reject("EMAIL_RECIPIENTS does not allow reports to be mailed to this address")
    title = one_line(report.title)
    values: dict[str, object] = {
        "title": title,
        "pages": report.pages,
        "rows": report.rows,
        "size_bytes": report.size_bytes,
        "link": room.settings.public_url + report.download_path,
    }
    limit = room.settings.attach_limit_bytes
    pdf = None if report.size_bytes > limit else await room.reports.read(report.object, at_most=limit)
    if pdf is not None:
        attachment = Attachment(title, pdf)
        try:
            return await room.mail(
                "report_ready",
                {**values, "attached": True},
                to=recipient,
                task_id=ctx.task_id,
                attachment=attachment,
            )
        except MailTooLarge as refused:
            log.info("email.linked_instead", reason=refused.reason, size_bytes=len(pdf))
    return await room.mail("report_ready", {**values, "attached": False}, to=recipient, task_id=ctx.task_id)
