"""What the hand-off notes of tasks that events may cancel, and of events that cancel. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from streammesh import plain_json
from streammesh.events.envelope import Event
from streammesh.keys import Keys
from streammesh.lua.cancels import CancelMark
from streammesh.settings import MeshSettings
from streammesh.shards import outboxes
from streammesh.subscriptions.cancel_paths import value_digest
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.task import Failure


class CancelWork(NamedTuple):
    """Which tasks are to be cancelled: of the subscription `task`, those whose value has this digest."""

    task: str
    digest: str

    @property
    def member(self) -> str:
        """As it stands among what is to be done."""
        return f"{self.task}\t{self.digest}"

    @classmethod
    def parse(cls, member: bytes) -> CancelWork | None:
        """From there; None for what nobody of the mesh put there."""
        try:
            found = re.fullmatch(r"([^\t]{1,256})\t([0-9a-f]{32})", member.decode())
        except UnicodeDecodeError:
            return None
        return cls(found[1], found[2]) if found else None


def cancel_marks(
    keys: Keys,
    settings: MeshSettings,
    subscription: Subscription,
    task_id: str,
    event: Event,
    position: str,
) -> list[CancelMark]:
    """What the hand-off notes of a delivery that may be cancelled by an event, or is of one that cancels."""
    ms, _, number = position.partition("-")
    published = f"{int(ms) * 1000 + min(int(number or 0), 999):016d}"

    def mark(main: str, digest: str, by: bytes) -> CancelMark:
        return CancelMark(
            task=keys.task(task_id),
            cancellable=keys.cancellable(main),
            canceller=keys.canceller(main, digest),
            cancelling=keys.cancelling(),
            is_canceller=bool(by),
            id=task_id,
            digest=digest,
            published=published,
            by=by,
            work=CancelWork(main, digest).member,
            changed=keys.manifests_changed(),
            outboxes=outboxes(keys, settings) if by else (),
        )

    found = []
    if subscription.cancels:
        main, path = subscription.cancels
        if digest := value_digest(subscription.type, event, path):
            found.append(mark(main, digest, plain_json.dumps({"error": _failure(event).to_dict()})))
    for event_type, (_, own) in subscription.cancel_on.items():
        if digest := value_digest(event_type, event, own):
            found.append(mark(subscription.task, digest, b""))
    return found


def _failure(event: Event) -> Failure:
    by = {"id": event.id, "source": event.source, "type": event.type}
    return Failure(f"{event.type} {event.id} cancelled it", "Cancelled", by=by)
