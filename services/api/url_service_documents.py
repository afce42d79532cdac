"""Services whose worker is a URL, as requests say them and as the API tells them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from streammesh.errors import InvalidManifest, InvalidWebhook
from streammesh.names import OWN_PROCESSES, TYPE_LENGTH
from streammesh.setting_kinds import Duration
from streammesh.subscriptions.declaration import never_matching
from streammesh.webhooks.addresses import check_url
from streammesh.webhooks.url_workers import UrlSubscription, UrlWorker

from services.api.schemas import Answer

MOST_SUBSCRIPTIONS = 50
NAME = r"^[a-z][a-z0-9_]{0,62}$"
LONGEST_TIMEOUT, LONGEST_RESULT = timedelta(minutes=2), timedelta(days=30)
_DURATION: dict[str, Any] = {"type": "string", "format": ""}
EXAMPLE: dict[str, Any] = {
    "service": "invoices",
    "url": "https://billing.example/mesh",
    "subscriptions": [
        {
            "type": "order.placed",
            "name": "on_order_placed",
            "where": {"data.currency": "EUR"},
            "retries": 5,
            "expires_seconds": None,
            "priority": None,
        }
    ],
    "timeout_seconds": 30.0,
    "result_within_seconds": 86_400.0,
    "concurrency": 16,
    "secrets": 1,
    "secret": "whsec_8KZr...",
}


class WantedSubscription(BaseModel):
    """Which events, and how often a failed delivery is tried again."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(
        min_length=1, max_length=TYPE_LENGTH, description="A type, or a glob such as `order.*`."
    )
    name: str | None = Field(
        None, pattern=NAME, description="Of its tasks: `<service>.<name>`; else made of the type."
    )
    where: dict[str, Any] | str = Field(
        {}, description="Paths and conditions that must fit, or a text in CEL."
    )
    retries: int = Field(5, ge=0, le=1_000)
    expires: Duration | None = Field(
        None,
        description="After this long it is not worth starting, such as `10m`.",
        json_schema_extra=lambda schema: schema.update(anyOf=[{"type": "string"}, {"type": "null"}]),
    )
    priority: int | None = Field(None, ge=0, le=9)

    @model_validator(mode="after")
    def _fits(self) -> WantedSubscription:
        for problem in never_matching(self.where, self.type):
            raise ValueError(problem)
        return self


class UrlServiceWanted(BaseModel):
    """The whole of a service whose worker is a URL."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(description="Where events are POSTed to.")
    subscriptions: list[WantedSubscription] = Field(min_length=1, max_length=MOST_SUBSCRIPTIONS)
    timeout: Duration = Field(
        timedelta(seconds=30),
        description="How long an answer may take: 1s to 2m.",
        json_schema_extra=_DURATION,
    )
    result_within: Duration = Field(
        timedelta(days=1),
        description="How long after a `202` its result may come: 1s to 30d.",
        json_schema_extra=_DURATION,
    )
    concurrency: int = Field(
        16, ge=1, le=256, description="Requests under way at once, of each webhook worker."
    )
    new_secret: bool = Field(
        False, description="Replace the secret; requests are signed with both for a day."
    )

    @field_validator("url")
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        try:
            return check_url(value, info.context or ())
        except InvalidWebhook as error:
            raise ValueError(str(error)) from None

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= LONGEST_TIMEOUT:
            raise ValueError("should be from 1s to 2m")
        return value

    @field_validator("result_within")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= LONGEST_RESULT:
            raise ValueError("should be from 1s to 30d")
        return value

    def worker(self, service: str) -> UrlWorker:
        """What it comes to, without secrets. Raises ValueError for a manifest that is none, and a name of the mesh's own."""
        if service in OWN_PROCESSES:
            raise ValueError(f"{service!r} is the name of a process of the mesh itself; take another")
        wants = tuple(
            UrlSubscription(
                type=one.type,
                name=one.name or _named(one.type),
                where=one.where,
                retries=one.retries,
                expires=one.expires.total_seconds() if one.expires else None,
                priority=one.priority,
            )
            for one in self.subscriptions
        )
        worker = UrlWorker(
            service,
            self.url,
            wants,
            timeout=self.timeout.total_seconds(),
            result_within=self.result_within.total_seconds(),
            concurrency=self.concurrency,
        )
        try:
            worker.manifest()
        except InvalidManifest as error:
            raise ValueError(str(error)) from None
        return worker


class ResultWanted(BaseModel):
    """The result of a task that was accepted with `202`, or why it can never have one. Exactly one of the two."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"result": {"invoice": 7}}]})

    result: Any = Field(None, description="JSON of 64 KiB at most.")
    reject: str | None = Field(
        None, min_length=1, max_length=500, description="It becomes a dead letter, with this reason."
    )

    @model_validator(mode="after")
    def _one(self) -> ResultWanted:
        if len(self.model_fields_set) != 1 or (self.reject is None and "reject" in self.model_fields_set):
            raise ValueError("should hold either result or reject")
        return self


class UrlSubscriptionState(Answer):
    """One subscription of it."""

    type: str
    name: str
    where: dict[str, Any] | str
    retries: int
    expires_seconds: float | None
    priority: int | None


class UrlServiceState(Answer):
    """A service whose worker is a URL. `secret`: where one was made by this call, and shown this once."""

    service: str
    url: str
    subscriptions: list[UrlSubscriptionState]
    timeout_seconds: float
    result_within_seconds: float
    concurrency: int
    secrets: int
    secret: str | None


class AcceptedResult(Answer):
    """`duplicate`: a result came before, and counts."""

    id: str
    duplicate: bool


def document(worker: UrlWorker, secret: str | None, now_ms: int) -> UrlServiceState:
    """As it is told."""
    return UrlServiceState(
        service=worker.service,
        url=worker.url,
        subscriptions=[
            UrlSubscriptionState(
                type=one.type,
                name=one.name,
                where=one.where if isinstance(one.where, str) else dict(one.where),
                retries=one.retries,
                expires_seconds=one.expires,
                priority=one.priority,
            )
            for one in worker.subscriptions
        ],
        timeout_seconds=worker.timeout,
        result_within_seconds=worker.result_within,
        concurrency=worker.concurrency,
        secrets=sum(one.is_valid(now_ms) for one in worker.secrets),
        secret=secret,
    )


def _named(event_type: str) -> str:
    """A name of tasks, made of a type or glob."""
    word = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in event_type.lower())
    return f"on_{word.strip('_') or 'all'}"[:63]
