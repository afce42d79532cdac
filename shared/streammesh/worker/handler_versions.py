"""Versions of a durable handler beside each other: which may be one handler's, and with which new runs begin. Pure."""

from __future__ import annotations

from typing import NamedTuple

from streammesh.errors import InvalidManifest
from streammesh.subscriptions.declaration import SourceLine
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.handler import Binding
from streammesh.tasks.verdict import RetryPolicy


class HandlerVersion(NamedTuple):
    """An older version of a handler."""

    subscription: Subscription
    binding: Binding


class DeclaredVersion(NamedTuple):
    """One version of a handler, as it is declared, and where."""

    subscription: Subscription
    binding: Binding
    policy: RetryPolicy
    breaker: bool
    place: SourceLine


def versions_with(
    versions: dict[int, DeclaredVersion], added: DeclaredVersion
) -> tuple[DeclaredVersion, dict[int, HandlerVersion]]:
    """Add a version; return the newest, and the others. Raises InvalidManifest for what cannot be a version of theirs."""
    for other in versions.values():
        check_versions(other, added)
    versions[added.subscription.version] = added
    newest = versions[max(versions)]
    older = {
        version: HandlerVersion(one.subscription, one.binding)
        for version, one in versions.items()
        if one is not newest
    }
    return newest, older


def check_versions(first: DeclaredVersion, second: DeclaredVersion) -> None:
    """Raise InvalidManifest for two handlers of one name that cannot be versions of one."""
    name, version = second.subscription.task, second.subscription.version
    if first.subscription.version == version:
        raise InvalidManifest(
            f"two handlers have the name {name!r}, and versions of one say version=1 and version=2; the first is at {first.place}"
        )
    if first.subscription.type != second.subscription.type:
        raise InvalidManifest(
            f"versions of {name!r} subscribe to {first.subscription.type!r} ({first.place}) and {second.subscription.type!r}; "
            "subscribe both to the same type"
        )
    if first.binding.is_async != second.binding.is_async:
        raise InvalidManifest(
            f"one version of {name!r} is an `async def` and the other a `def` ({first.place}); make both alike"
        )
