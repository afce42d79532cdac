"""Which steps and waits a handler names in its source: what `streammesh check` compares under one version. Pure."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

CALLS = {
    "step": 0,
    "wait_for_signal": 0,
    "sleep": None,
    "wait_for": None,
    "approval": None,
}  # where the name stands
MOST = 200


def step_names(handler: Callable[..., Any], context: str | None) -> list[str]:
    """Return the names in the order of the source; a part that is made when it runs is a `*`.

    Only the handler's own lines are read, not those of functions that it calls. Empty where they cannot be.
    """
    if context is None:
        return []
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(handler))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_of(node, context)]
    calls.sort(key=lambda node: (node.lineno, node.col_offset))
    return list(dict.fromkeys(_name(node) for node in calls))[:MOST]


def _is_of(node: ast.Call, context: str) -> bool:
    function = node.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr in CALLS
        and isinstance(function.value, ast.Name)
        and function.value.id == context
    )


def _name(node: ast.Call) -> str:
    """As the step is called; of a wait that has no name of its own what it waits for."""
    assert isinstance(node.func, ast.Attribute)
    kind = node.func.attr
    place = CALLS[kind]
    given = next((one.value for one in node.keywords if one.arg == "name"), None)
    if given is None and place is not None and node.args:
        given = node.args[place]
    if given is not None:
        return _text(given) if kind == "step" else f"{kind} {_text(given)}"
    return f"{kind} {_text(node.args[0])}" if kind == "wait_for" and node.args else kind


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)[:128]
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one) if isinstance(one, ast.Constant) else "*" for one in node.values)[:128]
    return "*"
