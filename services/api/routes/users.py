"""`/v1/users`: a welcome e-mail, which is a `user.registered` event."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response
from streammesh.events.encoded import seal
from streammesh.events.envelope import build

from services.api import problems, request_body
from services.api.addresses import MailAddress, rules_of
from services.api.caller import Caller
from services.api.openapi import WRITTEN, answers, body, json_answer, schema_of
from services.api.publish_endpoint import accepted, plain_id
from services.api.routes.answer import as_json
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


@router.post(
    "/v1/users/{user_id}/welcome-email",
    summary="Send a welcome e-mail",
    status_code=202,
    response_class=Response,
    responses=answers(*WRITTEN, _202=json_answer(Accepted, "Stored; follow `links`.", EXAMPLE_ACCEPTED)),
    openapi_extra=body(
        "Who is welcomed.",
        {
            "application/json": {
                "schema": schema_of(WelcomeEmail),
                "examples": {"ann": {"value": {"email": "ann@example.com", "name": "Ann"}}},
            }
        },
    ),
)
async def welcome_email(
    request: Request,
    key: Caller,
    user_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$", examples=["42"])],
) -> Response:
    """Publishes `user.registered` with subject `user/<user_id>`; the e-mail worker sends it."""
    wiring = wiring_of(request)
    raw = await request_body.read_json(request.scope, request.receive, wiring.mesh.max_event_bytes)
    try:
        wanted = WelcomeEmail.model_validate(raw, context=rules_of(wiring.api))
    except ValidationError as error:
        raise problems.of_validation(error) from None
    data: dict[str, Any] = {**wanted.model_dump(exclude_none=True), "user_id": _number_or_text(user_id)}
    event = build(key.name, USER_REGISTERED, data, id=plain_id(request.scope, key), subject=f"user/{user_id}")
    sealed = seal(event)
    published = (await wiring.publishing.publish(key, [sealed], len(sealed.json)))[0]
    return as_json(accepted(published), 202)


def _number_or_text(user_id: str) -> int | str:
    plain = user_id.isdigit() and len(user_id) <= 15 and (user_id == "0" or user_id[0] != "0")
    return int(user_id) if plain else user_id
