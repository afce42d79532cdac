"""What the scheduler refuses to start with."""

from __future__ import annotations

import pytest

from services.scheduler import __main__ as scheduler
from services.scheduler.settings import SchedulerSettings


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[schedules.health]\nevery = "1s"\ncron = "* * * * *"\nevent.type = "a.b"',
            "give one of cron and every",
        ),
        ("[schedules", "not TOML"),
        (None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start_with_one_line(
    mesh_settings, tmp_path, monkeypatch, capsys, text, says
):
    path = tmp_path / "schedules.toml"
    if text is not None:
        path.write_text(text)
    own = SchedulerSettings(_env_file=None, schedules_file=path)
    monkeypatch.setattr(scheduler, "own_settings", lambda: own)

    with pytest.raises(SystemExit) as ended:
        scheduler.check_file(mesh_settings)

    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"SCHEDULER_SCHEDULES_FILE: {path}: ")
    assert says in line
