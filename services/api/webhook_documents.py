"""Webhooks as the API tells them, and what requests say of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from streammesh import names
from streammesh.cel.syntax import LONGEST as LONGEST_WHERE
from streammesh.clock import rfc3339_ms
from streammesh.errors import InvalidExpression, InvalidWebhook
from streammesh.events.validation import MAX_ATTRIBUTE
from streammesh.names import TYPE_LENGTH
from streammesh.notifications import check_where, position_key
from streammesh.setting_kinds import Duration
from streammesh.webhooks.addresses import Network, check_url
from streammesh.webhooks.definition import MOST_TYPES, Webhook
from streammesh.webhooks.store import WebhookStanding

from services.api.schemas import Answer

MOST_REPLAYED = 100
LONGEST_OVERLAP = timedelta(days=30)
Word = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE)]
Glob = Annotated[str, Field(min_length=1, max_length=TYPE_LENGTH)]
EXAMPLE_ID = "wh_0198f2f18f0a7c3e9c550d6e7a1b2c3d"
EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "url": "https://shop.example/hooks/mesh",
    "description": "orders to the shop",
    "owner": "shop",
    "types": ["order.*"],
    "event": None,
    "task": None,
    "service": None,
    "subject": None,
    "where": None,
    "ordered": False,
    "enabled": True,
    "disabled_reason": None,
    "created_at": "2026-11-22T06:00:00.000Z",
    "secrets": 1,
    "waiting": 0,
    "delivered": 120,
    "given_up": 0,
    "failures_in_a_row": 0,
    "failing_since": None,
    "behind": None,
}


class _WebhookBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @field_validator("url", check_fields=False)
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        allowed: tuple[Network, ...] = info.context or ()
        try:
            return check_url(value, allowed)
        except InvalidWebhook as error:
            raise ValueError(str(error)) from None

    @field_validator("types", check_fields=False)
    @classmethod
    def _globs(cls, value: list[str]) -> list[str]:
        for glob in value:
            if not names.is_type(glob):
                raise ValueError(f"{glob!r} is no glob over types, such as order.*")
        return value


def _is_expression(value: str | None) -> str | None:
    try:
        if value is not None:
            check_where(value)
    except InvalidExpression as error:
        raise ValueError(str(error)) from None
    return value


Where = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_WHERE,
        description="In CEL, over the notification as it is sent: `data.result.total > 100`.",
    ),
    AfterValidator(_is_expression),
]


class WebhookWanted(_WebhookBody):
    """A webhook. What is left out of `types`, `event`, `task`, `service`, `subject`, `where` is not asked."""

    url: str = Field(
        description="Where notifications are POSTed to: https:// or http://, of a public address."
    )
    description: str = Field("", max_length=256)
    types: list[Glob] = Field(
        [],
        max_length=MOST_TYPES,
        description="Globs; one of them covers the notification's type or the event's.",
    )
    event: Word | None = None
    task: Word | None = None
    service: Word | None = None
    subject: Word | None = None
    where: Where | None = None
    ordered: bool = Field(
        False, description="One after the other, in their order; a failure holds up the rest."
    )
    enabled: bool = True


class WebhookChange(_WebhookBody):
    """What is to be changed; what is left out stays. `null` takes a filter away."""

    url: str | None = None
    description: str | None = Field(None, max_length=256)
    types: list[Glob] | None = Field(None, max_length=MOST_TYPES)
    event: Word | None = None
    task: Word | None = None
    service: Word | None = None
    subject: Word | None = None
    where: Where | None = None
    ordered: bool | None = None
    enabled: bool | None = None

    @field_validator("url", "description", "types", "ordered", "enabled", mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("should not be null; leave it out to keep it")
        return value


def _position(text: str) -> str:
    position_key(text)
    return text


Position = Annotated[str, Field(max_length=64), AfterValidator(_position)]


class ReplayWanted(BaseModel):
    """Which notifications: all since a time or after a position, or some by their ids. Exactly one of the three."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = Field(
        None, description="All that it asks for since then, as far as they are kept."
    )
    after: Position | None = Field(None, description="All that it asks for after this notification.")
    notifications: list[Position] | None = Field(
        None, min_length=1, max_length=MOST_REPLAYED, description="These, by their ids."
    )

    @model_validator(mode="after")
    def _one(self) -> ReplayWanted:
        if [self.since, self.after, self.notifications].count(None) != 2:
            raise ValueError("should name one of since, after, notifications")
        return self


class RotationWanted(BaseModel):
    """How long the old secret goes on being used beside the new one."""

    model_config = ConfigDict(extra="forbid")

    overlap: Duration = Field(
        timedelta(hours=24),
        description="0s to 30d.",
        json_schema_extra={"type": "string", "default": "24h", "format": ""},
    )

    @field_validator("overlap")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta() <= value <= LONGEST_OVERLAP:
            raise ValueError("should be from 0s to 30d")
        return value


class WebhookState(Answer):
    """One webhook, and how its deliveries stand."""

    id: str
    url: str
    description: str
    owner: str = Field(
        description="Name of the API key whose rights it has: it is told what that key may be told."
    )
    types: list[str]
    event: str | None
    task: str | None
    service: str | None
    subject: str | None
    where: str | None
    ordered: bool
    enabled: bool
    disabled_reason: str | None = Field(description="Why the mesh disabled it.")
    created_at: str
    secrets: int = Field(description="With how many secrets a delivery is signed: two while one is replaced.")
    waiting: int = Field(
        description="Deliveries that are queued, those that failed and are tried again among them."
    )
    delivered: int
    given_up: int
    failures_in_a_row: int
    failing_since: str | None
    behind: str | None = Field(description="The position at which it reads, where it has not caught up.")


class WebhookSecret(Answer):
    """A new secret, which is shown once."""

    secret: str
    old_until: str | None = Field(description="Until when deliveries are signed with the old one as well.")


class WebhookMade(WebhookState):
    """The webhook, with its secret, which is shown once."""

    secret: str


class WebhookList(Answer):
    """Webhooks, by id: the oldest first."""

    webhooks: list[WebhookState]


class DeliveryAttempt(Answer):
    """One attempt to deliver. `next_attempt` is null where it arrived or was given up."""

    delivery: str = Field(description="The `webhook-id` that was sent.")
    notification: str
    attempt: int
    at: str
    outcome: Literal["delivered", "failed", "given_up"]
    status: int | None
    error: str | None
    seconds: float
    next_attempt: str | None


class AttemptList(Answer):
    """Attempts, newest first; `next` is the cursor of the next page, null at the end."""

    attempts: list[DeliveryAttempt]
    next: str | None


class WebhookQueued(Answer):
    """What will be delivered: `deliveries` by id, or all after the notification `after`."""

    deliveries: list[str]
    after: str | None


def document(webhook: Webhook, standing: WebhookStanding, now_ms: int) -> WebhookState:
    """One webhook as it is told."""
    return WebhookState(
        id=webhook.id,
        url=webhook.url,
        description=webhook.description,
        owner=webhook.owner,
        types=list(webhook.types),
        event=webhook.event,
        task=webhook.task,
        service=webhook.service,
        subject=webhook.subject,
        where=webhook.where,
        ordered=webhook.ordered,
        enabled=webhook.enabled,
        disabled_reason=webhook.disabled_why,
        created_at=rfc3339_ms(webhook.created_ms),
        secrets=sum(one.is_valid(now_ms) for one in webhook.secrets),
        waiting=standing.waiting,
        delivered=standing.delivered,
        given_up=standing.given_up,
        failures_in_a_row=standing.failures,
        failing_since=rfc3339_ms(standing.failing_since_ms) if standing.failing_since_ms else None,
        behind=standing.behind,
    )
