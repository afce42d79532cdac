"""How far the router of a domain is and whom it serves: the callers of `route.lua` and the scripts around it.

A service is served by the router, or by a lane of its own that reads its consumer group. It changes from the lane to the
router in `handoff.lua`, with the lane's last batch, and back in `route.lua` or `leave_router.lua`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from streammesh import lua
from streammesh.events.publisher import ms
from streammesh.keys import Keys
from streammesh.lua.routes import LeaveRouterScript, LevelGroupsScript, RouteScript, TakeDomainScript
from streammesh.settings import MeshSettings
from streammesh.tasks.handoff import Handover, describe, memory_mark


class RouteVerdict(StrEnum):
    """What became of a batch."""

    DONE = "done"
    MOVED = "moved"  # the position or the set of services is another one: begin anew from there
    STALE = "stale"  # the manifests have changed since it was planned
    FULL = "full"  # Redis has no room for more tasks


@dataclass(frozen=True, slots=True)
class RoutedBatch:
    """What one call did. `left`: services that the router serves no more, since their queues are full."""

    verdict: RouteVerdict
    tasks: int = 0
    left: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DomainTaken:
    """A domain that a dispatcher routes now. `services` is None where they are those that it knew."""

    position: str
    members: str
    services: frozenset[str] | None


def route_call(
    keys: Keys,
    settings: MeshSettings,
    domain: str,
    batch: Sequence[Handover],
    paused: Container[str],
    version: str,
    *,
    begins: str,
    members: str,
) -> lua.Call[RoutedBatch]:
    """`route.lua` for the entries that follow the position `begins`, planned for the set of services `members`."""
    subscriptions, kinds, entries, marks = describe(keys, settings, batch, paused)

    def parse(answer: list[Any]) -> RoutedBatch:
        verdict = RouteVerdict(answer[0].decode())
        if verdict is not RouteVerdict.DONE:
            return RoutedBatch(verdict)
        return RoutedBatch(verdict, int(answer[1]), frozenset(name.decode() for name in answer[2:]))

    return RouteScript(
        stream=keys.events(domain),
        notifications=keys.notifications(),
        counters=keys.counters(),
        holding=keys.holding(),
        version=keys.manifests_version(),
        memory_row=keys.memory(),
        routed=keys.routed(domain),
        kept=settings.notifications_bound,
        planned_by=version,
        event_prefix=len(keys.event("")),
        task_prefix=len(keys.task("")),
        mark=memory_mark(settings),
        begins=begins,
        ends=batch[-1].entry,
        members=members,
        most_queued=settings.max_queued,
        most_held=settings.max_held,
        subscriptions=subscriptions,
        kinds=kinds,
        entries=entries,
        marks=marks,
    ).call(parse)


def take_call(
    keys: Keys, domain: str, dispatcher: str, lifetime: timedelta, known: str = ""
) -> lua.Call[DomainTaken | None]:
    """`take_domain.lua`; answers None where another dispatcher routes the domain, or it was given up (`lifetime` 0)."""

    def parse(answer: list[Any]) -> DomainTaken | None:
        if not answer[0]:
            return None
        services = frozenset(name.decode() for name in answer[4:]) if answer[3] else None
        return DomainTaken(answer[1].decode(), answer[2].decode(), services)

    return TakeDomainScript(
        stream=keys.events(domain),
        routed=keys.routed(domain),
        manifests=keys.manifests(),
        dispatcher=dispatcher,
        lifetime=ms(lifetime),
        known=known,
    ).call(parse)


def level_call(keys: Keys, domain: str) -> lua.Call[int]:
    """`level_groups.lua`: the groups of all that the router serves follow it; answers how many."""
    return LevelGroupsScript(stream=keys.events(domain), routed=keys.routed(domain)).call(int)


def leave_call(keys: Keys, domain: str, services: Iterable[str] | None) -> lua.Call[int]:
    """`leave_router.lua`: these services, or all of them, go on with their lanes; answers how many it served.

    With all of them the router begins anew at the end of its stream: its lanes deal with what is before that.
    """
    return LeaveRouterScript(
        stream=keys.events(domain),
        routed=keys.routed(domain),
        is_restart=services is None,
        services=list(services or ()),
    ).call(int)


def members_of(fields: Iterable[bytes]) -> frozenset[str]:
    """Return the services among the fields of `routed`."""
    return frozenset(name.decode("utf-8", "replace") for name in fields if not name.startswith(b":"))
