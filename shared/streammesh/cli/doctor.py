"""`streammesh doctor`: what is wrong with a mesh, also with one that does not come up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from streammesh.cli.api_call import Json, print_json
from streammesh.cli.status import DEGRADED, FAILING, finding_text
from streammesh.cli.terminal import console

if TYPE_CHECKING:
    from streammesh.status.findings import Finding


def doctor(json: Json = False) -> None:
    """Look at the mesh from beside it, over Redis alone, and say what to mend. Exit codes as `status`."""
    found = asyncio.run(_look())
    if json:
        print_json({"findings": [one.document() for one in found]})
    elif not found:
        console().print("nothing is wrong", style="bold green")
    else:
        for one in found:
            console().print(finding_text(one.document()))
    if found:
        raise typer.Exit(FAILING if any(one.severity == "error" for one in found) else DEGRADED)


async def _look() -> list[Finding]:
    from streammesh.redisio.client import open_async
    from streammesh.settings import MeshSettings, load_settings
    from streammesh.status.diagnosis import diagnose

    settings = load_settings(MeshSettings)
    client = open_async(settings, "doctor")
    try:
        return await diagnose(client, settings)
    finally:
        await client.aclose()
