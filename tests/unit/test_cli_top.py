"""What `streammesh top` makes of two looks."""

from __future__ import annotations

from streammesh.cli.top import rates_of


def look(**services):
    rest = {"workers": 1, "held": 0, "dead_letters": 0}
    return {"services": [{"service": name, **rest, **about} for name, about in services.items()]}


def test_a_backlog_that_falls_says_when_it_is_gone_and_the_oldest_stands_first():
    before = look(mail={"queued": 300, "lag": 100, "oldest_waiting_seconds": 9.0})
    after = look(
        idle={"queued": 0, "lag": 0, "oldest_waiting_seconds": None},
        mail={"queued": 200, "lag": 0, "oldest_waiting_seconds": 5.0},
    )
    first, second = rates_of(before, after, 2.0)
    assert (first["service"], first["falls_per_second"], first["gone_in_seconds"]) == ("mail", 100.0, 2.0)
    assert (second["falls_per_second"], second["gone_in_seconds"]) == (None, 0.0)


def test_one_that_grows_has_no_end():
    before = look(mail={"queued": 1, "lag": 0, "oldest_waiting_seconds": 1.0})
    after = look(mail={"queued": 5, "lag": 0, "oldest_waiting_seconds": 2.0})
    [row] = rates_of(before, after, 1.0)
    assert (row["falls_per_second"], row["gone_in_seconds"]) == (-4.0, None)
    [row] = rates_of(None, after, 0.0)
    assert row["gone_in_seconds"] is None
