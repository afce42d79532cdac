"""The code of docs/retries.md and docs/ordering.md, run over a real mesh, with the waits skipped."""

from __future__ import annotations

import re
from typing import Any

from streammesh.testing import Mesh

from tests.architecture.source_tree import ROOT


def page(name: str) -> dict[str, Any]:
    """What the Python of a page defines."""
    text = (ROOT / "docs" / name).read_text("utf-8")
    names: dict[str, Any] = {"__name__": name.partition(".")[0]}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(code, f"docs/{name}", "exec", dont_inherit=True), names)
    return names


async def test_what_the_handler_of_the_retries_page_raises_says_what_happens_next(mesh: Mesh) -> None:
    names = page("retries.md")
    mesh.run(names["service"])

    async def outcome(**payment: Any) -> Any:
        return await mesh.outcome(await mesh.publish("payment.requested", {"cents": 500, **payment}))

    assert (await outcome(failures=2)).result == "charged at attempt 3"
    assert (await outcome(limited=True)).result == "charged at attempt 2"
    assert len(names["charges"]) == 2
    for wrong, reason in (
        ({"cents": 0}, "nothing to charge"),
        ({"key": "expired"}, "our key has expired"),
        ({"failures": 5}, "no answer"),
    ):
        assert reason in str((await outcome(**wrong)).error)
    assert len(names["charges"]) == 2


async def test_the_handler_of_the_ordering_page_books_each_accounts_changes_in_their_order(
    mesh: Mesh,
) -> None:
    names = page("ordering.md")
    mesh.run(names["service"])
    events = [
        await mesh.publish("account.changed", {"account": account, "n": n, "fails": n == 0})
        for n in range(3)
        for account in ("ada", "bob")
    ]
    for event in events:
        assert (await mesh.outcome(event)).ok

    assert names["booked"] == {"ada": [0, 1, 2], "bob": [0, 1, 2]}
