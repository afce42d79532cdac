"""What this service logs itself: every event by its name, and what it means."""

from __future__ import annotations

from collections.abc import Mapping

LOG_EVENTS: Mapping[str, str] = {
    "entry.unreadable": "A stream entry of the period cannot be read and is left out.",
    "report.fetched": "The rows of a report were read and cut into parts.",
    "report.stored": "A report is in the store.",
    "report.swept": "Old objects were removed from the store.",
}
