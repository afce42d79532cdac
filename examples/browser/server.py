"""A shop's server: it has the key, publishes, and gives the page a token for the one event."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from aiohttp import web

PAGE = Path(__file__).with_name("page.html")


def make_app(mesh_url: str, key: str) -> web.Application:
    """Return the application; `mesh_url` is the address of the mesh's API, which the page asks too."""
    headers = {"authorization": f"Bearer {key}"}

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE.read_text().replace("MESH_URL", mesh_url), content_type="text/html")

    async def order(_: web.Request) -> web.Response:
        async with aiohttp.ClientSession(mesh_url, headers=headers) as mesh:
            async with mesh.post(
                "/v1/events", json={"type": "order.placed", "data": {"order_id": 1}}
            ) as answer:
                answer.raise_for_status()
                event = (await answer.json())["id"]
            async with mesh.post("/v1/tokens", json={"event": event, "lifetime": "10m"}) as answer:
                answer.raise_for_status()
                token = (await answer.json())["token"]
        return web.json_response({"event": event, "token": token})

    app = web.Application()
    app.add_routes([web.get("/", page), web.post("/orders", order)])
    return app
