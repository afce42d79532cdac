"""What a service's manifest would break in a mesh, told before it joins: a gate for pipelines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streammesh import names
from streammesh.compatibility.schemas import breaks
from streammesh.subscriptions.manifest import Manifest, Subscription


@dataclass(frozen=True, slots=True)
class GateFindings:
    """`breaks`: what would go wrong that does not now. `warnings`: what is wrong already, or may be wanted."""

    breaks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def against(mine: Manifest, known: Iterable[Manifest]) -> GateFindings:
    """Compare what a service would declare with what the mesh knows of it and of the others."""
    manifests = list(known)
    others = [one for one in manifests if one.service != mine.service]
    before = next((one for one in manifests if one.service == mine.service), Manifest(mine.service))
    then, now = list(_wrong(before, others)), list(_wrong(mine, others))
    found = GateFindings([one for one in now if one not in then], [one for one in now if one in then])
    found.breaks.extend(_demanded(mine, before, others))
    readers = [subscription for other in others for subscription in other.subscriptions]
    for event_type in before.publishes.keys() - mine.publishes.keys():
        if tasks := [one.task for one in readers if names.matches(one.type, event_type)]:
            found.breaks.append(f"{event_type} is not published any more, and {', '.join(tasks)} read it")
    ours = {name for one in mine.subscriptions for name in (one.task, *one.formerly)}
    for gone in sorted({one.task for one in before.subscriptions} - ours):
        found.warnings.append(
            f"{gone} is not there any more: workers of the version before go on with it; what still waits for it when"
            " they have ended becomes a dead letter (write formerly=[...] where it has another name now)"
        )
    found.warnings.extend(_renamed(mine, before))
    return found


def _renamed(mine: Manifest, before: Manifest) -> Iterator[str]:
    """Where the steps of a durable handler are others, and its version is the same."""
    versions = {one.task: one.version for one in before.subscriptions}
    for subscription in mine.subscriptions:
        task, version = subscription.task, subscription.version
        old, new = list(before.steps.get(task, ())), list(mine.steps.get(task, ()))
        if not old or versions.get(task) != version or old == new:
            continue
        gone, more = [one for one in old if one not in new], [one for one in new if one not in old]
        said = [f"{', '.join(map(repr, gone[:5]))} gone"] if gone else []
        said += [f"{', '.join(map(repr, more[:5]))} new"] if more else []
        yield (
            f"{task}: its steps have changed under version {version} ({'; '.join(said) or 'their order'}), and runs under way "
            f"would go on with the new code; write it beside the old one with version={version + 1}"
        )


def _wrong(mine: Manifest, others: Sequence[Manifest]) -> Iterator[str]:
    """What a service publishes and another cannot read, and the other way round."""
    for event_type, schema in mine.publishes.items():
        for other in others:
            for reader in _readers(other, event_type):
                for found in breaks(schema, other.schemas.get(reader.task)):
                    yield f"{event_type}, which {reader.task} reads: {found}"
    for subscription in mine.subscriptions:
        wanted = mine.schemas.get(subscription.task)
        for service, event_type, schema in _published(others, subscription):
            for found in breaks(schema, wanted):
                yield f"{subscription.task} reads {event_type} of {service}: {found}"


def _demanded(mine: Manifest, before: Manifest, others: Sequence[Manifest]) -> Iterator[str]:
    """What a handler asks for that it did not, where nobody declares what is published."""
    for subscription in mine.subscriptions:
        if any(schema is not None for _, _, schema in _published([*others, mine], subscription)):
            continue
        old, new = before.schemas.get(subscription.task), mine.schemas.get(subscription.task)
        for one in breaks(old, new) if old and new else ():
            yield f"{subscription.task} asks for more of {subscription.type} than before: {one}"


def _readers(manifest: Manifest, event_type: str) -> list[Subscription]:
    return [one for one in manifest.subscriptions if names.matches(one.type, event_type)]


def _published(
    manifests: Iterable[Manifest], wanted: Subscription
) -> Iterator[tuple[str, str, Mapping[str, Any] | None]]:
    for manifest in manifests:
        for event_type, schema in manifest.publishes.items():
            if names.matches(wanted.type, event_type):
                yield manifest.service, event_type, schema
