"""What this service logs itself: every event by its name, and what it means."""

from __future__ import annotations

from collections.abc import Mapping

LOG_EVENTS: Mapping[str, str] = {
    "archiver.group_lost": "The archiver's consumer group is gone; it is made anew, and what is kept is archived again.",
    "archiver.ready": "The archiver writes into the history.",
    "archiver.stopped": "The archiver has ended.",
    "history.away": "The history does not answer; what is to be archived waits in Redis.",
    "history.cleared": "Days beyond the retention were removed from the history.",
}
