"""What a webhook is: a URL, what it is told of, on whose behalf, and how deliveries to it are signed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from streammesh import names
from streammesh.errors import InvalidExpression, InvalidWebhook
from streammesh.notifications import Filter, Notification, check_where
from streammesh.webhooks.signature import check_kept

MOST_TYPES = 50
MOST_SECRETS = 5  # valid at once, each of which signs


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret as it is kept, sealed or not; `until_ms`: when it ends, where another one took its place."""

    text: str = field(repr=False)
    until_ms: int | None = None

    def is_valid(self, now_ms: int) -> bool:
        """Whether deliveries are signed with it."""
        return self.until_ms is None or self.until_ms > now_ms


def rotated(secrets: Sequence[Secret], fresh: str, overlap_ms: int, now_ms: int) -> tuple[Secret, ...]:
    """Return secrets with another in front; those that are valid end after the overlap, or when they would. 0: at once."""
    end = now_ms + overlap_ms
    old = [replace(one, until_ms=min(one.until_ms or end, end)) for one in secrets if one.is_valid(now_ms)]
    return (Secret(fresh), *(one for one in old if one.is_valid(now_ms)))


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook. `types`: globs over the notification's type or the event's; one of them fits. Empty: all.

    `owner` is the API key, by name, whose rights it has: it is told what that key may be told at that moment.
    """

    id: str
    url: str
    owner: str
    types: tuple[str, ...] = ()
    event: str | None = None
    task: str | None = None
    service: str | None = None
    subject: str | None = None
    ordered: bool = False
    enabled: bool = True
    description: str = ""
    secrets: tuple[Secret, ...] = ()
    created_ms: int = 0
    disabled_why: str | None = None  # where the mesh itself disabled it
    where: str | None = None  # an expression in CEL over the notification
    shard: int = 0  # of a mesh of several: whose notifications this copy is told of

    def wants(self, note: Notification) -> bool:
        """Whether it asked for this notification; its owner's rights are another question."""
        return self.wants_kind(note) and self._narrow.fits(note)

    def wants_kind(self, note: Notification) -> bool:
        """Whether it may ask for notifications of this type, event type and service."""
        return (self.service is None or note.service == self.service) and (
            not self.types
            or any(
                names.matches(glob, note.type) or names.matches(glob, note.event_type) for glob in self.types
            )
        )

    @property
    def _narrow(self) -> Filter:
        return Filter(event=self.event, task=self.task, subject=self.subject, where=self.where)

    def delivery_of(self, position: str) -> str:
        """The id of the delivery of one notification to it: the same for each attempt and each replay, and no other shard's."""
        return f"{self.id}_{position}.{self.shard}" if self.shard else f"{self.id}_{position}"

    def to_json(self) -> bytes:
        """As it is stored."""
        value = asdict(self)
        if self.where is None:  # a worker that knows no expressions reads it as before, and no other
            del value["where"]
        if not self.shard:
            del value["shard"]
        return orjson.dumps(value)


def position_of(delivery: str) -> str:
    """The position of the notification that a delivery is about."""
    return delivery.rpartition("_")[2].partition(".")[0]


def from_json(raw: bytes) -> Webhook:
    """What is stored. Raises InvalidWebhook for what somebody else put there."""
    try:
        value: dict[str, Any] = orjson.loads(raw)
        secrets = [Secret(str(one["text"]), one.get("until_ms")) for one in value.pop("secrets")]
        types: Sequence[str] = value.pop("types")
        webhook = Webhook(**value, types=tuple(types), secrets=tuple(secrets))
        texts = (webhook.id, webhook.url, webhook.owner, webhook.description, *webhook.types)
        if not all(isinstance(text, str) for text in texts) or len(webhook.types) > MOST_TYPES:
            raise TypeError("it holds what is no text")
        if type(webhook.shard) is not int:
            raise TypeError("its shard is no number")
        if webhook.where is not None:
            check_where(webhook.where)
        for secret in secrets:
            check_kept(secret.text)
            if secret.until_ms is not None and not isinstance(secret.until_ms, int):
                raise TypeError("a secret ends at no time")
        return webhook
    except (ValueError, KeyError, TypeError, AttributeError, InvalidExpression) as error:
        raise InvalidWebhook(f"what is stored is no webhook: {error!r}"[:300]) from None
