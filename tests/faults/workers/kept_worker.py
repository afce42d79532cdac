"""`python -m tests.faults.workers.kept_worker`: a service of the name and the filter that its environment says.

It notes each run of its handler, so that who was given what, and how often, is counted outside the mesh.
"""

from __future__ import annotations

import os
from typing import Any

from streammesh import Context, Service

from tests.faults.records import record

NAME, ONLY = "FAULTS_SERVICE", "FAULTS_ONLY"  # the service, and a member of data that has to be true
service = Service(os.environ[NAME])
WHERE = {f"data.{os.environ[ONLY]}": True} if os.environ.get(ONLY) else None


@service.on("kept.noted", where=WHERE, backoff=0.1)
async def note(data: dict[str, Any], ctx: Context) -> int:
    """The quickest."""
    record("began", service.name, ctx)
    record("through", service.name, ctx)
    return int(data["n"])


if __name__ == "__main__":
    service.run()
