"""`streammesh doctor`: what is wrong with a mesh, also with one that does not come up."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import typer

from streammesh.cli.api_call import Json, print_json
from streammesh.cli.service_checks import look_at_services
from streammesh.cli.status import DEGRADED, FAILING, finding_text
from streammesh.cli.terminal import console

if TYPE_CHECKING:
    from streammesh.status.findings import Finding


def doctor(json: Json = False) -> None:
    """Look at the mesh from beside it, over Redis, and at what the services of this folder need; say what to mend.

    Exit codes as `status`.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )  # findings say it
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
    from streammesh.settings import MeshSettings, load_settings
    from streammesh.status.diagnosis import diagnose
    from streammesh.status.whole import WholeMesh, findings_of

    settings = load_settings(MeshSettings)
    mesh = WholeMesh(settings, "doctor")
    try:
        beside = asyncio.create_task(look_at_services(Path.cwd()))
        each = await asyncio.gather(*map(diagnose, mesh.clients, mesh.shards))
    finally:
        await mesh.aclose()
    found = (
        each[0]
        if len(each) == 1
        else [one for number, said in enumerate(each) for one in findings_of(number, said)]
    )
    found += await beside
    return sorted(found, key=lambda one: one.severity != "error")
