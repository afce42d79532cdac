"""`python -m services.scheduler` runs Beat and the worker in one process, which ends as one.

With `--beat-only` or `--worker-only` it runs one of them, to scale or place them apart. Any number of
either may run.
"""

from __future__ import annotations

import argparse
import sys

from streammesh import logs
from streammesh.errors import InvalidSchedule
from streammesh.redisio.inspector import start_inspecting
from streammesh.redisio.mesh_format import meet_sync
from streammesh.schedules import parse_file
from streammesh.settings import MeshSettings, serve_first_shard
from streammesh.telemetry import spans
from streammesh.worker.beat import BeatThread, run_beat

from services.scheduler import status_watch
from services.scheduler.alert_watch import watch_in_a_thread
from services.scheduler.handlers import alert_settings, celery_app, own_settings, service


def check_file(settings: MeshSettings) -> None:
    """Raises SystemExit(2), after one line on standard error, when the file of schedules cannot be used."""
    path = own_settings().schedules
    try:
        parse_file(path.read_text("utf-8"), settings.timezone)
    except (OSError, UnicodeDecodeError, InvalidSchedule) as error:
        sys.stderr.write(f"SCHEDULER_SCHEDULES_FILE: {path}: {error}\n")
        raise SystemExit(2) from None


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m services.scheduler", description=__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--beat-only", action="store_true", help="fire schedules, run no tasks")
    only.add_argument("--worker-only", action="store_true", help="run maintenance tasks, fire no schedules")
    chosen = parser.parse_args()
    serve_first_shard()  # where the schedules are
    settings = service.settings
    logs.configure(settings, service.name)
    spans.begin(settings.traces_url, settings.traces_share, service.name)
    start_inspecting(settings)
    if celery_app.plumbing is not None:
        celery_app.plumbing.serve_health()
    meet_sync(settings, service.health)
    alerts = alert_settings()
    if alerts.webhook_url and not chosen.beat_only:
        watch_in_a_thread(settings, alerts.every)
    status_watch.watch_in_a_thread(
        settings, alerts.webhook_url.get_secret_value() if alerts.webhook_url else None
    )
    if chosen.worker_only:
        service.run()
    check_file(settings)
    if chosen.beat_only:
        run_beat(celery_app)
        return
    beat = BeatThread(celery_app)
    beat.start()
    try:
        service.run()
    finally:
        beat.stop()


if __name__ == "__main__":
    main()
