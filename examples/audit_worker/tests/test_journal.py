"""The file: nothing is lost, doubled or mixed up."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from ..journal import Journal


def write_many(path: Path, writer: int) -> None:
    for number in range(50):
        Journal(path).append({"id": f"{writer}-{number}", "text": "x" * 200})


def test_entries_of_several_processes_are_whole_and_all_there(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len({entry["id"] for entry in Journal(path).entries()}) == 150
    assert path.read_bytes().count(b"\n") == 150


def test_a_line_that_was_cut_off_is_not_continued(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "audit.jsonl")
    journal.append({"id": "1"})
    with journal.path.open("ab") as file:
        file.write(b'{"id": "2", "to')

    journal.append({"id": "3"})

    assert [entry["id"] for entry in journal.entries()] == ["1", "3"]


@pytest.mark.parametrize(("look_first", "lines"), [(True, 1), (False, 2)])
def test_an_entry_that_is_there_is_added_again_only_without_looking(
    tmp_path: Path, look_first: bool, lines: int
) -> None:
    journal = Journal(tmp_path / "audit.jsonl")
    journal.append({"id": "1"})

    assert journal.append({"id": "1"}, look_first=look_first) is not look_first
    assert len(journal.entries()) == lines
