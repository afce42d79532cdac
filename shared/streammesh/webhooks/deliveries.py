"""The way of a delivery: from the stream of notifications into a webhook's queue, under a lease, to its end.

Each move is one script. A process may end at any point: what it had queued is queued, what it had taken and not
settled is taken again when its lease is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from streammesh import lua
from streammesh.keys import Keys
from streammesh.lua.webhooks import (
    CatchUpWebhookScript,
    DeliveryResult,
    QueuedDelivery,
    RoutedWebhook,
    RouteWebhooksScript,
    SettleWebhookScript,
)
from streammesh.notifications import Notification
from streammesh.webhooks.definition import Webhook
from streammesh.webhooks.store import MOST_QUEUED, MOST_QUEUED_BYTES, body_of

ATTEMPTS_KEPT = 1_000  # of one webhook, about


class DeliveryOutcome(StrEnum):
    """What became of an attempt."""

    DELIVERED = "delivered"
    AGAIN = "again"
    GIVEN_UP = "gone"
    EXPIRED = "expired"  # given up untried: it had waited too long already


@dataclass(frozen=True, slots=True)
class Result:
    """An attempt that ended; `wait_ms` until the next, `attempt` as it is remembered, `b""` for not at all."""

    delivery: str
    outcome: DeliveryOutcome
    wait_ms: int = 0
    attempt: bytes = b""


@dataclass(frozen=True, slots=True)
class TakenDelivery:
    """A delivery that was taken to be tried; `attempts` came before."""

    delivery: str
    queued_ms: int
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class WebhookTurn:
    """What is held of a webhook after a step: what was taken, and how it stands.

    `next_ms`: when it is due next, where the lease has ended by this step.
    """

    taken: list[TakenDelivery]
    failures: int
    failing_since_ms: int | None
    next_ms: int | None


@dataclass(frozen=True, slots=True)
class RoutedPage:
    """What became of a page: `routed`, `stale` or `moved`, then to `place`."""

    what: str
    woken: int = 0
    fell_behind: int = 0
    place: str = ""


def route_call(
    keys: Keys, known: str, after: bytes, reached: str, wanted: Sequence[tuple[Webhook, list[Notification]]]
) -> lua.Call[RoutedPage]:
    """`route_webhooks.lua`: queue what of a page is wanted, and move the common place from `after` to `reached`."""
    bodies = {
        note.id: body_of(note) for note in {note.id: note for _, mine in wanted for note in mine}.values()
    }
    routed = [
        RoutedWebhook(
            state=keys.webhook(webhook.id),
            queue=keys.webhook_queue(webhook.id),
            entries=keys.webhook_entries(webhook.id),
            webhook=webhook.id,
            deliveries=_deliveries(webhook, notes, bodies),
        )
        for webhook, notes in wanted
    ]
    return RouteWebhooksScript(
        version=keys.webhooks_version(),
        place=keys.webhooks_place(),
        due=keys.webhooks_due(),
        failing=keys.webhooks_failing(),
        behind=keys.webhooks_behind(),
        known=known,
        after=after,
        reached=reached,
        most=MOST_QUEUED,
        most_bytes=MOST_QUEUED_BYTES,
        changed=keys.webhooks_changed(),
        wanting=routed,
    ).call(_routed)


def _routed(answer: list[bytes | int]) -> RoutedPage:
    what = answer[0].decode() if isinstance(answer[0], bytes) else ""
    if what == "routed":
        return RoutedPage(what, int(answer[1]), int(answer[2]))
    place = answer[1] if len(answer) > 1 else b""
    return RoutedPage(what, place=place.decode("utf-8", "replace") if isinstance(place, bytes) else "")


def catch_up_call(
    keys: Keys, known: str, webhook: Webhook, after: bytes, reached: str, notes: list[Notification]
) -> lua.Call[str]:
    """`catch_up_webhook.lua`: the same for one webhook that reads at a place of its own."""
    return CatchUpWebhookScript(
        version=keys.webhooks_version(),
        place=keys.webhooks_place(),
        due=keys.webhooks_due(),
        failing=keys.webhooks_failing(),
        behind=keys.webhooks_behind(),
        state=keys.webhook(webhook.id),
        queue=keys.webhook_queue(webhook.id),
        entries=keys.webhook_entries(webhook.id),
        known=known,
        webhook=webhook.id,
        after=after,
        reached=reached,
        most=MOST_QUEUED,
        most_bytes=MOST_QUEUED_BYTES,
        changed=keys.webhooks_changed(),
        deliveries=_deliveries(webhook, notes, {note.id: body_of(note) for note in notes}),
    ).call(lambda answer: str(answer.decode()))


def settle_call(
    keys: Keys,
    webhook: Webhook,
    token: str,
    *,
    claims: bool = False,
    lease_ms: int,
    room: int,
    under_way: int = 0,
    hold_ms: int = 0,
    results: Sequence[Result] = (),
) -> lua.Call[WebhookTurn | None]:
    """`settle_webhook.lua`: settle results, take up to `room` more; None where another process holds the lease.

    May be repeated after a lost answer: what was taken twice is tried when its lease is over.
    """

    def parse(answer: list[bytes]) -> WebhookTurn | None:
        if answer[0] != b"held":
            return None
        taken = []
        for i in range(4, len(answer), 3):
            queued, _, body = answer[i + 1].partition(b" ")
            at = (
                int(queued) if queued.isdigit() and len(queued) < 19 else 0
            )  # what is none has waited too long
            attempts = int(answer[i + 2]) if answer[i + 2].isdigit() else 0
            taken.append(TakenDelivery(answer[i].decode("utf-8", "replace"), at, body, attempts))
        failures, since, following = (
            int(text) if text.isdigit() else None for text in (answer[1], answer[2], answer[3])
        )
        return WebhookTurn(taken, failures or 0, since, following)

    name = webhook.id
    return SettleWebhookScript(
        webhooks=keys.webhooks(),
        due=keys.webhooks_due(),
        failing=keys.webhooks_failing(),
        state=keys.webhook(name),
        queue=keys.webhook_queue(name),
        entries=keys.webhook_entries(name),
        attempts=keys.webhook_attempts(name),
        webhook=name,
        token=token,
        claims=claims,
        lease=lease_ms,
        room=room,
        under_way=under_way,
        ordered=webhook.ordered,
        hold=hold_ms,
        kept=ATTEMPTS_KEPT,
        results=[
            DeliveryResult(delivery=one.delivery, outcome=one.outcome, wait=one.wait_ms, attempt=one.attempt)
            for one in results
        ],
    ).call(parse)


def _deliveries(
    webhook: Webhook, notes: Sequence[Notification], bodies: Mapping[str, bytes]
) -> list[QueuedDelivery]:
    return [
        QueuedDelivery(delivery=webhook.delivery_of(note.id), position=note.id, body=bodies[note.id])
        for note in notes
    ]
