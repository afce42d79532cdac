"""What an answer means: whether a delivery has arrived, when it is tried again, when it is given up. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from streammesh.webhooks.deliveries import DeliveryOutcome

from services.webhook_worker.settings import WebhookSettings

GROWTH = 4  # of the wait from attempt to attempt
LONGEST_PAUSE_MS = 300_000  # between two looks at a URL that does not work
PATIENCE = 3  # failures in a row after which it is left alone for a while
LONGEST_ASKED_MS = 86_400_000  # of what `Retry-After` may ask for
GONE = 410


@dataclass(frozen=True, slots=True)
class ReceiverAnswer:
    """What came of one request. `status` is None where there was no answer, and `error` says why."""

    status: int | None
    error: str | None = None
    retry_after: str | None = None
    seconds: float = 0.0
    body: bytes = b""

    @property
    def arrived(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants nothing more, ever (Standard Webhooks: 410)."""
        return self.status == GONE


@dataclass(frozen=True, slots=True)
class DeliveryVerdict:
    """What follows: the outcome, how long until the next attempt, how long nothing is tried at this URL."""

    outcome: DeliveryOutcome
    wait_ms: int = 0
    hold_ms: int = 0


def judge(
    answer: ReceiverAnswer,
    *,
    attempts: int,
    failures: int,
    age_ms: int,
    settings: WebhookSettings,
    now: datetime | None = None,
    spread: Callable[[float, float], float] = random.uniform,
) -> DeliveryVerdict:
    """Return what follows from an answer. `attempts` came before; `failures` in a row at this URL did as well."""
    if answer.arrived:
        return DeliveryVerdict(DeliveryOutcome.DELIVERED)
    first, longest = (
        value.total_seconds() * 1000 for value in (settings.retry_first, settings.retry_longest)
    )
    wait = min(longest, first * GROWTH ** min(attempts, 20)) * spread(0.9, 1.1)
    hold = 0.0
    if failures + 1 >= PATIENCE:
        hold = min(LONGEST_PAUSE_MS, first * 2 ** min(failures + 1 - PATIENCE, 20)) * spread(0.9, 1.1)
    asked = asked_ms(answer, now or utc_now())
    if asked is not None:
        wait = hold = max(asked, 1)
    if age_ms + wait > settings.retry_for.total_seconds() * 1000:
        return DeliveryVerdict(DeliveryOutcome.GIVEN_UP, hold_ms=int(hold))
    return DeliveryVerdict(DeliveryOutcome.AGAIN, int(wait), int(hold))


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


def asked_ms(answer: ReceiverAnswer, now: datetime) -> int | None:
    """How long a `429` or `503` asks to wait, in ms; None where it does not say, or nothing sensible."""
    if answer.status not in (429, 503) or not answer.retry_after:
        return None
    text = answer.retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * 1000, LONGEST_ASKED_MS)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year or a zone of twenty digits
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max(0, int((until - now).total_seconds() * 1000)), LONGEST_ASKED_MS)
