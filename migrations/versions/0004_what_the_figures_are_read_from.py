"""indexes that the figures of the last day are read from

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# name, table, column, which rows: few of each, so that none of them grows with finished orders
INDEXES = (
    ("acts_of_people", "order_events", "at", "actor <> ''"),
    ("dead_events", "stripe_events", "received_at", "state = 'dead'"),
    ("dead_effects", "outbox", "created_at", "state = 'dead'"),
    ("open_exceptions", "exceptions", "opened_at", "state = 'open'"),
    ("exceptions_by_age", "exceptions", "opened_at", None),
)


def upgrade():
    for name, table, column, rows in INDEXES:
        where = {}
        if rows:
            where = {"postgresql_where": sa.text(rows), "sqlite_where": sa.text(rows)}
        op.create_index(name, table, [column], **where)


def downgrade():
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
