"""What a service wants done around each of its handlers: for tracing, error reporting, tenants. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from streammesh.tasks.context import Context

Before = Callable[[Context], Awaitable[None] | None]
After = Callable[[Context, Any], Awaitable[None] | None]
OnFailure = Callable[[Context, BaseException], Awaitable[None] | None]
_TAKES = {
    "before": ("Context",),
    "after": ("Context", "what the handler returned"),
    "on_failure": ("Context", "the error"),
}


@dataclass(slots=True)
class Hooks:
    """The hooks of one service: `before` in the order in which they are declared, the others from the last to the first."""

    before: list[Before] = field(default_factory=list)
    after: list[After] = field(default_factory=list)
    on_failure: list[OnFailure] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.before or self.after or self.on_failure)


def check_hook(kind: str, hook: Callable[..., Any]) -> None:
    """Raise TypeError where a hook cannot be called with what it is given."""
    takes = _TAKES[kind]
    if not callable(hook) or inspect.isgeneratorfunction(hook) or inspect.isasyncgenfunction(hook):
        raise TypeError(f"a hook is a function without `yield`, not {hook!r:.80}")
    try:
        inspect.signature(hook).bind(*takes)
    except TypeError as error:
        raise TypeError(f"{kind} is called with {' and '.join(takes)}: {error}") from None
