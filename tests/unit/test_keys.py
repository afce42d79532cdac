"""What `keys.py` says of each key, in words and to the scripts."""

from __future__ import annotations

import inspect

import pytest
from streammesh.key_types import TYPES, set_aside, type_of
from streammesh.keys import Keys

KEYS = Keys("shop")
VALUES = {"int": 1}


def called(made):
    """The key, of values of the right types."""
    return made(*(VALUES.get(one.annotation, "x") for one in inspect.signature(made).parameters.values()))


MADE = [
    (called(made), made.__doc__.partition(".")[0].lower())
    for name, made in inspect.getmembers(KEYS, inspect.ismethod)
    if not name.startswith("_") and made.__doc__.partition(".")[0].isupper() and "CHANNEL" not in made.__doc__
]


@pytest.mark.parametrize(("key", "said"), MADE, ids=[key for key, _ in MADE])
def test_the_type_that_scripts_are_told_is_the_one_in_the_words(key, said):
    assert type_of(key) == said


def test_every_type_belongs_to_a_key():
    assert set(TYPES) == {key.partition("}:")[2].partition(":")[0] for key, _ in MADE}


def test_what_is_set_aside_keeps_its_hash_tag_and_is_no_key_of_the_mesh_any_more():
    aside = set_aside(KEYS.task("1"))

    assert aside == "{shop}:set-aside:task:1"
    assert type_of(aside) is None
    assert type_of("celery-task-meta-1") is None
