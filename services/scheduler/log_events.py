"""What this service logs itself: every event by its name, and what it means."""

from __future__ import annotations

from collections.abc import Mapping

LOG_EVENTS: Mapping[str, str] = {
    "alert.not_told": "The webhook could not be told of an alert.",
    "alert.raised": "An alert about dead letters or paused subscriptions was published.",
    "health.degraded": "The look at the mesh found something wrong.",
    "mesh.finding": "Something is wrong with the mesh; `do` says what helps.",
    "mesh.finding_over": "What was wrong is right again.",
    "mesh.not_looked_at": "The look at the mesh failed; the next one tries again.",
}
