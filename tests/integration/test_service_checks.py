"""What services look at for `streammesh doctor`: found by their folder, and none of them ends it."""

from __future__ import annotations

from streammesh.cli.service_checks import look_at_services

WELL = """from streammesh.status.findings import Finding


async def look():
    return [Finding("seen", "seen_worker", "warning", "it was looked at", "nothing")]
"""
BROKEN = """async def look():
    raise SystemExit(2)
"""


async def test_each_service_of_a_folder_is_looked_at_and_one_that_breaks_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("EMAIL_SMTP_URL", raising=False)
    monkeypatch.delenv("REPORT_STORE_URL", raising=False)
    for name, text in (("seen_worker", WELL), ("broken_worker", BROKEN)):
        package = tmp_path / name
        package.mkdir()
        for file in ("__init__.py", "__main__.py", "handlers.py"):
            (package / file).write_text("")
        (package / "checks.py").write_text(text)
    said = {one.about: one.code for one in await look_at_services(tmp_path)}
    assert said == {"seen_worker": "seen", "broken_worker": "check-failed"}
