"""The dashboard's built files belong to its sources, and its packages come from nowhere special."""

from __future__ import annotations

import json
import re
from hashlib import sha256

from tests.architecture.source_tree import SERVICES

UI = SERVICES / "api" / "ui"
# As `seal.mjs` has them.
SOURCES = (
    *(
        "index.html",
        "package-lock.json",
        "package.json",
        "seal.mjs",
        "src",
        "tsconfig.json",
        "vite.config.ts",
    ),
)


def test_the_built_files_were_made_of_these_sources() -> None:
    files = [
        path
        for name in SOURCES
        for path in ([UI / name] if (UI / name).is_file() else (UI / name).rglob("*"))
        if path.is_file()
    ]
    whole = sha256()
    for path in sorted(files, key=lambda one: one.relative_to(UI).as_posix()):
        whole.update(path.relative_to(UI).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    sealed = json.loads((UI / "built" / "manifest.json").read_text("utf-8"))
    assert sealed["sources"] == whole.hexdigest(), "the dashboard's sources have changed: run `make ui`"


def test_the_built_files_are_those_that_were_made() -> None:
    built = UI / "built"
    sealed = json.loads((built / "manifest.json").read_text("utf-8"))["files"]
    there = {
        path.relative_to(built).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in built.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert there == sealed, "run `make ui`"


def test_packages_are_locked_by_hash_and_name_no_registry() -> None:
    lock = json.loads((UI / "package-lock.json").read_text("utf-8"))
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages and all(one.get("integrity", "").startswith("sha512-") for one in packages.values())
    assert not re.search(
        r"https?://(?!registry\.npmjs\.org/)", json.dumps([p.get("resolved") for p in packages.values()])
    )
    wanted = json.loads((UI / "package.json").read_text("utf-8"))
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        assert packages[f"node_modules/{name}"]["version"] == version, (
            f"{name} is not pinned to what is locked"
        )


def test_nothing_of_a_user_becomes_markup() -> None:
    for path in (UI / "src").rglob("*.ts*"):
        text = path.read_text("utf-8")
        for way in (
            "dangerouslySetInnerHTML",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ):
            assert way not in text, f"{path.name} uses {way}"
