"""`/docs` works without the internet: what it loads comes from this API."""

from __future__ import annotations

import re


async def test_the_page_names_no_other_host(api):
    page = await api.get("/docs")

    assert page.status_code == 200
    assert re.findall(r"(?:https?:)?//[a-z]", page.text) == []
    assert '"validatorUrl": null' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_what_the_page_loads_is_served_here(api):
    page = await api.get("/docs")
    loaded = re.findall(r"""(?:src|href)="([^"]+)""", page.text)

    assert len(loaded) == 3
    for path in loaded:
        asset = await api.get(path)
        assert asset.status_code == 200, path
        assert len(asset.content) > 1000
    assert "/openapi.json" in page.text and (await api.get("/openapi.json")).status_code == 200


async def test_nothing_else_is_served_from_there(api):
    for path in (
        "/docs/assets/",
        "/docs/assets/../core.py",
        "/docs/assets/%2e%2e/core.py",
        "/docs/assets/nothing.js",
    ):
        assert (await api.get(path)).status_code == 404, path
