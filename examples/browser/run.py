"""Serves the shop on 127.0.0.1:8100; `STREAMMESH_URL` and `STREAMMESH_KEY` say which mesh it is a client of."""

from __future__ import annotations

import os

from aiohttp import web

from examples.browser.server import make_app


def main() -> None:
    """The process."""
    app = make_app(os.environ["STREAMMESH_URL"], os.environ["STREAMMESH_KEY"])
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("SHOP_PORT", "8100")))


if __name__ == "__main__":
    main()
