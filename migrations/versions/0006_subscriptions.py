"""subscriptions, and the parts of a checkout that are paid one by one

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)

LIVE = "state IN ('creating', 'open') AND is_ours"
SETTLES = "role = 'settles'"


def _unique(name, table, columns, rows):
    where = {"postgresql_where": sa.text(rows), "sqlite_where": sa.text(rows)}
    op.create_index(name, table, columns, unique=True, **where)


def upgrade():
    with op.batch_alter_table("products") as table:
        table.add_column(sa.Column("interval", sa.String(8)))
        table.add_column(
            sa.Column("interval_count", sa.Integer(), nullable=False, server_default="1")
        )
        table.add_column(sa.Column("trial_days", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("checkout_attempts") as table:
        table.add_column(sa.Column("stripe_customer", sa.String(255)))
    with op.batch_alter_table("stripe_legs") as table:
        table.add_column(sa.Column("part", sa.String(64), nullable=False, server_default=""))
        table.alter_column("asked_at", existing_type=Moment, nullable=True)
    with op.batch_alter_table("payments") as table:
        table.add_column(sa.Column("part", sa.String(64), nullable=False, server_default=""))
        table.add_column(sa.Column("invoice", sa.String(255)))
    with op.batch_alter_table("order_items") as table:
        table.add_column(sa.Column("plan", Json))
    # The new index comes before the old one goes: there is never a moment without a guard.
    _unique("one_settling_payment_per_part", "payments", ["attempt_id", "part"], SETTLES)
    op.drop_index("one_settling_payment_per_attempt", table_name="payments")
    op.drop_index("one_live_leg_of_a_kind", table_name="stripe_legs")
    _unique("one_live_leg_of_a_kind", "stripe_legs", ["attempt_id", "kind", "part"], LIVE)
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("checkout_attempt_id", sa.String(36), sa.ForeignKey("checkout_attempts.id")),
        sa.Column("part", sa.String(64), nullable=False),
        sa.Column("stripe_id", sa.String(255), nullable=False),
        sa.Column("stripe_item", sa.String(255)),
        sa.Column("stripe_price", sa.String(255)),
        sa.Column("stripe_customer", sa.String(255)),
        sa.Column("title", sa.String(120), nullable=False),
        sa.Column("unit_amount", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("interval", sa.String(8), nullable=False),
        sa.Column("interval_count", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("period_end", Moment),
        sa.Column("trial_end", Moment),
        sa.Column("cancel_at", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("latest_invoice", sa.String(255)),
        sa.Column("pay_url", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.UniqueConstraint("checkout_attempt_id", "part"),
    )
    op.create_index("ix_subscriptions_checkout_attempt_id", "subscriptions", ["checkout_attempt_id"])
    op.create_index("ix_subscriptions_stripe_id", "subscriptions", ["stripe_id"])


def downgrade():
    op.drop_table("subscriptions")
    op.drop_index("one_live_leg_of_a_kind", table_name="stripe_legs")
    _unique("one_live_leg_of_a_kind", "stripe_legs", ["attempt_id", "kind"], LIVE)
    _unique("one_settling_payment_per_attempt", "payments", ["attempt_id"], SETTLES)
    op.drop_index("one_settling_payment_per_part", table_name="payments")
    with op.batch_alter_table("order_items") as table:
        table.drop_column("plan")
    with op.batch_alter_table("payments") as table:
        table.drop_column("invoice")
        table.drop_column("part")
    with op.batch_alter_table("stripe_legs") as table:
        table.drop_column("part")
        table.alter_column("asked_at", existing_type=Moment, nullable=False)
    with op.batch_alter_table("checkout_attempts") as table:
        table.drop_column("stripe_customer")
    with op.batch_alter_table("products") as table:
        table.drop_column("trial_days")
        table.drop_column("interval_count")
        table.drop_column("interval")
