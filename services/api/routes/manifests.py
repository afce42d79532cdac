"""`/v1/manifests`: what each service told the mesh about itself, with the schemas of what it takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from streammesh.subscriptions.registry import read_registered

from services.api.caller import Caller
from services.api.openapi import READ, answers, told
from services.api.schemas import Answer
from services.api.state import wiring_of

router = APIRouter(tags=["status"])
_EXAMPLE: dict[str, Any] = {
    "service": "email_worker",
    "version": "1",
    "queues": ["email_worker"],
    "subscriptions": [
        {
            "task": "email_worker.send_welcome",
            "type": "user.registered",
            "where": {},
            "timeout": 30.0,
            "retries": 5,
            "expires": None,
            "priority": None,
            "keep": None,
            "queue": "email_worker",
            "version": 1,
            "waits": {},
            "flow": None,
            "priority_path": None,
            "steps": [],
            "schema": {"type": "object", "required": ["email"]},
        }
    ],
    "publishes": {"email.sent": None},
}


class DeclaredSubscription(Answer):
    """One subscription as its service declares it. Times are seconds; `schema` is of the event's data, or null."""

    task: str
    type: str
    where: dict[str, Any] | str = Field(description="Paths and conditions, or a text in CEL.")
    timeout: float | None
    retries: int
    expires: float | None
    priority: int | None
    keep: float | None
    queue: str
    version: int
    formerly: list[str] = Field(description="Tasks that it takes over: it was called so before.")
    waits: dict[str, list[str]]
    cancel_on: dict[str, list[str]] = Field(description="Types that cancel its open tasks, with both paths.")
    flow: dict[str, Any] | None = Field(description="What may start when; null for all at once.")
    priority_path: str | None
    steps: list[str] = Field(description="Of a durable handler: those that its source names.")
    schema_: dict[str, Any] | None = Field(alias="schema")


_TOLD = frozenset(
    DeclaredSubscription.model_fields
)  # what else stands in a subscription is the dispatcher's business


class ServiceManifest(Answer):
    """What one service declares, as far as your key may read the types that it wants."""

    service: str
    version: str
    queues: list[str]
    subscriptions: list[DeclaredSubscription]
    publishes: dict[str, dict[str, Any] | None] = Field(
        description="Types that it says it publishes, with the JSON Schema of their data, or null."
    )


class ManifestList(Answer):
    """Manifests, by service. `broken`: services whose manifests cannot be read."""

    manifests: list[ServiceManifest]
    broken: list[str]


@router.get(
    "/v1/manifests",
    summary="What each service declares",
    responses=answers(*READ, _200=told("All.", {"manifests": [_EXAMPLE], "broken": []})),
)
async def manifests(request: Request, key: Caller) -> ManifestList:
    """Subscriptions to types that your key may read, with the JSON Schema of what each handler takes."""
    wiring = wiring_of(request)
    async with wiring.reading():
        registered = await read_registered(wiring.redis, wiring.keys)
    shown = []
    for manifest in registered.manifests:
        subscriptions = []
        for one in manifest.subscriptions:
            if key.may_subscribe(one.type):
                about = {name: value for name, value in asdict(one).items() if name in _TOLD}
                about["queue"] = one.queue_name
                about["steps"] = list(manifest.steps.get(one.task, ()))
                about["schema"] = manifest.schemas.get(one.task)
                subscriptions.append(DeclaredSubscription.model_validate(about))
        publishes = {name: one for name, one in manifest.publishes.items() if key.may_subscribe(name)}
        if subscriptions or publishes or key.may_subscribe_to_all:
            shown.append(
                ServiceManifest(
                    service=manifest.service,
                    version=manifest.version,
                    queues=manifest.queue_names,
                    subscriptions=subscriptions,
                    publishes=publishes,
                )
            )
    broken = sorted(registered.broken) if key.may_subscribe_to_all else []
    return ManifestList(manifests=shown, broken=broken)
