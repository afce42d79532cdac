"""What the scripts take by which the router goes through a domain."""

from __future__ import annotations

from streammesh.lua.cancels import CancelMark
from streammesh.lua.signature import Arguments, Each, Flag, Key, Number, Text, TextList
from streammesh.lua.tasks import HandoffEntry, HandoffKind, HandoffSubscription


class RouteScript(Arguments):
    """Hand a batch of events over to every service that the router serves."""

    stream: Key
    notifications: Key
    counters: Key
    holding: Key
    version: Key
    memory_row: Key
    routed: Key
    kept: Text
    planned_by: Text
    event_prefix: Number
    task_prefix: Number
    mark: Number
    begins: Text
    ends: Text
    members: Text
    most_queued: Number
    most_held: Number
    subscriptions: Each[HandoffSubscription]
    kinds: Each[HandoffKind]
    entries: Each[HandoffEntry]
    marks: Each[CancelMark]


class TakeDomainScript(Arguments):
    """Make a dispatcher the one that routes a domain."""

    stream: Key
    routed: Key
    manifests: Key
    dispatcher: Text
    lifetime: Number
    known: Text


class LevelGroupsScript(Arguments):
    """Put the groups of all services that the router serves to where it is."""

    stream: Key
    routed: Key


class LeaveRouterScript(Arguments):
    """Take services from the router."""

    stream: Key
    routed: Key
    is_restart: Flag
    services: TextList
