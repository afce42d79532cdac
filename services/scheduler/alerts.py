"""What an alert says about dead letters and paused subscriptions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streammesh.dead_letters import DeadLetter
from streammesh.tasks.pause import Pause

GROUPS = 5  # told one by one; the others are counted
REASON = 200  # characters of a reason
OURS = "scheduler.send_alert"  # a failing alert is nothing to raise an alert about


@dataclass(frozen=True, slots=True)
class Found:
    """What happened in `seconds`: how many dead letters there are, some of them, and new pauses."""

    seconds: float
    dead_letters: int
    letters: Sequence[DeadLetter]
    paused: Sequence[Pause]

    @property
    def worth_telling(self) -> bool:
        """Whether there is anything."""
        return self.dead_letters > 0 or bool(self.paused)


def document(found: Found) -> dict[str, Any]:
    """The data of an alert: `text` as chat programs show it, and the same in numbers."""
    groups = _groups(found.letters)
    return {
        "text": _text(found, groups),
        "dead_letters": found.dead_letters,
        "groups": [
            {"task": task, "kind": kind, "count": count, "reason": reason}
            for task, kind, count, reason in groups[:GROUPS]
        ],
        "paused": [
            {"subscription": pause.task, "failures": pause.failures, "reason": pause.reason}
            for pause in found.paused
        ],
    }


def _groups(letters: Sequence[DeadLetter]) -> list[tuple[str, str, int, str]]:
    """(task or service, kind of error, how many, newest reason), the most first."""
    counted = Counter((letter.task or letter.service, letter.kind) for letter in letters)
    newest = {(letter.task or letter.service, letter.kind): letter.reason for letter in letters}
    return [(task, kind, count, newest[task, kind][:REASON]) for (task, kind), count in counted.most_common()]


def _text(found: Found, groups: list[tuple[str, str, int, str]]) -> str:
    lines = []
    for pause in found.paused:
        why = f"after {pause.failures} failures in a row" if pause.failures else "by hand"
        lines.append(f"{pause.task} is paused {why}: {plain(pause.reason[:REASON])}")
        lines.append(f"    streammesh subscriptions resume {pause.task}")
    if found.dead_letters:
        count = found.dead_letters
        lines.append(f"{count} dead letter{'s' if count != 1 else ''} in {_span(found.seconds)}")
        lines += [
            f"    {count} x {task}: {kind}: {plain(reason)}" for task, kind, count, reason in groups[:GROUPS]
        ]
        left = found.dead_letters - sum(count for _, _, count, _ in groups[:GROUPS])
        if left > 0:
            lines.append(f"    and {left} others")
        lines.append("    streammesh dead list")
    return "\n".join(lines)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def plain(text: str) -> str:
    """Text that chat programs do not take for links or mentions (Slack: escape &, < and >)."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
