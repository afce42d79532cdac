"""Webhooks as records, as the others in `models`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict


class WebhookChanges(TypedDict, total=False):
    """What `update_webhook` takes: what is left out stays, and None takes a filter away."""

    url: str
    description: str
    types: str | Sequence[str]
    event: str | None
    task: str | None
    service: str | None
    subject: str | None
    where: str | None
    ordered: bool
    enabled: bool


@dataclass(frozen=True, slots=True)
class WebhookInfo:
    """Notifications that are pushed to a URL, and how its deliveries stand.

    `secret` is there in the answer of `create_webhook` alone. `disabled_reason` says why the mesh disabled it;
    `behind` at which position it reads, where it has not caught up.
    """

    id: str
    url: str
    owner: str
    types: tuple[str, ...]
    event: str | None
    task: str | None
    service: str | None
    subject: str | None
    ordered: bool
    enabled: bool
    disabled_reason: str | None
    waiting: int
    delivered: int
    given_up: int
    failures_in_a_row: int
    failing_since: str | None
    behind: str | None
    description: str = ""
    secret: str | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    where: str | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(
            where=value.get("where"),
            id=value["id"],
            url=value["url"],
            owner=value["owner"],
            types=tuple(value["types"]),
            event=value.get("event"),
            task=value.get("task"),
            service=value.get("service"),
            subject=value.get("subject"),
            ordered=value["ordered"],
            enabled=value["enabled"],
            disabled_reason=value.get("disabled_reason"),
            waiting=value["waiting"],
            delivered=value["delivered"],
            given_up=value["given_up"],
            failures_in_a_row=value["failures_in_a_row"],
            failing_since=value.get("failing_since"),
            behind=value.get("behind"),
            description=value.get("description", ""),
            secret=value.get("secret"),
            raw=value,
        )


@dataclass(frozen=True, slots=True)
class NewWebhookSecret:
    """A new secret, shown this once. Deliveries are signed with the old one as well until `old_until`."""

    secret: str = field(repr=False)
    old_until: str | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(value["secret"], value.get("old_until"))


@dataclass(frozen=True, slots=True)
class WebhookAttempt:
    """One attempt to deliver. `outcome`: `delivered`, `failed` or `given_up`; `next_attempt` where it is tried again."""

    delivery: str
    notification: str
    attempt: int
    at: str
    outcome: str
    status: int | None
    error: str | None
    seconds: float
    next_attempt: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(
            delivery=value["delivery"],
            notification=value["notification"],
            attempt=value["attempt"],
            at=value["at"],
            outcome=value["outcome"],
            status=value.get("status"),
            error=value.get("error"),
            seconds=value["seconds"],
            next_attempt=value.get("next_attempt"),
            raw=value,
        )


@dataclass(frozen=True, slots=True)
class WebhookDeliveries:
    """What will be delivered: `deliveries` by their ids, or all after the notification `after`."""

    deliveries: tuple[str, ...]
    after: str | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Read one."""
        return cls(tuple(value["deliveries"]), value.get("after"))
