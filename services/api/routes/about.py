"""`/`, `/problems/{name}`: where to look, and what the `type` of a problem means."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import RedirectResponse, Response

from services.api.openapi import ALWAYS, answers, told
from services.api.problems import CATALOGUE, Problem
from services.api.schemas import Answer

router = APIRouter(tags=["about"])


class ProblemKind(Answer):
    """One entry of the catalogue of problems."""

    type: str
    title: str
    status: int
    advice: str = Field(description="What to do.")


@router.get("/", include_in_schema=False)
async def root() -> Response:
    """The documentation is the front page."""
    return RedirectResponse("/docs")


@router.get(
    "/problems/{name}",
    summary="What a problem means",
    responses=answers(
        "not-found",
        "invalid-request",
        *ALWAYS,
        _200=told(
            "The kind of problem.",
            {
                "type": "/problems/event-conflict",
                "title": "Another event has this identity",
                "status": 409,
                "advice": "Publish new facts under a new id.",
            },
        ),
    ),
)
async def problem(name: Annotated[str, Path(examples=["event-conflict"])]) -> ProblemKind:
    """The `type` of a problem document leads here."""
    kind = CATALOGUE.get(name)
    if kind is None:
        raise Problem("not-found", f"There is no kind of problem {name[:64]!r}.")
    return ProblemKind(
        type=f"/problems/{kind.name}", title=kind.title, status=kind.status, advice=kind.advice
    )
