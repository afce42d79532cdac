"""The commands of the page on backups bring a mesh back."""

from __future__ import annotations

from tests.restore_drill.drill import Drill


def test_a_mesh_is_restored_by_the_commands_of_the_page(tmp_path):
    assert len(Drill(tmp_path / "drill").play()) == 3
