"""Celery Beat whose ticks are events: `celery beat --scheduler streammesh.worker.beat:MeshScheduler`.

Any number of Beats may run: there is no lock, no leader and no local state.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, signals
from celery.beat import Scheduler, Service

from streammesh.health import Pulse
from streammesh.keys import Keys
from streammesh.redisio.client import open_sync
from streammesh.redisio.heartbeat import process_name
from streammesh.schedules.file_watch import FileWatch
from streammesh.schedules.store import BEAT
from streammesh.schedules.ticker import Ticker
from streammesh.settings import mesh_settings
from streammesh.worker.app import MeshCelery
from streammesh.worker.config import SCHEDULER

log = structlog.get_logger(__name__)

SILENT_SECONDS = 30.0  # it wakes every five seconds at least
FILE_SETTING = "mesh_schedules_file"  # in the app's configuration: the TOML file that is followed


class MeshScheduler(Scheduler):
    """Celery's scheduler over the mesh's schedules: one round trip each time it wakes with nothing due."""

    max_interval = 5  # seconds; how late a changed schedule or file may be noticed

    def setup_schedule(self) -> None:
        """Open the client; nothing is connected yet, so Redis may still be away."""
        settings = mesh_settings()
        path = self.app.conf.get(FILE_SETTING)
        if self.app.conf.beat_schedule:
            log.warning("beat.entries_ignored", reason="beat_schedule is not used; write schedules instead")
        self._client = open_sync(settings, BEAT)
        self._ticker = Ticker(
            self._client,
            Keys(settings.namespace),
            settings,
            process_name(BEAT),
            FileWatch(Path(path)) if path else None,
        )

    def tick(self, *_: Any, **__: Any) -> float:
        """Fire what is due; answers after how many seconds to be called again."""
        wait = self._ticker.tick(self.max_interval)
        ticking: Pulse | None = getattr(self.app, "ticking", None)  # no app of ours has none
        if ticking is not None:
            ticking.rest("Redis does not answer") if self._ticker.away else ticking.beat()
        return wait

    def close(self) -> None:
        """Close the client. May be called twice."""
        super().close()
        self._client.close()

    @property
    def info(self) -> str:
        """A line of Beat's banner."""
        return f"    . schedules -> {self.app.conf.get(FILE_SETTING) or 'in Redis'}"


@signals.beat_init.connect
def _watch_over_beat(sender: Any = None, **_: Any) -> None:
    """Have `/livez` and `/readyz` of a service's process look at its Beat, however that was started."""
    app = getattr(sender, "app", None)
    if not isinstance(app, MeshCelery) or app.plumbing is None:
        return
    health, stuck = app.plumbing.health, app.plumbing.settings.stuck_after.total_seconds()
    health.lives_while("beat", lambda: app.ticking.silent_for(stuck))
    health.works_while("beat", lambda: app.ticking.waits(SILENT_SECONDS))
    app.plumbing.serve_health()


def run_beat(app: Celery) -> None:
    """Run nothing but Beat until SIGTERM or SIGINT."""
    app.Beat(scheduler=SCHEDULER, quiet=True).run()


class BeatThread(threading.Thread):
    """Beat in a thread beside a worker, for a process that is both. Should it ever end by itself, so does the process."""

    def __init__(self, app: Celery) -> None:
        super().__init__(name="beat", daemon=True)
        # It sleeps without listening, so short sleeps are what makes it stop soon.
        self._service = Service(app, max_interval=1, scheduler_cls=SCHEDULER, remote_control=False)
        self._stopping = False

    def run(self) -> None:
        """The thread."""
        try:
            self._service.start()
        except Exception:
            log.exception("beat.broke")
        if not self._stopping:  # a worker without its Beat would look alive and schedule nothing
            log.critical("beat.ended")
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        """End it and wait until it has ended."""
        self._stopping = True
        self._service.stop()
        self.join(5)
