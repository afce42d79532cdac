"""`/approvals?token=`: the page at which somebody without a key answers a question of a handler."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse
from streammesh import lua
from streammesh.clock import rfc3339_ms, to_ms
from streammesh.durable.calls import DurableCalls, SignalAnswer, signal_step
from streammesh.durable.records import OpenWait, waits_of
from streammesh.tasks.records import TaskRow

from services.api import request_body
from services.api.approvals import ApprovalLink, is_question
from services.api.problems import Problem
from services.api.state import Wiring, wirings_of

router = APIRouter(include_in_schema=False)
BODY_BYTES = 8_192
FORM = "application/x-www-form-urlencoded"
ANSWERS = {"approve": b"true", "decline": b"false"}
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:10vh auto;padding:0 1rem;color:#1a1a1a;background:#fff}"
    "h1{font-size:1.4rem;overflow-wrap:anywhere;white-space:pre-wrap}dt{color:#555}dd{margin:0 0 .5rem;overflow-wrap:anywhere}"
    "button{font:inherit;padding:.6rem 1.4rem;margin:1rem 1rem 0 0;border:1px solid #1a1a1a;border-radius:.3rem;background:#fff;"
    "color:#1a1a1a;cursor:pointer}button[value=approve]{background:#14532d;color:#fff}"
)
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
log = structlog.get_logger(__name__)


@router.get("/approvals")
async def ask(request: Request) -> HTMLResponse:
    """The question, with its two buttons. Looking at it changes nothing, so that what follows links in mails may."""
    token = request.query_params.get("token", "")
    found = await _question(wirings_of(request), token)
    if found is None:
        return _over()
    _, _, row, wait = found
    about = {"For": wait.about.get("to"), "Task": f"{row.name} {row.id}", "Event": row.event.get("id")}
    about["Open until"] = rfc3339_ms(wait.until_ms)
    facts = "".join(f"<dt>{name}</dt><dd>{escape(str(said))}</dd>" for name, said in about.items() if said)
    return _page(
        200,
        str(wait.about["question"]),
        f'<dl>{facts}</dl><form method="post"><input type="hidden" name="token" value="{escape(token)}">'
        '<button name="answer" value="approve">Approve</button><button name="answer" value="decline">Decline</button></form>',
    )


@router.post("/approvals")
async def answer(request: Request) -> HTMLResponse:
    """Take the answer. Raises Problem for a body that is no form of this page."""
    headers = request_body.headers_of(request.scope)
    request_body.refuse_encoding(headers)
    if request_body.media_type(headers) != FORM:
        raise Problem("unsupported-media-type", f"Send the form of the page: {FORM}.")
    body = await request_body.read(request.receive, headers, BODY_BYTES, "an answer")
    try:
        form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=8)
    except ValueError:  # more fields than any form of ours has
        form = {}
    said = form.get("answer", [])
    if len(said) != 1 or said[0] not in ANSWERS or len(form.get("token", [])) != 1:
        return _page(400, "Nothing was answered", "<p>Open the link again, and press one of its buttons.</p>")
    found = await _question(wirings_of(request), form["token"][0])
    if found is None:
        return _over()
    wiring, link, row, _ = found
    async with wiring.reading():
        calls = DurableCalls(wiring.keys, wiring.mesh)
        became = await lua.run(wiring.redis, calls.signal(row, link.signal, ANSWERS[said[0]]))
    if became is not SignalAnswer.DONE:
        return _over()
    log.info("approval.answered", task_id=row.id, signal=link.signal, answer=said[0])
    done = "approved" if said[0] == "approve" else "declined"
    return _page(200, f"You have {done} it", "<p>Thank you. This page may be closed.</p>")


async def _question(
    wirings: Sequence[Wiring], token: str
) -> tuple[Wiring, ApprovalLink, TaskRow, OpenWait] | None:
    """What a token is about, as long as it is open, and the shard that knows it."""
    for wiring in wirings:
        async with wiring.reading():
            link = await wiring.approvals.open(token, to_ms(datetime.now(UTC)))
            row = await wiring.rows.task(link.task) if link else None
        if link is None:
            return None
        if row is None:
            continue
        name = signal_step(link.signal)
        wait = waits_of(row.durable).get(name)
        if row.ended or wait is None or not is_question(wait) or f"step:{name}".encode() in row.durable:
            return None
        return wiring, link, row, wait
    return None


def _over() -> HTMLResponse:
    said = "<p>It was answered already, its time is over, or this link is not whole.</p>"
    return _page(410, "There is nothing to answer here", said)


def _page(status: int, title: str, more: str) -> HTMLResponse:
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>streammesh</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{more}</body></html>"
    )
    return HTMLResponse(page, status, headers=_HEADERS)
