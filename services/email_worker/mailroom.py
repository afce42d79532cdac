"""What the handlers work with, put together once: templates, the sender, the report store, the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
from streammesh.clock import Clock, SystemClock

from services.email_worker.mail import Attachment, Mailbox, compose
from services.email_worker.mail_templates import Templates
from services.email_worker.report_files import ReportFiles
from services.email_worker.settings import EmailSettings, ReportStoreSettings
from services.email_worker.smtp_sender import Sender

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mailroom:
    """Everything between an event's values and the mail server."""

    settings: EmailSettings
    templates: Templates
    sender: Sender
    reports: ReportFiles
    clock: Clock = field(default_factory=SystemClock)

    async def mail(
        self,
        template: str,
        values: dict[str, object],
        *,
        to: Mailbox,
        task_id: str,
        locale: str | None = None,
        attachment: Attachment | None = None,
    ) -> dict[str, object]:
        """Render, compose and hand over one mail; returns what the task's result says, the address masked.

        What can happen twice: the server has accepted the mail, and the process is killed before the task's end
        is recorded. Then the next attempt sends it again, because SMTP offers no way to ask. Every attempt's mail
        has the same Message-ID, made of the task id, so a receiving server or mail client can see that it is the
        same one; many do. Nothing but such a crash (or a server that accepts and then drops the connection before
        saying so) sends a mail twice.

        Raises Reject (MailTooLarge) or NotSent.
        """
        settings = self.settings
        words = self.templates.render(template, {"product": settings.product, **values}, locale=locale)
        mail = compose(
            words,
            sender=settings.sender,
            recipient=to,
            task_id=task_id,
            at=self.clock.now(),
            reply_to=settings.answers,
            attachment=attachment,
        )
        answer = await self.sender.send(mail)
        log.info("email.sent", template=template, message_id=mail.message_id, size_bytes=len(mail.content))
        return {
            "status": "sent",
            "message_id": mail.message_id,
            "recipient": to.masked,
            "attached": attachment is not None,
            "server": answer,
        }


def open_mailroom(settings: EmailSettings, store: ReportStoreSettings) -> Mailroom:
    """A mailroom as the settings say; nothing is connected yet.

    Raises jinja2.TemplateError where a shipped template is broken.
    """
    return Mailroom(settings, Templates(), open_sender(settings), ReportFiles(store.store_url))


def open_sender(settings: EmailSettings) -> Sender:
    """The way to the mail server; nothing is connected yet."""
    return Sender(
        settings.server,
        helo_name=settings.helo_name or settings.sender.domain,
        connect_timeout=settings.connect_timeout,
        reply_timeout=settings.reply_timeout,
        accept_timeout=settings.accept_timeout,
        idle_close=settings.idle_close,
        tls_ca=settings.tls_ca,
    )
