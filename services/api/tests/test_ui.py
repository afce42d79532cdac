"""`/ui`: the dashboard's files, as a browser is told to take them."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest

from services.api.tests.expectations import assert_problem

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'"


async def page(api):
    answer = await api.get("/ui/")
    assert answer.status_code == 200
    return answer


async def test_the_address_without_a_slash_leads_to_the_page_also_below_a_prefix(api):
    answer = await api.get("/ui")

    assert (answer.status_code, answer.headers["location"]) == (308, "ui/")


async def test_the_page_asks_for_no_key_and_is_asked_for_anew_each_time(api):
    answer = await api.get("/ui/", headers={"authorization": ""})

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    again = await api.get("/ui/", headers={"if-none-match": f'"other", {answer.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == answer.headers["content-security-policy"]


async def test_nothing_but_own_files_may_run_and_nobody_may_frame_the_page(api):
    headers = (await page(api)).headers

    assert headers["content-security-policy"].startswith(POLICY)
    assert (
        "unsafe" not in headers["content-security-policy"]
        and "http" not in headers["content-security-policy"]
    )
    for rule in ("frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"):
        assert rule in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"


async def test_the_page_has_no_inline_script_or_style_and_names_no_other_host(api):
    text = (await page(api)).text

    assert re.findall(r"(?:https?:)?//[a-z]", text) == []
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == [] and "<style" not in text and "style=" not in text
    assert re.findall(r"\son[a-z]+=", text) == []


async def test_files_are_named_by_what_is_in_them_and_kept_for_ever(api):
    loaded = re.findall(r'(?:src|href)="\./([^"]+)"', (await page(api)).text)
    assert len(loaded) == 3

    for name in loaded:
        answer = await api.get(f"/ui/{name}")
        assert answer.status_code == 200 and len(answer.content) > 100, name
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
        assert answer.headers["content-type"].startswith(kind)
        assert "sourceMappingURL" not in answer.text


async def test_large_files_travel_packed_where_the_browser_takes_that(api):
    script = re.findall(r'src="\./([^"]+)"', (await page(api)).text)[0]
    async with api.stream("GET", f"/ui/{script}", headers={"accept-encoding": "br, gzip;q=0.8"}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    plain = await api.get(f"/ui/{script}", headers={"accept-encoding": "gzip;q=0, br"})

    assert answer.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content and len(raw) < 60_000
    assert answer.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    "path",
    [
        "/ui/nothing.js",
        "/ui/manifest.json",
        "/ui/../app.py",
        "/ui/%2e%2e/app.py",
        "/ui/assets/",
        "/ui/assets/%2e%2e/%2e%2e/src/main.tsx",
        "/ui/index.html/",
        "/ui/" + "x" * 5_000,
    ],
)
async def test_nothing_else_is_served_from_there(api, path):
    assert_problem(await api.get(path), 404, "not-found")


async def test_only_reading_is_allowed(api):
    assert_problem(await api.post("/ui/", json={}), 405, "method-not-allowed")
    head = await api.head("/ui/")
    assert (head.status_code, head.content) == (200, b"")


async def test_a_key_is_told_what_it_may_do(api, make_key):
    keys: dict[str, dict[str, Any]] = {
        "viewer": {"subscribe": ["*"]},
        "limited": {"publish": ["order.*"], "subscribe": ["order.*"], "rate": 5},
    }
    for role, scopes in keys.items():
        secret = await make_key(f"a-{role}", **scopes)
        found = (await api.get("/v1/key", headers={"authorization": f"Bearer {secret}"})).json()
        assert (found["role"], found["name"], found["admin"]) == (role, f"a-{role}", False)
        assert found["publish"] == scopes.get("publish", []) and found["rate"] == scopes.get("rate")
        assert secret not in str(found)
    assert (await api.get("/v1/key")).json()["role"] == "operator"
    assert_problem(await api.get("/v1/key", headers={"authorization": "Bearer x"}), 401, "unauthenticated")
