"""The suite itself, at a hundredth of its size and without peers: every figure it promises is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import PARTS
from benchmarks.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 400
BY_NAME = tuple(name for name, part in PARTS.items() if part.by_name_only)


@pytest.mark.bench
@pytest.mark.timeout(SECONDS)
def test_a_small_run_measures_every_target_and_is_drawn_into_the_page(tmp_path: Path) -> None:
    results, page = tmp_path / "latest.json", tmp_path / "performance.md"
    page.write_text("# Performance\n<!-- figures -->\n<!-- end of figures -->\nthe end\n")

    for command in (
        ["benchmarks", "--share", "0.01", "--runs", "1", "--peers", "none", "--json", str(results)],
        ["benchmarks.plots", str(results), "--page", str(page)],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, timeout=SECONDS)

    measured = {m["name"]: m for m in json.loads(results.read_text())["measurements"]}
    promised = [target for target in TARGETS if not target.name.startswith(BY_NAME)]
    assert {target.name for target in promised} <= set(measured)
    for m in measured.values():
        assert m["system"] == "streammesh"
        assert len(m["runs"]) == 1 and m["value"] == m["runs"][0] >= 0
    written = page.read_text()
    assert all(f"`{target.name}`" in written for target in promised)
    assert written.endswith("the end\n")
    assert "<script" not in (tmp_path / "images" / "bench-async-1p.svg").read_text()
