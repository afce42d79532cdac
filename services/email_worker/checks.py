"""What `streammesh doctor` looks at for the email worker: whether the mail server lets it in. No mail is sent."""

from __future__ import annotations

from streammesh.redisio.inspection import Severity
from streammesh.settings import load_settings
from streammesh.status.findings import Finding

from services.email_worker.mailroom import open_sender
from services.email_worker.settings import EmailSettings
from services.email_worker.smtp_sender import NotSent


async def look(settings: EmailSettings | None = None) -> list[Finding]:
    """Return `mail-refused` where it does not; nothing where `EMAIL_SMTP_URL` is not set here."""
    settings = settings or load_settings(EmailSettings)
    if "smtp_url" not in settings.model_fields_set:
        return []
    sender = open_sender(settings)
    try:
        await sender.greet()
    except NotSent as refused:
        text = f"{refused}: no mail leaves, and the email worker tries again for hours"
        do = "see that EMAIL_SMTP_URL has the right host, port, security (smtp, smtp+starttls, smtps), user and password"
        return [Finding("mail-refused", "email_worker", Severity.ERROR, text, do)]
    finally:
        await sender.close()
    return []
