"""`Service.expects`: a handler of what did not come."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from streammesh import names
from streammesh.durable.expectation import Expectation
from streammesh.errors import LONGEST_PAUSE, InvalidManifest
from streammesh.subscriptions.declaration import (
    Seconds,
    SourceLine,
    calling_place,
    duration,
    filter_of,
    seconds,
    whole_number,
)
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.handler import Binding
from streammesh.tasks.verdict import RetryPolicy
from streammesh.worker.around_handlers import said_at

F = TypeVar("F", bound=Callable[..., Any])


class Expectations:
    """What of a service is about events that did not come."""

    name: str

    @abstractmethod
    def _decorator(
        self,
        here: SourceLine,
        subscription: Subscription,
        policy: RetryPolicy,
        breaker: bool,
        name: str | None,
        around: Callable[[Binding], Binding],
    ) -> Callable[[F], F]:
        """What makes a function the handler of a subscription; `around`: how it is called in place of the function."""

    def expects(
        self,
        event_type: str,
        *,
        after: str,
        within: Seconds,
        key: str | Mapping[str, str],
        where: Mapping[str, Any] | None = None,
        retries: int = 5,
        backoff: Seconds = 1.0,
        backoff_cap: Seconds = 600.0,
        timeout: Seconds | None = None,
        keep: Seconds | None = None,
        breaker: bool = True,
        queue: str | None = None,
        name: str | None = None,
        version: int = 1,
    ) -> Callable[[F], F]:
        """Call a handler when an event of a type was NOT published within a time after one of `after`.

        The handler is given the event of `after`. `key`: the path at which both have the same value, or a mapping with one
        for each of the two types. A run waits for each event of `after` (that fits `where`), holding no worker; where the
        expected event came, its result is `{"came": {"id", "source", "type"}}`. What was published in time counts, even if
        workers were away meanwhile. The other options are those of `on`.
        Raises InvalidHandler, which names the file and line, when the handler or an option cannot be taken.
        """
        here = calling_place()
        with said_at(here):
            policy = retry_policy(retries, backoff, backoff_cap)
            expectation = Expectation.declared(event_type, after, within, key)
            subscription = Subscription(
                service=self.name,
                task=f"{self.name}.",
                type=after,
                where=filter_of(where, after),
                timeout=seconds("timeout", timeout),
                retries=retries,
                keep=seconds("keep", keep),
                queue=None if queue == names.DEFAULT_QUEUE else queue,
                version=whole_number("version", version, 1, 1_000_000),
                waits=expectation.waits,
            )
        return self._decorator(here, subscription, policy, breaker, name, expectation.around)


def retry_policy(retries: int, backoff: Seconds, backoff_cap: Seconds) -> RetryPolicy:
    """Return these as a policy. Raises InvalidManifest for what cannot be."""
    policy = RetryPolicy(
        whole_number("retries", retries, 0, 1_000_000),
        duration("backoff", backoff, least=-1e-6),
        duration("backoff_cap", backoff_cap, least=-1e-6),
    )
    for name, wait in (("backoff", policy.base), ("backoff_cap", policy.cap)):
        if wait > LONGEST_PAUSE:
            raise InvalidManifest(f"{name}={wait}: should be a year at most")
    return policy
