"""`/v1/users`: a welcome e-mail, which is a `user.registered` event."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from streammesh.events.encoded import seal
from streammesh.events.envelope import build

from services.api.addresses import MailAddress, rules_of
from services.api.caller import Caller
from services.api.json_body import JsonBody
from services.api.openapi import WRITTEN, answers, told
from services.api.publish_endpoint import accepted, plain_id
from services.api.schemas import EXAMPLE_ACCEPTED, Accepted
from services.api.state import wiring_of

router = APIRouter(tags=["users"])
USER_REGISTERED = "user.registered"
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


class WelcomeEmail(BaseModel):
    """Who is welcomed. Further members travel with the event."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"email": "ann@example.com", "name": "Ann", "locale": "de"}]},
    )

    email: MailAddress = Field(max_length=320, description="One e-mail address.")
    name: str | None = Field(None, max_length=200, pattern=_PRINTABLE)
    locale: str | None = Field(None, max_length=35, pattern=r"^[A-Za-z0-9-]+$")


_WELCOMED = JsonBody(
    WelcomeEmail,
    "Who is welcomed.",
    {"ann": {"value": {"email": "ann@example.com", "name": "Ann"}}},
    limit=lambda wiring: wiring.mesh.max_event_bytes,
    context=lambda wiring: rules_of(wiring.api),
)


@router.post(
    "/v1/users/{user_id}/welcome-email",
    summary="Send a welcome e-mail",
    status_code=202,
    responses=answers(*WRITTEN, _202=told("Stored; follow `links`.", EXAMPLE_ACCEPTED)),
    openapi_extra=_WELCOMED.openapi,
)
async def welcome_email(
    request: Request,
    key: Caller,
    user_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$", examples=["42"])],
) -> Accepted:
    """Publishes `user.registered` with subject `user/<user_id>`; the e-mail worker sends it."""
    wiring = wiring_of(request)
    wanted = await _WELCOMED(request)
    data: dict[str, Any] = {**wanted.model_dump(exclude_none=True), "user_id": _number_or_text(user_id)}
    event = build(key.name, USER_REGISTERED, data, id=plain_id(request.scope, key), subject=f"user/{user_id}")
    sealed = seal(event)
    published = (await wiring.publishing.publish(key, [sealed], len(sealed.json)))[0]
    return accepted(published)


def _number_or_text(user_id: str) -> int | str:
    plain = user_id.isdigit() and len(user_id) <= 15 and (user_id == "0" or user_id[0] != "0")
    return int(user_id) if plain else user_id
