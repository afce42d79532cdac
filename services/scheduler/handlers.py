"""What the scheduler's own worker does when its ticks come: look at the mesh, and tell of it."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import structlog
from streammesh import Service
from streammesh.settings import load_settings
from streammesh.status.whole import WholeMesh, report_of_all
from streammesh.worker.beat import FILE_SETTING
from streammesh.worker.config import SCHEDULER

from services.scheduler.alert_watch import ALERT_RAISED
from services.scheduler.settings import AlertSettings, SchedulerSettings
from services.scheduler.webhook import tell

log = structlog.get_logger(__name__)


@cache
def own_settings() -> SchedulerSettings:
    """The process's settings, from the environment. Raises SystemExit(2) for a wrong one."""
    return load_settings(SchedulerSettings)


@cache
def alert_settings() -> AlertSettings:
    """Who is told of failures. Raises SystemExit(2) for a wrong setting."""
    return load_settings(AlertSettings)


service = Service("scheduler")
celery_app = service.celery_app
celery_app.add_defaults(lambda: {"beat_scheduler": SCHEDULER, FILE_SETTING: str(own_settings().schedules)})


# A check that comes late says nothing new, and the next one is never far.
@service.on("health.check.due", retries=0, timeout=20, expires=30, keep=timedelta(hours=1))
async def check_health() -> dict[str, Any]:
    """Look at Redis, the dispatchers, the workers and the queues; the result is pushed to whoever listens."""
    settings = service.settings
    mesh = WholeMesh(settings, "maintenance")  # opened for one run: these tasks are too rare to keep one
    try:
        found = report_of_all(await mesh.look(), settings)
    finally:
        await mesh.aclose()
    if found["problems"]:
        log.warning("health.degraded", problems=found["problems"])
    return found


# Paused, nobody would be told of anything, not even of that.
@service.on(ALERT_RAISED, retries=5, backoff=2, timeout=30, expires=timedelta(hours=1), breaker=False)
async def send_alert(data: dict[str, Any]) -> dict[str, Any]:
    """Tell the webhook. That it fails is seen in the ledger, and raises no alert of its own."""
    url = alert_settings().webhook_url
    if url is None:
        return {"told": False}
    return {"told": True, "status": await tell(url.get_secret_value(), str(data["text"]))}
