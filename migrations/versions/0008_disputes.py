"""disputes, which payment an event was about that came too early, and look-ups by invoice

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Moment = sa.DateTime(timezone=True)
EARLY = sa.text("state = 'ignored' AND payment_intent IS NOT NULL")


def upgrade():
    op.create_table(
        "disputes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("stripe_id", sa.String(255), nullable=False),
        sa.Column("payment_intent", sa.String(255), nullable=False),
        sa.Column("order_id", sa.String(36)),
        sa.Column("amount", sa.Integer(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(60), nullable=False),
        sa.Column("due_by", Moment),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("opened_at", Moment, nullable=False),
        sa.UniqueConstraint("stripe_id"),
    )
    op.create_index("ix_disputes_payment_intent", "disputes", ["payment_intent"])
    op.create_index("ix_disputes_order_id", "disputes", ["order_id"])
    with op.batch_alter_table("stripe_events") as table:
        table.add_column(sa.Column("payment_intent", sa.String(255)))
    op.create_index("ix_payments_invoice", "payments", ["invoice"])
    op.create_index("ix_subscriptions_latest_invoice", "subscriptions", ["latest_invoice"])
    op.create_index(
        "early_events",
        "stripe_events",
        ["payment_intent"],
        postgresql_where=EARLY,
        sqlite_where=EARLY,
    )


def downgrade():
    op.drop_index("ix_subscriptions_latest_invoice", table_name="subscriptions")
    op.drop_index("ix_payments_invoice", table_name="payments")
    op.drop_index("early_events", table_name="stripe_events")
    with op.batch_alter_table("stripe_events") as table:
        table.drop_column("payment_intent")
    op.drop_table("disputes")
