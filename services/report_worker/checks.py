"""What `streammesh doctor` looks at for the report worker: whether its store takes, gives back and removes an object."""

from __future__ import annotations

import asyncio
import secrets

from obstore.exceptions import BaseError
from streammesh.redisio.inspection import Severity
from streammesh.settings import load_settings
from streammesh.status.findings import Finding

from services.report_worker.object_store import ObjectMissing, open_store
from services.report_worker.settings import ReportSettings

PATIENCE = 20.0  # seconds; a store that is away is tried again by its client meanwhile


async def look(settings: ReportSettings | None = None) -> list[Finding]:
    """Return `store-refuses` where it does not; nothing where `REPORT_STORE_URL` is not set here."""
    settings = settings or load_settings(ReportSettings)
    if "store_url" not in settings.model_fields_set:
        return []
    try:
        async with asyncio.timeout(PATIENCE):
            why = await asyncio.to_thread(_try, settings.store_url)
    except TimeoutError:
        why = "it does not answer"
    if not why:
        return []
    text = f"the store of reports cannot be used: {why}: reports fail"
    do = "see that REPORT_STORE_URL names a folder or bucket that the report worker may write to, and its credentials"
    return [Finding("store-refuses", "report_worker", Severity.ERROR, text, do)]


def _try(url: str) -> str:
    """Write, read and remove an object of a name of its own; answers what went wrong."""
    name, body, step = f"checks/{secrets.token_hex(8)}", b"streammesh doctor", "opened"
    try:
        store = open_store(url)
        step = "written to"
        store.put(name, body, "text/plain")
        step = "read from"
        if store.get(name) != body:
            return "it gives back something else than was written"
        step = "deleted from"
        store.delete([name])
    except (BaseError, OSError, ValueError, ImportError, ObjectMissing) as error:
        return f"it cannot be {step}: {' '.join(str(error).split())[:200]}"
    return ""
