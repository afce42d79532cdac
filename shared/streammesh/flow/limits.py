"""Flow control of a subscription, as it is declared: what may start when. Pure.

`tasks/handoff.py` gives the scripts `Flow.limits` and each delivery's key; `lua/_flow.lua` acts on them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import orjson

LONGEST_PATH = 256  # characters
MOST_AT_ONCE = 1_000_000  # of a limit
MOST_IN_A_BATCH = 1_000  # they end in one step, which holds the server up for some 50 ms
LONGEST_WAIT = 31_622_400.0  # seconds, a year
LONGEST_KEY = 128  # characters of a key that stay readable; a longer one is told by its digest
SLACK_MS = 1_000.0  # that a throttle may make up for, so that a dispatcher's pause does not lower the rate
SINGLETONS = ("skip", "cancel_running")
_RATE = re.compile(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,4})?(s|m|h|d)")
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True)
class Flow:
    """The limits of one subscription; those that are None or False do not exist.

    `key`: a path of the event, whose value names the key; without it all of the subscription is one key. `concurrency`: of
    one key, `total`: of all keys; both over the whole mesh. `fair`: keys take turns. `order`: one after the other per
    key. `throttle` and `drop`: starts in a time, such as "100/m"; what is beyond waits, or ends as skipped.
    `singleton`: while one of a key is there, the next is skipped, or it is cancelled for the next. `debounce`: the last of a key runs when
    no further one has come for so many seconds, or the first has waited `max_wait`; it takes the others. `batch`: a run is given so many of a key, or as many as came
    within `linger` seconds of the first.
    """

    key: str | None = None
    concurrency: int | None = None
    total: int | None = None
    fair: bool = False
    order: bool = False
    throttle: str | None = None
    drop: str | None = None
    singleton: str | None = None
    debounce: float | None = None
    max_wait: float | None = None
    batch: int | None = None
    linger: float | None = None

    @classmethod
    def of(cls, value: Any) -> Flow | None:
        """As a manifest says it; None for none, and for what another version's options make of it, if none is known."""
        if value is None or isinstance(value, Flow):
            return value
        flow = cls(**{one.name: value[one.name] for one in fields(cls) if one.name in value})
        return flow if flow.is_any else None

    @property
    def is_any(self) -> bool:
        """Whether anything is limited."""
        return any(getattr(self, one.name) for one in fields(self) if one.name != "key")

    @cached_property
    def limits(self) -> bytes:
        """What the scripts are told (JSON): the same for the same limits."""
        said = {
            "concurrency": self.concurrency,
            "total": self.total,
            "fair": self.fair or None,
            "order": self.order or None,
            "throttle": None if self.throttle is None else throttle_ms(self.throttle),
            "drop": None if self.drop is None else drop_ms(self.drop),
            "singleton": self.singleton,
            "debounce": self.debounce and self.debounce * 1000,
            "max_wait": self.max_wait and self.max_wait * 1000,
            "batch": self.batch,
            "linger": self.linger and self.linger * 1000,
        }
        return orjson.dumps({name: value for name, value in said.items() if value is not None})


def key_text(value: Any) -> str:
    """A key as it is written, of a value that stands in an event; "" for None."""
    if value is None:
        return ""
    if not isinstance(value, str):
        value = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    if len(value) <= LONGEST_KEY and value.isprintable():
        return value  # type: ignore[no-any-return]
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    shown = "".join(letter if letter.isprintable() else "?" for letter in value[:64])
    return f"{shown}#{digest}"


@lru_cache(maxsize=1024)
def starts_in(rate: str) -> tuple[int, float]:
    """`"100/m"` as a number and a time in ms. Raises ValueError."""
    match = _RATE.fullmatch(rate)
    if match is None:
        raise ValueError(f"{rate!r:.40} is no rate: write a number and a time, as 100/m, 5/h, 10/30s")
    number, times, unit = int(match[1]), int(match[2] or 1), match[3]
    period = times * _UNITS_MS[unit]
    if number > MOST_AT_ONCE or period > 366 * _UNITS_MS["d"]:
        raise ValueError(f"{rate!r:.40}: at most {MOST_AT_ONCE:,} in a year")
    return number, float(period)


def throttle_ms(rate: str) -> list[float]:
    """From one start to the next in ms, and how much may be made up for: starts are spread evenly."""
    number, period = starts_in(rate)
    return [period / number, SLACK_MS]


def drop_ms(rate: str) -> list[float]:
    """As `throttle_ms`, where all of a time's starts may come at once."""
    number, period = starts_in(rate)
    return [period / number, period - period / number]


def flow_problems(flow: Any, expires: Any = None) -> Iterator[str]:
    """What is wrong with the flow control of a subscription, in words that say what to change.

    `expires`: after so many seconds its tasks are not worth starting.
    """
    if flow is None:
        return
    if not isinstance(flow, Flow):
        yield f"flow should be an object of limits, not {flow!r:.40}"
        return
    wrong = [*_wrong_values(flow)]
    yield from wrong or _wrong_together(flow)
    if not wrong and flow.debounce and isinstance(expires, int | float) and expires <= flow.debounce:
        yield f"expires={expires:g} is over before debounce={flow.debounce:g}: no run would ever start"


def _wrong_values(flow: Flow) -> Iterator[str]:
    key = flow.key
    if key is not None and not (isinstance(key, str) and all(key.split(".")) and len(key) <= LONGEST_PATH):
        yield f"key={key!r:.80}: should be a path of words joined by dots, such as 'data.tenant'"
    for name in ("concurrency", "total"):
        value = getattr(flow, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and 1 <= value <= MOST_AT_ONCE):
            yield f"{name}={value!r:.40}: should be a whole number from 1 to {MOST_AT_ONCE:,}"
    for name in ("fair", "order"):
        if not isinstance(getattr(flow, name), bool):
            yield f"{name}={getattr(flow, name)!r:.40}: should be True or False"
    for name in ("throttle", "drop"):
        rate = getattr(flow, name)
        try:
            if rate is not None:
                starts_in(rate if isinstance(rate, str) else str(rate))
        except ValueError as error:
            yield f"{name}: {error}"
        else:
            if rate is not None and not isinstance(rate, str):
                yield f"{name}={rate!r:.40}: should be text such as '100/m'"
    batch = flow.batch
    if batch is not None and not (
        isinstance(batch, int) and not isinstance(batch, bool) and 2 <= batch <= MOST_IN_A_BATCH
    ):
        yield f"batch={batch!r:.40}: should be a whole number from 2 to {MOST_IN_A_BATCH:,}"
    for name in ("debounce", "max_wait", "linger"):
        value = getattr(flow, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0.001 <= value <= LONGEST_WAIT):
            yield f"{name}={value!r:.40}: should be a time of 1 ms to a year"
    if flow.singleton is not None and flow.singleton not in SINGLETONS:
        yield f"singleton={flow.singleton!r:.40}: should be one of {', '.join(SINGLETONS)}"


def _wrong_together(flow: Flow) -> Iterator[str]:
    if flow.key is not None and not flow.is_any:
        yield "key= limits nothing alone: say concurrency=, order=True, throttle=, drop=, singleton=, debounce= or batch= too"
    if flow.fair and flow.key is None:
        yield "fair=True needs key=: whose turn it is goes by key"
    if flow.fair and flow.total is None:
        yield "fair=True needs total=: keys take turns for its places"
    if flow.order and flow.concurrency not in (None, 1):
        yield f"order=True runs one of a key at a time: leave out concurrency={flow.concurrency}"
    if flow.order and flow.key is None and flow.total is not None:
        yield f"order=True without key= runs one at a time: leave out total={flow.total}"
    if flow.singleton and (flow.order or flow.concurrency not in (None, 1)):
        yield f"singleton={flow.singleton!r} runs one of a key at a time: leave out order= and concurrency="
    if flow.drop and flow.throttle:
        yield "drop= ends what throttle= has wait: say one of them"
    if flow.debounce is None and flow.max_wait is not None:
        yield "max_wait= is how long debounce= waits at most: say that too"
    elif flow.debounce is not None:
        yield from _wrong_with_debounce(flow)
    if (flow.batch is None) != (flow.linger is None):
        yield "batch= and linger= go together: so many, or as many as came in that time"
    if flow.batch is not None:
        others = [name for name in ("debounce", "order", "singleton", "drop") if getattr(flow, name)]
        if others:
            yield f"batch= gives a run several events at once: leave out {others[0]}="
    if flow.total is not None and flow.concurrency is not None and flow.key is None:
        yield "concurrency= and total= are the same without key=: say one of them"


def _wrong_with_debounce(flow: Flow) -> Iterator[str]:
    assert flow.debounce is not None
    if flow.max_wait is not None and flow.max_wait < flow.debounce:
        yield f"max_wait={flow.max_wait:g} is shorter than debounce={flow.debounce:g}: it would always be over first"
    if flow.order:
        yield "debounce= runs the last of a key only: leave out order=; concurrency=1 runs one of a key at a time"
    if flow.singleton:
        yield f"debounce= already runs one of many: leave out singleton={flow.singleton!r}"
    if flow.drop:
        yield "debounce= already ends all but one: leave out drop="
