"""What each service wants: manifests, and the pure plan of who gets an event.

A manifest may only name the service's own queue and its own tasks (`<service>.*`), so no team can
run another team's tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import structlog

from streammesh import names
from streammesh.edition import Edition, read_editions
from streammesh.errors import InvalidManifest
from streammesh.events.envelope import Event
from streammesh.flow.limits import Flow, flow_problems, key_text
from streammesh.subscriptions.cancel_paths import wrong_cancels
from streammesh.subscriptions.filters import MAX_PATH, MISSING, Where, fits, problems, value_at

TEXT_LENGTH = 256  # characters of a version or a task's name
LONGEST_SECONDS = 366 * 86_400.0
MAX_SUBSCRIPTIONS = 1_000
MAX_WAITS, MAX_PATHS = 32, 8  # types that a handler waits for; paths of one
MAX_QUEUES = 32  # of one service
MOST_TYPES = 4_096  # of events, whose subscriptions are remembered
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A service's stated interest: events of `type` (exact or glob) that fit `where` become the task `task`."""

    service: str
    task: str
    type: str
    where: Where = field(default_factory=dict)  # paths and conditions, or a text in CEL
    timeout: float | None = None  # seconds one attempt may take
    retries: int = 5
    expires: float | None = None  # seconds after publishing when it is not worth starting any more
    priority: int | None = None  # 0 to 9; overrides the event's own
    keep: float | None = None  # seconds the ended record is kept; the mesh's `result_ttl` if not said
    queue: str | None = None  # one of the service's further queues; None for its own

    version: int = 1  # of a durable handler: runs under way go on with the version that they began with
    formerly: Sequence[str] = ()  # names of tasks that it takes over: it was called so before
    waits: Mapping[str, Sequence[str]] = field(default_factory=dict)  # types it waits for, and by which paths
    cancel_on: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # types that cancel its open tasks -> (path in the event that cancels, path in its own)
    cancels: Sequence[
        str
    ] = ()  # (task, path): its events cancel open tasks of that subscription, by what is at that path
    flow: Flow | None = None  # what may start when; None for all at once
    priority_path: str | None = None  # of the event, where a number from 0 to 9 stands; else its own priority

    @property
    def queue_name(self) -> str:
        """The full name of the queue that its tasks go to."""
        return names.queue_of(self.service, self.queue)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that one service tells the mesh about itself."""

    service: str
    version: str = "0"
    subscriptions: tuple[Subscription, ...] = ()
    schemas: Mapping[str, Any] = field(default_factory=dict)  # task name -> JSON Schema of its payload
    queues: tuple[str, ...] = ()  # its further queues, beside its own
    publishes: Mapping[str, Any] = field(
        default_factory=dict
    )  # event type -> JSON Schema of its data, or None
    steps: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # task name -> steps that its source names
    editions: tuple[
        Edition, ...
    ] = ()  # of its code that it was made of, the newest first; of one worker's: none
    owner: str = (
        ""  # digest of the key that whoever registers this name has to have; empty: no key is asked for
    )

    @property
    def queue_names(self) -> list[str]:
        """The full names of all its queues, its own first."""
        return [self.service, *(names.queue_of(self.service, queue) for queue in self.queues)]

    def to_json(self) -> bytes:
        """As it is stored."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, raw: bytes) -> Manifest:
        """A stored manifest. Raises InvalidManifest when it is broken or asks for what is not its own."""
        try:
            value = orjson.loads(raw)
            known = Subscription.__dataclass_fields__
            manifest = cls(
                service=value["service"],
                version=str(value.get("version", "0")),
                subscriptions=tuple(
                    _subscription({k: v for k, v in item.items() if k in known})
                    for item in value["subscriptions"]
                ),
                schemas=value.get("schemas", {}),
                queues=tuple(value.get("queues") or ()),
                publishes=value.get("publishes") or {},
                steps=value.get("steps") or {},
                editions=read_editions(value.get("editions")),
                owner=str(value.get("owner") or ""),
            )
            check(manifest)
        except InvalidManifest:
            raise
        except Exception as error:  # whoever wrote it; what it holds may be anything
            raise InvalidManifest(f"not a manifest: {error!r}"[:500]) from None
        return manifest

    @property
    def domains(self) -> frozenset[str]:
        """The domains it names; `*` among them when a glob leaves the domain open."""
        return frozenset(
            names.domain_of_pattern(subscription.type) or "*" for subscription in self.subscriptions
        )


def _subscription(item: dict[str, Any]) -> Subscription:
    """One as it is stored, by whatever version."""
    if "flow" in item:
        item["flow"] = Flow.of(item["flow"])
    for name in ("formerly", "cancels"):
        if isinstance(item.get(name), list):
            item[name] = tuple(item[name])
    return Subscription(**item)


class Delivery(NamedTuple):
    """One event to one subscription: the task that it becomes."""

    subscription: Subscription
    task_id: str
    key: str = ""  # of the subscription's flow control


def check(manifest: Manifest) -> None:
    """Raises InvalidManifest, with what to change, when a manifest may not join."""
    service = manifest.service
    if not isinstance(service, str) or not names.SERVICE.match(service):
        raise InvalidManifest(
            f"service name {service!r}: use lower-case letters, digits and _, starting with a letter"
        )
    if not isinstance(manifest.schemas, Mapping):
        raise InvalidManifest("schemas should be an object")
    if not isinstance(manifest.publishes, Mapping) or len(manifest.publishes) > MAX_SUBSCRIPTIONS:
        raise InvalidManifest(
            f"{service}: publishes should be an object of at most {MAX_SUBSCRIPTIONS:,} types"
        )
    for kind, schema in manifest.publishes.items():
        if not names.is_type(kind) or not isinstance(schema, Mapping | None):
            raise InvalidManifest(
                f"{service}: publishes {kind!r:.80}: should be a type with an object or null"
            )
    if not isinstance(manifest.steps, Mapping) or not all(map(_is_texts, manifest.steps.values())):
        raise InvalidManifest(f"{service}: steps should be an object of lists of names")
    for queue in manifest.queues:
        if not isinstance(queue, str) or not names.QUEUE.match(queue) or queue == names.DEFAULT_QUEUE:
            raise InvalidManifest(f"queue {queue!r}: use lower-case letters, digits, _ and -, as `urgent`")
    if len(manifest.queues) > MAX_QUEUES:
        raise InvalidManifest(f"{service}: more than {MAX_QUEUES} queues")
    if len(manifest.subscriptions) > MAX_SUBSCRIPTIONS:
        raise InvalidManifest(f"{service}: more than {MAX_SUBSCRIPTIONS:,} subscriptions")
    seen: set[str] = set()
    for subscription in manifest.subscriptions:
        for problem in _problems(service, subscription):
            raise InvalidManifest(f"subscription {subscription.task!r}: {problem}"[:1_000])
        if subscription.queue is not None and subscription.queue not in manifest.queues:
            raise InvalidManifest(
                f"subscription {subscription.task!r}: its service has no queue {subscription.queue!r:.80}; "
                "Service(..., queues=[...]) names them"
            )
        if subscription.task in seen:
            raise InvalidManifest(f"subscription {subscription.task!r}: two handlers have this name")
        seen.add(subscription.task)


def _problems(service: str, wanted: Subscription) -> Iterator[str]:
    """What is wrong with one subscription, in words."""
    task = wanted.task
    if wanted.service != service or not isinstance(task, str) or not task.startswith(f"{service}."):
        yield f"a service may only run its own tasks, named {service}.<handler>"
    elif len(task) > TEXT_LENGTH:
        yield f"its name is longer than {TEXT_LENGTH} characters"
    if not isinstance(wanted.type, str) or not names.is_type(wanted.type):
        yield f"{wanted.type!r} is not an event type or a glob over types"
    yield from problems(wanted.where)
    for name in ("timeout", "expires", "keep"):
        value = getattr(wanted, name)
        if value is not None and not (_is_number(value) and 0 < value <= LONGEST_SECONDS):
            yield f"{name} should be seconds, more than 0 and at most {LONGEST_SECONDS:,.0f}, not {value!r}"
    if not _is_whole(wanted.retries) or not 0 <= wanted.retries <= 1_000_000:
        yield f"retries should be a whole number from 0, not {wanted.retries!r}"
    if not _is_whole(wanted.version) or not 1 <= wanted.version <= 1_000_000:
        yield f"version should be a whole number from 1, not {wanted.version!r}"
    yield from _wrong_waits(wanted.waits)
    if not isinstance(wanted.formerly, Sequence) or len(wanted.formerly) > MAX_WAITS:
        yield f"formerly should be at most {MAX_WAITS} names that it had"
    elif any(not isinstance(one, str) or not one.startswith(f"{service}.") for one in wanted.formerly):
        yield f"formerly names handlers of {service}"
    yield from wrong_cancels(wanted.cancel_on, wanted.cancels, service)
    if wanted.priority is not None and not (_is_whole(wanted.priority) and 0 <= wanted.priority <= 9):
        yield f"priority should be a whole number from 0 (low) to 9 (high), not {wanted.priority!r}"
    path = wanted.priority_path
    if path is not None and not (isinstance(path, str) and all(path.split(".")) and len(path) <= MAX_PATH):
        yield f"priority={path!r:.80}: a path is words joined by dots, such as 'data.weight'"
    yield from flow_problems(wanted.flow, wanted.expires)


def _wrong_waits(waits: object) -> Iterator[str]:
    if not isinstance(waits, Mapping) or len(waits) > MAX_WAITS:
        yield f"waits should be at most {MAX_WAITS} types with their paths"
        return
    for event_type, paths in waits.items():
        if not isinstance(event_type, str) or not names.is_type(event_type) or names.is_glob(event_type):
            yield f"waits[{event_type!r:.80}]: should be an event type, and no glob"
        elif not isinstance(paths, Sequence) or isinstance(paths, str) or not 0 < len(paths) <= MAX_PATHS:
            yield f"waits[{event_type!r}]: should be 1 to {MAX_PATHS} paths"
        else:
            yield from problems(dict.fromkeys((p for p in paths if isinstance(p, str)), None))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def plan(event: Event, subscriptions: Iterable[Subscription]) -> list[Delivery]:
    """Who gets this event, in the order of the subscriptions."""
    return [
        delivery(event, s) for s in subscriptions if names.matches(s.type, event.type) and wants(event, s)
    ]


def delivery(event: Event, subscription: Subscription) -> Delivery:
    """The event's delivery to a subscription that wants it."""
    task_id = names.task_id(event.source, event.id, subscription.task)
    if subscription.flow is None or (path := subscription.flow.key) is None:
        return Delivery(subscription, task_id)
    value = value_at(event, path)
    return Delivery(subscription, task_id, key_text(None if value is MISSING else value))


def priority_of(event: Event, subscription: Subscription) -> int:
    """The priority of an event's delivery, where the subscription does not say one of its own."""
    if subscription.priority_path is None:
        return event.priority
    value = value_at(event, subscription.priority_path)
    if not _is_number(value) or value != value:  # NaN too
        return event.priority
    return int(min(9, max(0, value)))


def wants(event: Event, subscription: Subscription) -> bool:
    """Whether an event fits a subscription's filter. One that raises does not fit, and is reported once."""
    try:
        return not subscription.where or fits(event, subscription.where)
    except (
        Exception
    ) as error:  # whatever a filter may hold that no check thought of: it is one subscription's
        _report(subscription.task, repr(error)[:200])
        return False


@lru_cache(maxsize=256)
def _report(task: str, reason: str) -> None:
    """Say it once, not for every event."""
    log.error("filter.raised", subscription=task, reason=reason)


class Routes:
    """All subscriptions, ready to be asked: by type, so that an event costs what wants it and not what is there.

    `version` names the moment they are of. `joined`: (domain, service) -> position of the last event that is
    older than the service's group, and so not the service's.
    """

    def __init__(
        self,
        manifests: Iterable[Manifest],
        version: str = "",
        joined: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        self.version = version
        self._joined: dict[str, dict[str, tuple[int, int]]] = {}
        for (domain, service), position in (joined or {}).items():
            self._joined.setdefault(domain, {})[service] = _place(position)
        self._last_joined = {domain: max(places.values()) for domain, places in self._joined.items()}
        self._exact: dict[str, list[Subscription]] = {}
        self._globs: dict[str | None, list[Subscription]] = {}  # by their domain; None: they leave it open
        self._typed: dict[str, list[Subscription]] = {}  # types that were asked for
        self._queues: dict[str, list[str]] = {}
        self._flows: dict[str, list[str]] = {}
        manifests = [*manifests]
        self.services = frozenset(manifest.service for manifest in manifests)
        for manifest in manifests:
            self._queues[manifest.service] = manifest.queue_names
            self._flows[manifest.service] = [one.task for one in manifest.subscriptions if one.flow]
            for subscription in manifest.subscriptions:
                if names.is_glob(subscription.type):
                    self._globs.setdefault(names.domain_of_pattern(subscription.type), []).append(
                        subscription
                    )
                else:
                    self._exact.setdefault(subscription.type, []).append(subscription)

    def queues(self, service: str) -> list[str]:
        """The full names of a service's queues."""
        return self._queues.get(service, [service])

    def flows(self, service: str) -> list[str]:
        """The task names of a service's subscriptions that have flow control."""
        return self._flows.get(service, [])

    def wanting(self, event: Event) -> list[Subscription]:
        """Every subscription that wants the event. No task ids are made."""
        typed = self._typed.get(event.type)
        if typed is None:
            typed = self._of_type(event.type, event.domain)
        return [s for s in typed if not s.where or wants(event, s)]

    def _of_type(self, event_type: str, domain: str) -> list[Subscription]:
        typed = list(self._exact.get(event_type, ()))
        for globs in (self._globs.get(domain), self._globs.get(None)):
            typed += [s for s in globs or () if names.matches(s.type, event_type)]
        if len(self._typed) >= MOST_TYPES:
            self._typed.clear()
        self._typed[event_type] = typed
        return typed

    def wanting_at(self, event: Event, position: str, service: str | None = None) -> list[Subscription]:
        """As `wanting`, for the event at this position of its domain's stream, which `service`'s group was given.

        A service that joined later is left out: its group begins after the event.
        """
        wanting, domain = self.wanting(event), event.domain
        if wanting and (last := self._last_joined.get(domain)) and (place := _place(position)) <= last:
            joined = self._joined[domain]
            return [s for s in wanting if s.service == service or place > joined.get(s.service, _START)]
        return wanting

    def plan(self, event: Event) -> list[Delivery]:
        """As the function `plan`, over all subscriptions."""
        return [delivery(event, subscription) for subscription in self.wanting(event)]


_START = (0, 0)


def _place(position: str) -> tuple[int, int]:
    """A stream position as something that can be compared."""
    ms, _, number = position.partition("-")
    return int(ms), int(number or 0)
