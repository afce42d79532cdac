"""What each service wants: manifests, and the pure plan of who gets an event.

A manifest may only name the service's own queue and its own tasks (`<service>.*`), so no team can
run another team's tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import orjson

from streammesh import names
from streammesh.errors import InvalidManifest
from streammesh.events.envelope import Event

OPERATORS = ("exists", "prefix", "not", ">", ">=", "<", "<=")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Subscription:
    """A service's stated interest: events of `type` (exact or glob) that fit `where` become the task `task`."""

    service: str
    task: str
    type: str
    where: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None  # seconds one attempt may take
    retries: int = 5
    expires: float | None = None  # seconds after publishing when it is not worth starting any more
    priority: int | None = None  # 0 to 9; overrides the event's own
    keep: float | None = None  # seconds the ended record is kept; the mesh's `result_ttl` if not said
    queue: str | None = None  # one of the service's further queues; None for its own

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
                    Subscription(**{k: v for k, v in item.items() if k in known})
                    for item in value["subscriptions"]
                ),
                schemas=value.get("schemas", {}),
                queues=tuple(value.get("queues") or ()),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidManifest(f"not a manifest: {error!r}") from None
        check(manifest)
        return manifest

    @property
    def domains(self) -> frozenset[str]:
        """The domains it names; `*` among them when a glob leaves the domain open."""
        return frozenset(
            "*" if names.is_glob(domain) else domain
            for domain in (names.domain_of(s.type) for s in self.subscriptions)
        )


class Delivery(NamedTuple):
    """One event to one subscription: the task that it becomes."""

    subscription: Subscription
    task_id: str


def check(manifest: Manifest) -> None:
    """Raises InvalidManifest, with what to change, when a manifest may not join."""
    service = manifest.service
    if not names.SERVICE.match(service):
        raise InvalidManifest(
            f"service name {service!r}: use lower-case letters, digits and _, starting with a letter"
        )
    for queue in manifest.queues:
        if not isinstance(queue, str) or not names.QUEUE.match(queue) or queue == names.DEFAULT_QUEUE:
            raise InvalidManifest(f"queue {queue!r}: use lower-case letters, digits, _ and -, as `urgent`")
    seen = set()
    for subscription in manifest.subscriptions:
        where = f"subscription {subscription.task!r}"
        if subscription.queue is not None and subscription.queue not in manifest.queues:
            raise InvalidManifest(
                f"{where}: the service has no queue {subscription.queue!r}: Service(..., queues=[...]) names them"
            )
        if subscription.service != service or not subscription.task.startswith(f"{service}."):
            raise InvalidManifest(f"{where}: a service may only run its own tasks, named {service}.<handler>")
        if subscription.task in seen:
            raise InvalidManifest(f"{where}: two handlers have this name")
        seen.add(subscription.task)
        exact = subscription.type.replace("*", "x").replace("?", "x")
        if not names.TYPE.match(exact) and subscription.type != "*":
            raise InvalidManifest(f"{where}: {subscription.type!r} is not an event type or a glob over types")
        for path, wanted in subscription.where.items():
            if isinstance(wanted, dict) and (not wanted or set(wanted) - set(OPERATORS)):
                raise InvalidManifest(f"{where}: where[{path!r}] takes the operators {', '.join(OPERATORS)}")


def plan(event: Event, subscriptions: Iterable[Subscription]) -> list[Delivery]:
    """Who gets this event, in the order of the subscriptions."""
    return [
        delivery(event, s)
        for s in subscriptions
        if names.matches(s.type, event.type) and fits(event, s.where)
    ]


def delivery(event: Event, subscription: Subscription) -> Delivery:
    """The event's delivery to a subscription that wants it."""
    return Delivery(subscription, names.task_id(event.source, event.id, subscription.task))


def fits(event: Event, where: Mapping[str, Any]) -> bool:
    """Whether an event fits a `where` filter: every path must fit its condition.

    A path is an attribute (`subject`) or leads into the data (`data.order.currency`, list positions
    as numbers). A condition is a value, a list of values (any of), or operators: `exists`, `prefix`,
    `not`, `>`, `>=`, `<`, `<=`.
    """
    return all(_holds(_value_at(event, path), condition) for path, condition in where.items())


def _value_at(event: Event, path: str) -> Any:
    head, *rest = path.split(".")
    if head == "data":
        value = event.data
    elif head in event.extensions:
        value = event.extensions[head]
    else:
        value = getattr(event, head, _MISSING) if head in Event.__dataclass_fields__ else _MISSING
        value = _MISSING if value is None else value
    for part in rest:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _MISSING
    return value


def _holds(value: Any, condition: Any) -> bool:
    if isinstance(condition, dict):
        return all(_operator(value, name, operand) for name, operand in condition.items())
    if isinstance(condition, list | tuple):
        return any(_same(value, one) for one in condition)
    return _same(value, condition)


def _same(value: Any, wanted: Any) -> bool:
    """Equal, without Python's 1 == True."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _operator(value: Any, name: str, operand: Any) -> bool:
    if name == "exists":
        return bool((value is not _MISSING and value is not None) == operand)
    if name == "not":
        return not _holds(value, operand)
    if name == "prefix":
        return isinstance(value, str) and value.startswith(operand)
    numbers = (int, float)
    if isinstance(value, numbers) and isinstance(operand, numbers):
        pass
    elif not (isinstance(value, str) and isinstance(operand, str)):
        return False
    if name == ">":
        return bool(value > operand)
    if name == ">=":
        return bool(value >= operand)
    if name == "<":
        return bool(value < operand)
    return bool(value <= operand)


class Routes:
    """All subscriptions, ready to be asked: exact types by dictionary, globs one by one.

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
        self._globs: list[Subscription] = []
        self._queues: dict[str, list[str]] = {}
        for manifest in manifests:
            self._queues[manifest.service] = manifest.queue_names
            for subscription in manifest.subscriptions:
                if names.is_glob(subscription.type):
                    self._globs.append(subscription)
                else:
                    self._exact.setdefault(subscription.type, []).append(subscription)

    def queues(self, service: str) -> list[str]:
        """The full names of a service's queues."""
        return self._queues.get(service, [service])

    def wanting(self, event: Event) -> list[Subscription]:
        """Every subscription that wants the event. Each lane asks this about each event: it makes no task ids."""
        wanting = [s for s in self._exact.get(event.type, ()) if not s.where or fits(event, s.where)]
        if self._globs:
            wanting += [s for s in self._globs if names.matches(s.type, event.type) and fits(event, s.where)]
        return wanting

    def wanting_at(self, event: Event, position: str, service: str) -> list[Subscription]:
        """As `wanting`, for the event at this position of its domain's stream, which `service` was given.

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
