"""What this service logs itself: every event by its name, and what it means."""

from __future__ import annotations

from collections.abc import Mapping

LOG_EVENTS: Mapping[str, str] = {
    "email.linked_instead": "A report was too large to attach, or could not be; the mail has a link.",
    "email.sent": "The mail server took a mail.",
    "smtp.closed": "The idle connection to the mail server was closed.",
    "smtp.connected": "A connection to the mail server was made.",
    "smtp.unavailable": "The mail server cannot be reached, or lets nobody in.",
}
