"""How things look on a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from streammesh.cli.terminal import facts, note_line, plain, said, short, task_lines
from streammesh.client import Note

EVIL = "\x1b[2Jhi\r\n\u202e\x07"
TASK: dict[str, Any] = {
    "id": "t1",
    "name": "email_worker.send_welcome",
    "state": "succeeded",
    "attempt": 2,
    "queued_at": "2026-11-22T06:00:00.000Z",
    "ended_at": "2026-11-22T06:00:01.250Z",
    "result": {"status": "sent"},
    "error": None,
    "progress": None,
}


def note(kind: str, **data: Any) -> Note:
    about: Any = {"id": "e1", "type": "user.registered"}
    return Note("1-0", kind, "2026-11-22T06:00:00.123Z", about, {"name": TASK["name"]}, data)


def test_what_comes_from_others_commands_no_terminal():
    assert plain(EVIL) == "\ufffd[2Jhi\ufffd\ufffd\ufffd\ufffd"
    task = {**TASK, "name": EVIL, "state": EVIL, "id": EVIL, "error": {"reason": EVIL}}
    lines = [*task_lines([task]), *facts([("data", EVIL)]), note_line(note(EVIL, error={"reason": EVIL}))]
    for line in lines:
        assert all(c.isprintable() for c in line.plain), line.plain


def test_tasks_are_in_columns_and_a_line_each():
    failed = {**TASK, "name": "a.b", "state": "failed", "ended_at": None, "error": {"reason": "no"}}
    heading, first, second = [line.plain for line in task_lines([TASK, failed])]

    assert heading.split() == ["task", "state", "attempt", "took", "id", "outcome"]
    assert first.split() == [TASK["name"], "succeeded", "2", "1.250", "s", "t1", '{"status":"sent"}']
    assert second.split() == ["a.b", "failed", "2", "t1", "no"]
    assert heading.index("id ") == first.index("t1") == second.index("t1")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"progress": 0.5, "text": "half way"}, " 50%  half way"),
        ({"error": {"reason": "no"}, "retry_in_seconds": 1.5}, "no, again in 1.5 s"),
        ({"error": {"reason": "no"}}, "no"),
        ({"result": {"n": 1}}, '{"n":1}'),
        ({"result": None}, ""),
        ({"tasks": 2, "failed": 1}, "2 done, 1 without success"),
        ({"reason": "no subscription wants it"}, "no subscription wants it"),
        ({}, ""),
    ],
)
def test_a_notification_is_told_in_a_few_words(data, words):
    assert said(data) == words


def test_a_long_result_is_cut():
    assert short("x" * 1000) == '"' + "x" * 299 + "…"


def test_a_notification_without_event_or_task_is_a_line_too():
    line = note_line(Note("", "resync", "", {}, None, {"detail": "gone"})).plain
    assert line.split() == ["resync", "gone"]
