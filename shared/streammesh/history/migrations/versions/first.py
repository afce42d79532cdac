"""Events, tasks and dead letters; partitioned by day in PostgreSQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    bytewise = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    options: dict[str, Any] = {"postgresql_partition_by": "RANGE (day)"}

    def text(name: str, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, bytewise, nullable=nullable)

    def number(name: str, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, sa.BigInteger, nullable=nullable)

    def small(name: str, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, sa.Integer, nullable=nullable)

    op.create_table(
        "events",
        *(
            small("day"),
            text("id"),
            text("source"),
            number("at"),
            number("seq"),
            text("domain"),
            text("type"),
        ),
        *(text("subject", nullable=True), text("correlation", nullable=True)),
        *(sa.Column("state", sa.Text, nullable=False), small("wanted", nullable=True), small("done")),
        *(small("failed"), number("ended", nullable=True), sa.Column("envelope", sa.Text, nullable=False)),
        sa.PrimaryKeyConstraint("id", "source", "day"),
        **options,
    )
    op.create_table(
        "tasks",
        *(small("day"), text("id"), text("event_id"), text("event_source"), text("event_type")),
        *(text("event_subject", nullable=True), text("correlation", nullable=True)),
        *(text("name"), text("service"), text("queue")),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        *(sa.Column("state", sa.Text, nullable=False), small("attempt"), number("at"), number("seq")),
        *(number(name, nullable=True) for name in ("queued", "started", "ended")),
        *(sa.Column("worker", sa.Text), sa.Column("outcome", sa.Text, nullable=False)),
        sa.PrimaryKeyConstraint("id", "day"),
        **options,
    )
    op.create_table(
        "letters",
        *(small("day"), text("service"), text("id"), number("at")),
        sa.Column("letter", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("service", "id", "day"),
        **options,
    )
    op.create_index("events_at", "events", ["at", "seq"])
    op.create_index("events_type_at", "events", ["type", "at"])
    for name, columns, condition in (
        ("events_subject", ["subject", "at"], "subject IS NOT NULL"),
        ("events_correlation", ["correlation"], "correlation IS NOT NULL"),
        ("events_open", ["at", "seq"], "ended IS NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "events", columns, postgresql_where=where, sqlite_where=where)
    op.create_index("tasks_at", "tasks", ["at", "seq"])
    op.create_index("tasks_event", "tasks", ["event_id"])
    op.create_index("letters_at", "letters", ["at"])


def downgrade() -> None:
    """Remove them."""
    for name in ("letters", "tasks", "events"):
        op.drop_table(name)
