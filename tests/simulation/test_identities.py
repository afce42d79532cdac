"""The model by which answers of publishers and readers are judged: it takes what is right, and can say no."""

from __future__ import annotations

from typing import Any

import pytest
from detangle import NotLinearizable
from detangle.lin import History

from tests.simulation.identities import Identities


def history(*calls: Any) -> Any:
    """Calls one after the other: (what, answer), None for no answer."""
    found = History()
    for number, (what, answer) in enumerate(calls):
        operation = found.invoke(number, what, "e1")
        if answer is None:
            found.info(operation)
        else:
            found.ok(operation, answer)
    return found


@pytest.mark.parametrize(
    "calls",
    [
        [("read", ""), ("publish", "1-0"), ("publish", "1-0"), ("read", "1-0")],
        [("publish", None), ("read", "1-0"), ("publish", "1-0")],
        [("publish", None), ("read", ""), ("publish", "1-0")],
    ],
)
def test_answers_that_some_order_explains_are_right(calls: Any) -> None:
    history(*calls).assert_linearizable(Identities())


@pytest.mark.parametrize(
    "calls",
    [
        [("publish", "1-0"), ("publish", "2-0")],
        [("publish", "1-0"), ("read", "")],
        [("read", "1-0"), ("publish", "1-0")],
        [("publish", None), ("read", "1-0"), ("read", "")],
    ],
)
def test_answers_that_no_order_explains_are_found(calls: Any) -> None:
    with pytest.raises(NotLinearizable):
        history(*calls).assert_linearizable(Identities())


def test_calls_that_overlap_may_have_any_order() -> None:
    found = History()
    publish, read = found.invoke(1, "publish", "e1"), found.invoke(2, "read", "e1")
    found.ok(read, "")
    found.ok(publish, "1-0")
    found.assert_linearizable(Identities())
