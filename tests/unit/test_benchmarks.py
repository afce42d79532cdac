"""The parts of the benchmark suite that decide something: verdicts, percentiles, who is measured at what."""

from __future__ import annotations

import pytest
from streammesh.worker.shard_rules import limits_beyond_shard

from benchmarks.__main__ import PARTS, peers
from benchmarks.http_load import whole
from benchmarks.measuring import Results, percentile
from benchmarks.peers.beside import PROGRAMS
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environments import REQUIREMENTS
from benchmarks.plots import page
from benchmarks.targets import Target, best_peer
from benchmarks.workers import noop_worker


def results(*figures: tuple[str, str, float]) -> Results:
    made = Results()
    for name, system, value in figures:
        made.add(name, "tasks/s", value, system)
    return made


def test_a_median_is_told_of_all_runs():
    made = results(("drain", "streammesh", 3.0), ("drain", "streammesh", 1.0), ("drain", "streammesh", 9.0))

    [one] = made.as_measured()
    assert (one["value"], one["runs"]) == (3.0, [3.0, 1.0, 9.0])


@pytest.mark.parametrize(
    ("ours", "peer", "said"),
    [
        (8_000, 5_000, "met"),
        (6_000, 3_000, "missed: 25% below"),
        (9_000, 9_000, "missed: 1.00 × the best peer"),
        (4_000, 4_000, "missed: 50% below, 1.00 × the best peer"),
        (8_000, None, "met"),
    ],
)
def test_a_rate_is_held_to_its_target_and_to_the_best_peer(ours, peer, said):
    assert Target("drain", least=8_000, times_best_peer=1.5).verdict(ours, peer) == said


def test_a_latency_may_not_be_above_its_target():
    assert Target("latency", most=8).verdict(8, None) == "met"
    assert Target("latency", most=8).verdict(10, 5) == "missed: 25% above"


def test_the_best_peer_is_the_fastest_one_and_never_ourselves():
    measured = results(
        ("d", "streammesh", 9), ("d", "one", 5), ("d", "two", 7), ("e", "one", 8)
    ).as_measured()

    assert best_peer(measured, Target("d", least=1))["system"] == "two"
    assert best_peer(measured, Target("d", most=1))["system"] == "one"
    assert best_peer(measured, Target("f", least=1)) is None


def test_percentiles_are_values_that_were_measured():
    assert percentile(range(1, 101), 0.99) == 100
    assert percentile([7.0], 0.5) == 7.0


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_every_peer_has_a_program_pinned_requirements_and_takes_part_in_parts_that_there_are(peer):
    assert (PROGRAMS / peer.program).exists()
    assert set(peer.sizes) <= set(PARTS)
    for line in (REQUIREMENTS / f"{peer.environment}.txt").read_text().splitlines():
        assert "==" in line and "://" not in line, line


def test_peers_are_chosen_by_name():
    assert peers("all") == list(PEERS)
    assert peers("none") == []
    assert peers("celery,saq") == ["celery", "saq"]


def test_an_answer_is_whole_when_all_of_its_body_is_there():
    head = b"HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\n\r\n"

    assert whole(head[:-1]) is None
    assert whole(head + b"1234") is None
    assert whole(head + b"12345" + head) == len(head) + 5


def test_figures_go_between_the_marks_and_nowhere_else():
    about = {"finished": "today", "machine": "a machine", "server": "a server"}
    measured = results(("handoff.1p", "streammesh", 20_000)).as_measured()

    written = page("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n", measured, about, [])

    assert written.startswith("before\n") and written.endswith("after\n")
    assert "old" not in written
    assert "| `handoff.1p` | ≥ 15,000 tasks/s | **20,000**" in written
    with pytest.raises(ValueError, match="no place"):
        page("no marks", measured, about, [])


def test_the_worker_of_a_mesh_of_several_shards_is_one_that_they_accept():
    assert list(limits_beyond_shard(noop_worker.service.manifest())) == []
