"""how an exception ended, and how long the work on an event took

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

RESOLVED = sa.text("state = 'resolved'")


def upgrade():
    with op.batch_alter_table("exceptions") as table:
        table.add_column(sa.Column("how", sa.String(8)))
        table.add_column(sa.Column("resolution", sa.Text()))
        table.add_column(sa.Column("resolved_by", sa.String(254)))
        table.add_column(sa.Column("healed_by", sa.String(255)))
    op.create_index(
        "resolved_exceptions",
        "exceptions",
        ["resolved_at", "id"],
        postgresql_where=RESOLVED,
        sqlite_where=RESOLVED,
    )
    with op.batch_alter_table("stripe_events") as table:
        table.add_column(sa.Column("work_ms", sa.Integer()))
    op.create_index("ix_stripe_events_object_id", "stripe_events", ["object_id"])


def downgrade():
    op.drop_index("ix_stripe_events_object_id", table_name="stripe_events")
    with op.batch_alter_table("stripe_events") as table:
        table.drop_column("work_ms")
    op.drop_index("resolved_exceptions", table_name="exceptions")
    with op.batch_alter_table("exceptions") as table:
        for name in ("healed_by", "resolved_by", "resolution", "how"):
            table.drop_column(name)
