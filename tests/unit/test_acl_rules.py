"""The ACL rules of the page on security are those that `streammesh acl` prints; the page's are tried with a whole mesh."""

from __future__ import annotations

import re

from streammesh.acl_rules import KINDS, users, worker_rules
from streammesh.cli.commands import app
from streammesh.keys import Keys
from typer.testing import CliRunner

from tests.architecture.source_tree import KIT

BLOCK = re.compile(r"<!-- acl -->\n```\n(.*?)```", re.DOTALL)


def test_the_page_has_what_the_command_prints():
    found = BLOCK.search((KIT.parents[1] / "docs" / "security.md").read_text("utf-8"))
    assert found is not None
    printed = CliRunner().invoke(app, ["acl", "probe"])
    assert printed.exit_code == 0, printed.output
    assert found[1] == printed.output


def test_a_worker_reaches_its_own_keys_and_no_other_team_s():
    rules = worker_rules(Keys("shop"), "mail")
    patterns = [word[1:] for word in rules if word.startswith("~")]
    assert all(pattern.startswith("{shop}:") for pattern in patterns)
    for key in ("api-keys", "schedules", "audit", "dead:other", "queue:other", "queue:mailing", "open:other"):
        whole = "{shop}:" + key
        assert not [p for p in patterns if re.fullmatch(re.escape(p).replace(r"\*", ".*"), whole)], key


def test_passwords_are_made_up_and_names_are_looked_at():
    printed = CliRunner().invoke(app, ["acl", "mail", "--generate", "--cluster"]).output.splitlines()
    passwords = {line.split()[3] for line in printed}
    assert len(passwords) == len(printed) == len(KINDS) + 1
    assert all(
        len(password) > 24 and line.endswith("+cluster|slots")
        for line, password in zip(printed, passwords, strict=True)
    )
    assert CliRunner().invoke(app, ["acl", "mail >x allkeys"]).exit_code == 2
    assert users(Keys(), [], ["a", "b", "c", "d"])[0].startswith("user mesh-api on >a ")
