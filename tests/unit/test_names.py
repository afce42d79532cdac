"""Globs over types and the words of the mesh."""

from __future__ import annotations

import time

import pytest
from streammesh import names


@pytest.mark.parametrize(
    ("glob", "name", "fits"),
    [
        ("user.registered", "user.registered", True),
        ("user.registered", "user.registered\n", False),
        ("*", "anything.at.all", True),
        ("user.*", "user.registered", True),
        ("user.*", "user", False),
        ("*.placed", "order.placed", True),
        ("order.?.added", "order.x.added", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "aXcYb", False),
        ("*ab*ab", "ab", False),
        ("*ab*ab", "abab", True),
        ("a.[bc]", "a.b", False),
    ],
)
def test_a_glob_covers_what_it_should(glob, name, fits):
    assert names.matches(glob, name) is fits


def test_no_glob_takes_exponential_time():
    began = time.perf_counter()

    assert not names.matches("*a" * 60 + "b", "a" * 128)

    assert time.perf_counter() - began < 0.5
