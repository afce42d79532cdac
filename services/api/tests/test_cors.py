"""Pages of the origins that are named may call the API; others' may not read an answer."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.api.settings import ApiSettings

SHOP = "https://shop.example"


@pytest.fixture
def api_settings() -> ApiSettings:
    return ApiSettings(_env_file=None, port=0, cors_origins=[SHOP])


async def test_a_page_may_publish_and_see_the_request_id(api):
    asked = await api.options(
        "/v1/events",
        headers={
            "origin": SHOP,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,idempotency-key",
        },
    )
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, SHOP)
    sent = await api.post("/v1/events", json={"type": "order.placed"}, headers={"origin": SHOP})
    assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (202, SHOP)
    assert "x-request-id" in sent.headers["access-control-expose-headers"]


async def test_errors_can_be_read_by_the_page_too(api):
    refused = await api.post("/v1/events", json={"type": 5}, headers={"origin": SHOP})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (422, SHOP)


@pytest.mark.parametrize("origin", ["https://other.example", "http://shop.example", "null"])
async def test_other_pages_may_not(api, origin):
    asked = await api.options(
        "/v1/events", headers={"origin": origin, "access-control-request-method": "POST"}
    )
    sent = await api.get("/v1/events", headers={"origin": origin})
    assert asked.status_code == 400
    assert "access-control-allow-origin" not in sent.headers


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/path", "ftp://x", "", "https://a b"]
)
def test_what_is_no_origin_is_refused_at_start(origin):
    with pytest.raises(ValidationError, match="no origin"):
        ApiSettings(_env_file=None, cors_origins=[origin])
