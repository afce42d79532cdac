"""What is wrong with a mesh, in sentences that say what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from streammesh.clock import rfc3339_ms
from streammesh.redisio.inspection import Severity
from streammesh.settings import MeshSettings
from streammesh.status.snapshot import ServiceState, Snapshot

UNBROUGHT_MS = 30_000  # a shard that takes what belongs to it does so within a second
STALLED_MS = (
    30_000  # an event that waits so long, while its queue has room, waits for a lane that stands still
)
UNARCHIVED_MS = 600_000  # the archiver is minutes behind only when it does not come along
ROLLED_MS = 3_600_000  # a new version that is rolled out has taken the place of the old one in an hour
RETIRED_MS = 86_400_000  # without a worker for a day, a service is perhaps one that was taken away


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `code` for programs, `about` which part or service, `text` for people.

    An error stops work that was accepted; a warning will, or has lost a safety.
    """

    code: str
    about: str
    severity: Severity
    text: str
    do: str = ""

    @property
    def key(self) -> str:
        """What stays the same while the same thing is wrong."""
        return f"{self.code} {self.about}"

    def document(self) -> dict[str, str]:
        """As the API and the command line tell it."""
        return {**asdict(self), "severity": str(self.severity)}


def findings(found: Snapshot, settings: MeshSettings) -> list[Finding]:
    """All that a person should look at, errors first; empty when all is well."""
    said = [*_server(found)]
    said += _roles(found)
    said += _archive(found, settings)
    for state in found.services:
        said += _service(state, found, settings)
    said += _paused(found)
    said += _refusals(found)
    said += _editions(found)
    said += _webhooks(found)
    said += _outboxes(found)
    return sorted(said, key=_errors_first)


def _errors_first(one: Finding) -> bool:
    return one.severity is not Severity.ERROR


def standing(said: list[Finding]) -> str:
    """`ok`, `degraded` (warnings only) or `failing`."""
    if any(one.severity is Severity.ERROR for one in said):
        return "failing"
    return "degraded" if said else "ok"


def _server(found: Snapshot) -> Iterator[Finding]:
    """What is wrong with Redis itself, as `redisio/inspection.py` says it to every process."""
    for one in found.server:
        if one.severity is Severity.NOTE:
            continue
        how = Severity.WARNING if one.severity is Severity.WARNING else Severity.ERROR
        yield Finding(one.code, "redis", how, one.text, one.do)


def _roles(found: Snapshot) -> Iterator[Finding]:
    if not found.dispatchers:
        text = "no dispatcher is alive: events wait in their streams"
        yield Finding("no-dispatcher", "dispatcher", Severity.ERROR, text, "start a dispatcher")
    if not found.beats:
        text = "no Beat is alive: nothing is scheduled"
        yield Finding("no-beat", "scheduler", Severity.WARNING, text, "start a scheduler")


def _archive(found: Snapshot, settings: MeshSettings) -> Iterator[Finding]:
    waits = found.unarchived
    since = _since(waits.oldest_ms, found.now_ms)
    kept = f"{waits.lag}{'' if waits.exact else ' or more'} events wait for the history{since}, and stay in Redis until then"
    if settings.has_history and not found.archivers:
        text = f"no archiver is alive: {kept}"
        yield Finding("no-archiver", "archiver", Severity.WARNING, text, "start an archiver")
    elif waits.oldest_ms and found.now_ms - waits.oldest_ms > UNARCHIVED_MS:
        text = f"the archiver is behind: {kept}"
        do = "look at the archiver's log; start another, or see to the history's database"
        yield Finding("archiver-behind", "archiver", Severity.WARNING, text, do)


def _service(state: ServiceState, found: Snapshot, settings: MeshSettings) -> Iterator[Finding]:
    name = state.service
    remove = f"start its workers, or take it away: streammesh services remove {name}"
    if not state.registered:
        text = f"{name}: it left the mesh, and {_lag(state)} events of it are left, which are never trimmed"
        yield Finding("left-behind", name, Severity.WARNING, text, f"streammesh services remove {name}")
        return
    if not state.workers:
        since = _since(state.last_seen_ms, found.now_ms)
        text = f"{name}: no worker is alive{since}; {state.queued} tasks wait"
        if state.last_seen_ms and found.now_ms - state.last_seen_ms > RETIRED_MS:
            text += f", and {_lag(state)} events that are not trimmed while it may still want them"
        waits = state.queued or state.lag or state.held
        yield Finding("no-worker", name, Severity.ERROR if waits else Severity.WARNING, text, remove)
    if state.queued >= settings.max_queued:
        text = f"{name}: its queue is full ({state.queued} tasks); more waits in the streams"
        yield Finding("queue-full", name, Severity.WARNING, text, "start more of its workers")
    elif state.held >= settings.max_held:
        text = f"{name}: {state.held} tasks are set aside, as many as may be; more waits in the streams"
        yield Finding("held-full", name, Severity.WARNING, text, "resume its paused subscriptions")
    elif found.dispatchers and state.stalled_ms and found.now_ms - state.stalled_ms > STALLED_MS:
        text = (
            f"{name}: {_lag(state)} events were not handed over, the oldest for"
            f" {span(found.now_ms - state.stalled_ms)}, though its queue has room: its lane stands still"
        )
        yield Finding("lane-stuck", name, Severity.ERROR, text, "look at the dispatcher's log")


def _paused(found: Snapshot) -> Iterator[Finding]:
    for pause in found.paused:
        why = f"after {pause.failures} failures in a row" if pause.failures else "by hand"
        since = _since(pause.since_ms or None, found.now_ms)
        text = f"{pause.task} is paused {why}{since}: {pause.reason[:200]}"
        resume = f"streammesh subscriptions resume {pause.task}"
        yield Finding("paused", pause.task, Severity.WARNING, text, resume)


def _refusals(found: Snapshot) -> Iterator[Finding]:
    for one in found.refusals:
        how = Severity.WARNING if one.at_ms else Severity.ERROR
        when = "" if one.at_ms is None else f" {span(max(0, found.now_ms - one.at_ms))} ago"
        text = f"{one.service}: its manifest was refused{when}: {one.reason}"
        do = "mend what the reason names and start its workers again; what others wrote: find out who writes to this Redis"
        yield Finding("manifest-refused", one.service, how, text, do)


def _editions(found: Snapshot) -> Iterator[Finding]:
    for name, one in found.side_by_side.items():
        do = "roll every worker forward, or back"
        if one.kept:
            who = f"editions {', '.join(one.living)} live" if one.living else "no worker is alive"
            text = f"{name}: at least {one.kept} tasks wait for a version that reads their payload; {who}"
            yield Finding("kept-for-edition", name, Severity.WARNING, text, do)
        elif len(one.living) > 1 and found.now_ms - one.since > ROLLED_MS:
            text = f"{name}: {len(one.living)} versions run side by side ({', '.join(one.living)}), the newest{_since(one.since, found.now_ms)}"
            yield Finding("several-editions", name, Severity.WARNING, text, do)


def _webhooks(found: Snapshot) -> Iterator[Finding]:
    if found.webhooks and not found.webhook_workers:
        text = f"no webhook worker is alive: {found.webhooks} webhooks are told nothing"
        yield Finding("no-webhook-worker", "webhook_worker", Severity.ERROR, text, "start a webhook_worker")
    for name, why in found.disabled_webhooks.items():
        do = f'mend the receiver, then PATCH /v1/webhooks/{name} {{"enabled": true}}'
        yield Finding("webhook-disabled", name, Severity.WARNING, f"{name} was disabled: {why}", do)


def _outboxes(found: Snapshot) -> Iterator[Finding]:
    for one in found.outboxes:
        waits = found.now_ms - one.oldest_ms if one.oldest_ms else 0
        if waits <= UNBROUGHT_MS:
            continue
        text = f"{one.events} events that belong to shard {one.shard} wait here for it, the oldest for {span(waits)}"
        do = f"see whether shard {one.shard} is away or full; else look for `outbox.` in the dispatchers' log"
        yield Finding("outbox-waits", f"shard {one.shard}", Severity.WARNING, text, do)


def _lag(state: ServiceState) -> str:
    return str(state.lag) if state.lag_exact else f"at least {state.lag}"


def _since(then_ms: int | None, now_ms: int) -> str:
    return f" for {span(now_ms - then_ms)}" if then_ms and now_ms > then_ms else ""


def span(ms: int) -> str:
    """A duration as one would say it: `90 s`, `5 min`, `3 h`, `2 days`."""
    seconds = ms // 1000
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def report(
    found: Snapshot,
    settings: MeshSettings,
    more: list[Finding] | None = None,
    said: list[Finding] | None = None,
) -> dict[str, Any]:
    """The whole status as a document: `status`, `problems` (sentences), `findings` (`said`, else its own), and the parts."""
    own = findings(found, settings) if said is None else said
    said = sorted([*own, *(more or [])], key=_errors_first)
    return {
        "status": standing(said),
        "problems": [one.text for one in said],
        "findings": [one.document() for one in said],
        "time": rfc3339_ms(found.now_ms),
        "redis": asdict(found.redis),
        "dispatchers": found.dispatchers,
        "beats": found.beats,
        "apis": found.apis,
        "services": [service_document(state, found.now_ms) for state in found.services],
        "streams": [stream.document() for stream in found.streams],
        "totals": dict(found.totals),
    }


def service_document(state: ServiceState, now_ms: int) -> dict[str, Any]:
    """One service, as `GET /v1/services` tells it."""
    oldest, seen = state.oldest_ms, state.last_seen_ms
    return {
        "service": state.service,
        "registered": state.registered,
        "subscriptions": [{"task": one.task, "type": one.type} for one in state.subscriptions],
        "workers": state.workers,
        "processes": list(state.processes),
        "last_seen": rfc3339_ms(seen) if seen else None,
        "queued": state.queued,
        "waiting": state.waiting,
        "held": state.held,
        "lag": state.lag,
        "lag_exact": state.lag_exact,
        "oldest_waiting_seconds": round(max(0, now_ms - oldest) / 1000, 1) if oldest else None,
        "dead_letters": state.dead_letters,
    }
