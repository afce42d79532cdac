"""The same kills, with dispatchers that are broken on purpose: the checker must find what they do."""

from __future__ import annotations

from tests.faults import recovery
from tests.faults.report import Row
from tests.faults.scenarios.dispatcher_kills import under_kills
from tests.faults.stage import Stage

UNGATED = "control, hand-off without its gate: must double"
SLOW = {"DISPATCHER_BATCH": "20"}  # and nobody else takes what a dispatcher holds within five seconds
HASTY = "control, acknowledged before hand-off: must lose"


async def ungated(stage: Stage) -> Row:
    """Without the gate, what two dispatchers hold is handed over twice."""
    kills, events, seconds = stage.pick(short=(5, 150, 3), quick=(10, 200, 4), normal=(40, 600, 12))
    played, done = await under_kills(
        stage, "tests.faults.controls.ungated", kills, events, seconds, patience=15
    )
    row = played.row(UNGATED, done, recovery.slowest_hand_off(played.facts))
    doubled = [text for text in played.findings.doubled if "handed over" in text]
    row.passed = len(doubled) > 0
    row.remarks = [f"doubles found = {row.doubled:,}, {len(doubled):,} of them hand-offs"]
    return row


async def hasty(stage: Stage) -> Row:
    """Acknowledged first, what a killed dispatcher held is gone."""
    kills, events, seconds = stage.pick(quick=(30, 300, 6), normal=(60, 900, 15))
    played, done = await under_kills(
        stage, "tests.faults.controls.hasty", kills, events, seconds, patience=10, env=SLOW
    )
    row = played.row(HASTY, done, recovery.slowest_hand_off(played.facts))
    lost = [text for text in played.findings.lost if "handed over" in text]
    row.passed = len(lost) > 0
    row.remarks = [f"losses found = {row.lost:,}, {len(lost):,} of them hand-offs"]
    return row
