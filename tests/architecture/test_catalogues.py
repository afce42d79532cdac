"""Closed catalogues: what is logged and what is notified stands in one of them, and what stands there is used."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
from streammesh.notification_types import NOTIFICATIONS

from tests.architecture.log_calls import NAME, logged
from tests.architecture.source_tree import KIT, ROOT, SERVICES, Source, sources

FOLDERS = sorted(p.name for p in SERVICES.iterdir() if (p / "log_events.py").exists())
PLACES: dict[str, Path] = {"streammesh": KIT} | {f"services.{name}": SERVICES / name for name in FOLDERS}
SCRIPTS = sorted((KIT / "lua").glob("*.lua"))
NOTIFIED = re.compile(r"'((?:task|event|subscription)\.[a-z]+)'")


def catalogue(place: str) -> dict[str, str]:
    """What a package says that it logs."""
    return dict(import_module(f"{place}.log_events").LOG_EVENTS)


def table() -> list[str]:
    """The table of `docs/logs.md`."""
    lines = ["| event | means | fields |", "|---|---|---|"]
    for place, folder in PLACES.items():
        known = catalogue(place)
        found = logged(sources(folder), set(known))
        lines.append(f"| **{folder.relative_to(ROOT).as_posix()}** | | |")
        for name, means in sorted(known.items()):
            fields = ", ".join(f"`{one}`" for one in sorted(found[name].fields)) if name in found else ""
            lines.append(f"| `{name}` | {means} | {fields} |")
    return lines


@pytest.mark.parametrize("place", PLACES)
def test_what_is_logged_stands_in_the_catalogue(place: str) -> None:
    known = catalogue(place)
    found = logged(sources(PLACES[place]), set(known))
    kit = catalogue("streammesh")  # a service may say what the kit says
    missing = {name: sorted(one.files) for name, one in found.items() if name not in known | kit}
    assert not missing, f"say in {place}/log_events.py what these mean"
    unused = sorted(set(known) - set(found))
    assert not unused, "nobody logs these any more"


def test_every_service_has_a_catalogue() -> None:
    having = sorted(p.name for p in SERVICES.iterdir() if (p / "__init__.py").exists())
    assert having == FOLDERS


def test_an_event_has_one_meaning_and_a_name_of_two_words() -> None:
    names = [name for place in PLACES for name in catalogue(place)]
    assert len(names) == len(set(names))
    assert not [name for name in names if not NAME.fullmatch(name)]


def test_an_event_that_is_not_in_the_catalogue_is_found(tmp_path: Path) -> None:
    file = tmp_path / "new.py"
    file.write_text("import structlog\nlog.info('tea.made', sugar=2)\nlog.info(f'task.{state}')\n")
    found = logged([Source(file, file.read_text())], {"task.failed", "smtp.closed"})
    assert found["tea.made"].fields == {"sugar"} and set(found) == {"tea.made", "task.failed"}


def test_the_page_of_logs_is_the_catalogue() -> None:
    lines = "\n".join(table())
    assert lines in (ROOT / "docs" / "logs.md").read_text("utf-8"), f"put this into docs/logs.md:\n{lines}"


def test_scripts_tell_what_stands_in_the_catalogue_of_notifications() -> None:
    told = {name for path in SCRIPTS for name in NOTIFIED.findall(path.read_text("utf-8"))}
    assert told <= set(NOTIFICATIONS), "name it in streammesh/notification_types.py"


def test_every_type_of_the_catalogue_is_told_by_somebody() -> None:
    texts = {name for path in SCRIPTS for name in NOTIFIED.findall(path.read_text("utf-8"))}
    if any("'subscription.' .." in path.read_text("utf-8") for path in SCRIPTS):
        texts |= {"subscription.paused", "subscription.resumed"}
    for source in sources(KIT):
        if not source.name.endswith("notification_types.py"):
            texts |= {
                n.value
                for n in ast.walk(source.tree)
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
    assert set(NOTIFICATIONS) <= texts


def test_the_page_of_notifications_has_each_type_with_its_fields() -> None:
    page = (ROOT / "docs" / "notifications.md").read_text("utf-8")
    for name, one in NOTIFICATIONS.items():
        row = next(
            (
                line
                for line in page.splitlines()
                if line.startswith("|") and f"`{name}`" in line.split("|")[1]
            ),
            None,
        )
        assert row is not None, f"docs/notifications.md does not name {name}"
        last = row.rsplit("|", 2)[1]
        told = set(re.findall(r"`([a-z_]+)`", last))
        assert set(one.data) <= told, f"docs/notifications.md: {name} has {', '.join(one.data)}"
