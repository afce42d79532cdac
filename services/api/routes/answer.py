"""Answers as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from streammesh import plain_json
from streammesh.redisio.turns import Turns


def as_json(value: object, status: int = 200) -> Response:
    """A JSON answer that no cache keeps: it tells how things are now."""
    return _answer(plain_json.dumps_plain(value, finite=True), status)


async def as_json_in_turns(value: Mapping[str, Any], status: int = 200) -> Response:
    """The same of an object some of whose members are long lists: others get their turn while it is written."""
    turns, members = Turns(), []
    for name, member in value.items():
        text = plain_json.dumps_plain(name) + b":"
        if isinstance(member, list):
            items = []
            for item in member:
                items.append(plain_json.dumps_plain(item, finite=True))
                await turns.give()
            text += b"[%b]" % b",".join(items)
        else:
            text += plain_json.dumps_plain(member, finite=True)
            await turns.give()
        members.append(text)
    return _answer(b"{%b}" % b",".join(members), status)


def _answer(text: bytes, status: int) -> Response:
    return Response(text, status, headers={"cache-control": "no-store"}, media_type="application/json")
