"""What tests expect of every refusal."""

from __future__ import annotations

from typing import Any

import httpx


def assert_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """It is a problem document of this kind; answers the document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = answer.json()
    assert (answer.status_code, document["status"], document["type"]) == (
        status,
        status,
        f"/problems/{kind}",
    ), document
    assert document["title"] and document["detail"] and document["instance"].startswith("/")
    assert answer.headers["x-request-id"] == document["request_id"]
    return document
