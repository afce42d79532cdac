"""`/v1/webhooks`: notifications pushed to a URL, signed; `services/webhook_worker` delivers them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query, Request
from streammesh import names
from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.clock import rfc3339_ms
from streammesh.errors import InvalidWebhook
from streammesh.notification_log import readable as readable_notes
from streammesh.notifications import position_key
from streammesh.webhooks.definition import MOST_SECRETS, Secret, Webhook, rotated
from streammesh.webhooks.signature import new_secret
from streammesh.webhooks.store import MOST, StoredWebhook, body_of

from services.api.audit_trail import AuditedRoute, SecretRoute
from services.api.caller import Caller
from services.api.cursors import LONGEST_CURSOR, wrong_cursor
from services.api.json_body import JsonBody
from services.api.openapi import READ, answers, told
from services.api.parameters import position_since, whole_position
from services.api.problems import Problem
from services.api.schemas import readable
from services.api.shards.joined_answers import SEPARATOR
from services.api.shards.webhook_copies import WebhookCopies
from services.api.state import Wiring, wiring_of, wirings_of
from services.api.webhook_documents import (
    EXAMPLE,
    EXAMPLE_ID,
    AttemptList,
    DeliveryAttempt,
    ReplayWanted,
    RotationWanted,
    WebhookChange,
    WebhookList,
    WebhookMade,
    WebhookQueued,
    WebhookSecret,
    WebhookState,
    WebhookWanted,
    document,
)

router = APIRouter(tags=["webhooks"], route_class=AuditedRoute)
secret_router = APIRouter(tags=["webhooks"], route_class=SecretRoute)  # whose answers hold a secret
BODY_BYTES = 65_536
TRIES = 5  # of a change, while somebody else changes the same webhook
MOST_ASKING = 50  # webhooks of one key with `where`
PREFIX = "wh_"
Id = Annotated[str, Path(pattern=r"^wh_[0-9a-f]{32}$", examples=[EXAMPLE_ID])]
_BODIES = ("malformed-body", "too-slow", "body-too-large", "unsupported-media-type")
_ATTEMPT = {
    "delivery": f"{EXAMPLE_ID}_1763790000004-0",
    "notification": "1763790000004-0",
    "attempt": 1,
    "at": "2026-11-22T06:00:00.004Z",
    "outcome": "failed",
    "status": 500,
    "error": "it answered 500",
    "seconds": 0.012,
    "next_attempt": "2026-11-22T06:00:05.004Z",
}


def _allowed(wiring: Wiring) -> object:
    return wiring.api.open_networks


_WANTED = JsonBody(
    WebhookWanted,
    "The webhook.",
    {"orders": {"value": {"url": "https://shop.example/hooks", "types": ["order.*"]}}},
    BODY_BYTES,
    _allowed,
)
_CHANGE = JsonBody(
    WebhookChange, "What changes.", {"off": {"value": {"enabled": False}}}, BODY_BYTES, _allowed
)
_REPLAY = JsonBody(
    ReplayWanted, "Which.", {"since": {"value": {"since": "2026-11-22T06:00:00Z"}}}, BODY_BYTES
)
_ROTATION = JsonBody(RotationWanted, "The overlap.", {"a day": {"value": {"overlap": "24h"}}}, BODY_BYTES)
_STATE = told("The webhook now.", EXAMPLE)


@secret_router.post(
    "/v1/webhooks",
    summary="Have notifications pushed to a URL",
    status_code=201,
    responses=answers(
        *("forbidden", "quota-exceeded", *_BODIES, *READ),
        _201=told("The webhook, with its secret.", {**EXAMPLE, "secret": "whsec_8KZr..."}),
    ),
    openapi_extra=_WANTED.openapi,
)
async def make_webhook(request: Request, key: Caller) -> WebhookMade:
    """It is told what it asks for and your key may be told, from now on. Its secret is shown once."""
    if not key.may_subscribe_to_any:
        raise Problem("forbidden", f"The key {key.name!r} may be told nothing, and so may a webhook of it.")
    wanted = await _WANTED(request)
    wiring, copies = wiring_of(request), _copies(request)
    secret, now_ms = new_secret(), _now_ms()
    webhook_id = PREFIX + names.new_id().replace("-", "")
    webhook = Webhook(
        id=webhook_id,
        owner=key.name,
        secrets=(Secret(wiring.api.seal.close(secret, webhook_id)),),
        created_ms=now_ms,
        **{**wanted.model_dump(), "types": tuple(wanted.types)},
    )
    await _must_not_ask_too_much(copies, webhook)
    if await copies.make(webhook) == "full":
        raise Problem("quota-exceeded", f"There are {MOST:,} webhooks already; delete some.")
    state = await _state(copies, webhook)
    return WebhookMade(**state.model_dump(), secret=secret)


@router.get(
    "/v1/webhooks",
    summary="Your webhooks",
    responses=answers(*READ, _200=told("All.", {"webhooks": [EXAMPLE]})),
)
async def webhooks(request: Request, key: Caller) -> WebhookList:
    """Those of your key; all, for an admin key."""
    copies = _copies(request)
    own = [one for one in await copies.all() if _is_own(key, one)]
    standings = await copies.standings([one.id for one in own])
    now_ms = _now_ms()
    return WebhookList(webhooks=[document(*one, now_ms) for one in zip(own, standings, strict=True)])


@router.get("/v1/webhooks/{webhook_id}", summary="One webhook", responses=answers(*READ, _200=_STATE))
async def webhook(request: Request, key: Caller, webhook_id: Id) -> WebhookState:
    """What it asks for, and how its deliveries stand."""
    copies = _copies(request)
    return await _state(copies, (await _find(copies, key, webhook_id)).webhook)


@router.patch(
    "/v1/webhooks/{webhook_id}",
    summary="Change a webhook",
    responses=answers("forbidden", "webhook-changed", *_BODIES, *READ, _200=_STATE),
    openapi_extra=_CHANGE.openapi,
)
async def change_webhook(request: Request, key: Caller, webhook_id: Id) -> WebhookState:
    """One that is disabled is told nothing meanwhile; enabled again, it goes on where it stopped, as far as that is kept."""
    wanted = await _CHANGE(request)
    given = wanted.model_dump(include=wanted.model_fields_set)
    if "types" in given:
        given["types"] = tuple(given["types"])
    if "enabled" in given:
        given["disabled_why"] = None
    copies = _copies(request)
    changed = await _change(copies, key, webhook_id, lambda found: replace(found, **given))
    return await _state(copies, changed)


@router.delete(
    "/v1/webhooks/{webhook_id}",
    summary="Delete a webhook",
    responses=answers("forbidden", *READ, _200=told("What it was.", EXAMPLE)),
)
async def delete_webhook(request: Request, key: Caller, webhook_id: Id) -> WebhookState:
    """What waits for it is not delivered any more, and its attempts are forgotten."""
    copies = _copies(request)
    found = await _find(copies, key, webhook_id)
    state = await _state(copies, found.webhook)
    await copies.remove(webhook_id)
    return state


@router.get(
    "/v1/webhooks/{webhook_id}/attempts",
    summary="What became of its deliveries",
    responses=answers(*READ, _200=told("A page.", {"attempts": [_ATTEMPT], "next": None})),
)
async def attempts(
    request: Request,
    key: Caller,
    webhook_id: Id,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before.", max_length=LONGEST_CURSOR)
    ] = None,
) -> AttemptList:
    """Newest first; about the last 1,000 are kept."""
    wiring, copies = wiring_of(request), _copies(request)
    await _find(copies, key, webhook_id)
    async with wiring.reading():
        before = await wiring.cursors.open(webhook_id, cursor)
    try:
        page = await copies.attempts(webhook_id, before, limit)
    except ValueError:
        raise wrong_cursor() from None
    async with wiring.reading():
        following = await wiring.cursors.seal(webhook_id, page.next)
    shown = [readable(DeliveryAttempt, one) for one in page.attempts]
    return AttemptList(attempts=[one for one in shown if one is not None], next=following)


@router.post(
    "/v1/webhooks/{webhook_id}/replay",
    summary="Deliver again",
    status_code=202,
    responses=answers(
        *("forbidden", "quota-exceeded", *_BODIES, *READ),
        _202=told("What will be delivered.", {"deliveries": [], "after": "1763790000000-0"}),
    ),
    openapi_extra=_REPLAY.openapi,
)
async def replay_webhook(request: Request, key: Caller, webhook_id: Id) -> WebhookQueued:
    """All since a time, in their order, or some by their ids. Each has the `webhook-id` that it had before."""
    wanted = await _REPLAY(request)
    copies = _copies(request)
    found = await _find(copies, key, webhook_id)
    if wanted.notifications:
        return await _again(request, found.webhook, wanted.notifications)
    newest = await copies.newest()  # what is beyond would be passed over when it comes
    if wanted.since is not None:
        places = [position_since(wanted.since, one) for one in newest]
    else:
        after = whole_position("after", str(wanted.after), len(newest)).split(SEPARATOR)
        each = after if len(after) == len(newest) else after * len(newest)
        places = [min(*pair, key=position_key) for pair in zip(each, newest, strict=True)]
    reads = await copies.seek(webhook_id, places)
    if reads is None:
        raise _unknown(webhook_id)
    return WebhookQueued(deliveries=[], after=reads)


@router.post(
    "/v1/webhooks/{webhook_id}/test",
    summary="Deliver a test",
    status_code=202,
    responses=answers(
        *("forbidden", "quota-exceeded", *READ),
        _202=told("Its delivery.", {"deliveries": [f"{EXAMPLE_ID}_1763790000004-0"], "after": None}),
    ),
)
async def try_webhook(request: Request, key: Caller, webhook_id: Id) -> WebhookQueued:
    """A notification of type `webhook.test`, signed as all are; what came of it is among the attempts."""
    copies = _copies(request)
    found = await _find(copies, key, webhook_id)
    now_ms = _now_ms()
    position = f"{now_ms}-{time.time_ns() % 1_000_000_000}"
    told_of = {
        "id": position,
        "type": "webhook.test",
        "time": rfc3339_ms(now_ms),
        "event": None,
        "task": None,
    }
    body = orjson.dumps({**told_of, "data": {"webhook": webhook_id}})
    return await _queue(copies, found.webhook, {0: {position: body}})


@secret_router.post(
    "/v1/webhooks/{webhook_id}/secret",
    summary="Replace the secret",
    responses=answers(
        *("forbidden", "webhook-changed", "quota-exceeded", *_BODIES, *READ),
        _200=told("The new secret.", {"secret": "whsec_8KZr...", "old_until": "2026-11-23T06:00:00.000Z"}),
    ),
    openapi_extra=_ROTATION.openapi,
)
async def rotate_secret(request: Request, key: Caller, webhook_id: Id) -> WebhookSecret:
    """Deliveries are signed with both until the old one ends, so that a receiver may change over meanwhile."""
    wanted = await _ROTATION(request)
    wiring, secret, now_ms = wiring_of(request), new_secret(), _now_ms()
    kept = wiring.api.seal.close(secret, webhook_id)
    until = now_ms + int(wanted.overlap.total_seconds() * 1000)

    def changed(found: Webhook) -> Webhook:
        secrets = rotated(found.secrets, kept, until - now_ms, now_ms)
        if len(secrets) > MOST_SECRETS:
            detail = f"{webhook_id} has {MOST_SECRETS} secrets that are still valid; say overlap 0s to end them at once."
            raise Problem("quota-exceeded", detail)
        return replace(found, secrets=secrets)

    await _change(_copies(request), key, webhook_id, changed)
    return WebhookSecret(secret=secret, old_until=rfc3339_ms(until) if until > now_ms else None)


async def _again(request: Request, webhook: Webhook, positions: list[str]) -> WebhookQueued:
    """Queue some notifications by their ids. Raises Problem where one is not there, or not for this webhook."""
    wirings = wirings_of(request)
    async with wirings[0].reading():
        owners = [
            one
            for one in await ApiKeys(wirings[0].redis, wirings[0].keys).list()
            if one.name == webhook.owner and not one.has_expired(_now_ms())
        ]
    bodies: dict[int, dict[str, bytes]] = {}
    for number, wiring in enumerate(wirings):
        async with wiring.reading():
            pipeline = wiring.redis.pipeline(transaction=False)
            for position in positions:
                pipeline.xrange(wiring.keys.notifications(), position, position)
            found = await pipeline.execute()
        notes = await readable_notes([entries[0] for entries in found if entries])
        bodies[number] = {
            note.id: body_of(note)
            for note in notes
            if webhook.wants(note) and any(one.may_subscribe(note.event_type) for one in owners)
        }
    known = {position for some in bodies.values() for position in some}
    missing = [one for one in positions if whole_position("notifications", one) not in known]
    if missing:
        detail = f"{missing[0]} is not kept any more, or not for this webhook"
        raise Problem(
            "invalid-request",
            detail,
            [{"pointer": f"/notifications/{positions.index(missing[0])}", "detail": detail}],
        )
    return await _queue(_copies(request), webhook, bodies)


async def _queue(
    copies: WebhookCopies, webhook: Webhook, bodies: dict[int, dict[str, bytes]]
) -> WebhookQueued:
    queued = await copies.queue(webhook, bodies)
    if queued is None:
        raise _unknown(webhook.id)
    if not queued:
        raise Problem("quota-exceeded", "As many deliveries wait for this webhook as may; it takes none now.")
    deliveries = [
        copies.copy(webhook, number).delivery_of(position)
        for number, some in bodies.items()
        for position in some
    ]
    return WebhookQueued(deliveries=deliveries, after=None)


async def _must_not_ask_too_much(copies: WebhookCopies, webhook: Webhook) -> None:
    """Raise Problem (429) for one more with `where` than its owner may have: each costs time for every notification."""
    if webhook.where is not None:
        asking = sum(1 for one in await copies.all() if one.where and one.owner == webhook.owner)
        if asking >= MOST_ASKING:
            raise Problem(
                "quota-exceeded", f"The key {webhook.owner!r} has {asking} webhooks with `where`; delete one."
            )


async def _change(
    copies: WebhookCopies, key: ApiKey, webhook_id: str, changed: Callable[[Webhook], Webhook]
) -> Webhook:
    for _ in range(TRIES):
        found = await _find(copies, key, webhook_id)
        wanted = changed(found.webhook)
        if found.webhook.where is None:
            await _must_not_ask_too_much(copies, wanted)
        if await copies.change(wanted, found.raw) == "stored":
            return wanted
    raise Problem("webhook-changed", f"{webhook_id} is being changed by somebody else.")


async def _find(copies: WebhookCopies, key: ApiKey, webhook_id: str) -> StoredWebhook:
    """One of the key's own. Raises Problem (404) for all others alike."""
    try:
        found = await copies.one(webhook_id)
    except InvalidWebhook:
        found = None
    if found is None or not _is_own(key, found.webhook):
        raise _unknown(webhook_id)
    return found


async def _state(copies: WebhookCopies, webhook: Webhook) -> WebhookState:
    [standing] = await copies.standings([webhook.id])
    return document(webhook, standing, _now_ms())


def _is_own(key: ApiKey, webhook: Webhook) -> bool:
    return key.admin or webhook.owner == key.name


def _copies(request: Request) -> WebhookCopies:
    return WebhookCopies(wirings_of(request))


def _unknown(webhook_id: str) -> Problem:
    return Problem("not-found", f"There is no webhook {webhook_id!r} of yours; GET /v1/webhooks lists them.")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
