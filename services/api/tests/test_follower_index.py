"""Who is told of what, found by an index: the same as asking everybody, at the cost of what fits."""

from __future__ import annotations

import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from streammesh import names
from streammesh.api_keys import ApiKey
from streammesh.notifications import Filter, Notification

from services.api.push.follower_index import FollowerIndex
from services.api.push.globs import GlobIndex
from services.api.push.wish import Wish
from services.api.tokens import Narrowing, Token, narrowing_of

WORDS = ("a", "b", "ab", "a.b", "b.a.b")
GLOBS = st.text("ab.*?", min_size=1, max_size=6)
word = st.sampled_from(WORDS)
maybe = st.none() | word
filters = st.builds(
    Filter,
    event=maybe,
    task=maybe,
    types=st.lists(GLOBS, max_size=2).map(tuple),
    service=maybe,
    subject=maybe,
    subject_prefix=maybe,
    source=maybe,
)
globs = st.lists(GLOBS, max_size=2).map(tuple)
narrowings = st.builds(
    Narrowing, types=globs | st.just(("*",)), event=maybe, source=maybe, subject=maybe, task=maybe
)
keys = st.builds(ApiKey, st.just("k"), subscribe=globs, admin=st.booleans()) | st.builds(
    Token, st.just("k"), subscribe=globs | st.just(("*",)), narrowing=narrowings
)
notes = st.builds(
    Notification, word, word, word, word | st.just(""), word, word, word | st.just(""), st.just(b""), word
)


@given(st.lists(GLOBS, unique=True, max_size=30), st.lists(st.text("ab.", max_size=8), max_size=10))
@settings(max_examples=60, deadline=None)
def test_the_globs_that_cover_a_name_are_those_that_match_it(patterns, types):
    index = GlobIndex()
    for glob in (*patterns, "*gone*", "gone"):
        index.add(glob)
    index.discard("*gone*")
    index.discard("gone")

    for name in types:
        assert sorted(index.covering(name)) == sorted(g for g in patterns if names.matches(g, name))


@given(st.lists(st.tuples(filters, keys), max_size=25), st.lists(notes, max_size=8), st.randoms())
@settings(max_examples=60, deadline=None)
def test_those_are_told_whose_filter_and_key_fit_and_nobody_else(asked, told, chance):
    index, there = FollowerIndex(), {}
    for number, (wanted, key) in enumerate(asked):
        wish = Wish.of(wanted, key)
        if wish is not None:
            index.add(number, wish)
        there[number] = (wanted, key, wish)
        if chance.random() < 0.3:
            gone = chance.choice(list(there))
            if there[gone][2] is not None:
                index.discard(gone, there[gone][2])
            del there[gone]
        for note in told[:2]:
            index.find(note)  # what is remembered is forgotten in time

    for note in told:
        found = [one for group in index.find(note) for one in group]
        expected = [
            number
            for number, (wanted, key, _) in there.items()
            if wanted.fits(note) and key.may_subscribe(note.event_type) and narrowing_of(key).fits(note)
        ]
        assert sorted(found) == expected


def _note(n: int, kind: str = "task.started") -> Notification:
    return Notification("1-1", kind, f"e{n}", f"t{n}", f"s{n}", f"order.x{n}y.placed", f"user/{n}", b"")


SHAPES = {
    "subject": lambda n: (Filter(subject=f"user/{n}"), ApiKey("k", admin=True)),
    "subject prefix": lambda n: (Filter(subject_prefix=f"user/{n}"), ApiKey("k", admin=True)),
    "task": lambda n: (Filter(task=f"t{n}"), ApiKey("k", admin=True)),
    "exact type": lambda n: (Filter(types=(f"order.x{n}y.placed",)), ApiKey("k", admin=True)),
    "glob by its beginning": lambda n: (Filter(types=(f"order.x{n}y.*",)), ApiKey("k", admin=True)),
    "glob by its end": lambda n: (Filter(types=(f"*x{n}y.placed",)), ApiKey("k", admin=True)),
    "glob by its middle": lambda n: (Filter(types=(f"*.x{n}y.*",)), ApiKey("k", admin=True)),
    "glob with two holes": lambda n: (Filter(types=(f"o*.x{n}y.pl?ced",)), ApiKey("k", admin=True)),
    "a key of his own": lambda n: (Filter(types=("task.*",)), ApiKey("k", subscribe=(f"order.x{n}y.*",))),
    "a service and any type": lambda n: (Filter(service=f"s{n}", types=("task.*",)), ApiKey("k", admin=True)),
    "a token": lambda n: (Filter(), Token("k", subscribe=("*",), narrowing=Narrowing(subject=f"user/{n}"))),
}


def test_one_of_two_thousand_is_found_as_fast_as_one_of_twenty():
    chance = random.Random(1)
    for shape, made in SHAPES.items():
        costs = []
        for size in (20, 2_000):
            index: FollowerIndex = FollowerIndex()
            for n in range(size):
                wanted, key = made(n + 10_000)
                wish = Wish.of(wanted, key)
                assert wish is not None
                index.add(n, wish)
            about = [_note(10_000 + chance.randrange(size)) for _ in range(20)]
            began = time.thread_time()
            found = [[one for group in index.find(note) for one in group] for note in about]
            costs.append(time.thread_time() - began)
            assert all(len(one) == 1 for one in found), shape
        assert costs[1] < 6 * costs[0] + 0.002, f"{shape}: {costs}"


def test_a_thousand_globs_that_are_made_to_be_slow_cost_little_more_than_trying_each_once():
    index = FollowerIndex()
    for n in range(1_000):
        wish = Wish.of(Filter(types=(f"*a*{n}*?",)), ApiKey("k", admin=True))
        assert wish is not None
        index.add(n, wish)
    about = [_note(n, "a" * 100) for n in range(20)]
    began = time.thread_time()
    for note in about:
        index.find(note)
    first = time.thread_time() - began
    began = time.thread_time()
    for note in about:
        index.find(note)
    again = time.thread_time() - began

    assert first / 20 < 0.02 and again / 20 < 0.002
