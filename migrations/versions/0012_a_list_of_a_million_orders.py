"""what the counter's list of orders is read from, however many orders there are

Parts of names are found by their trigrams where the database offers them; without the extension the
list is as right, and slower.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NEWEST_FIRST = ["created_at", "id"]
VIEWS = {
    "orders_to_ship": "status IN ('payment_confirmed', 'awaiting_shipment')",
    "orders_refunded": "refunded > 0",
    "orders_never_paid": "status IN ('cancelled', 'expired') AND paid_at IS NULL",
}
LAST4 = "substr(method, length(method) - 3)"


def upgrade():
    for name, condition in VIEWS.items():
        where = sa.text(condition)
        op.create_index(
            name, "orders", NEWEST_FIRST, postgresql_where=where, sqlite_where=where
        )
    op.create_index("orders_by_payment", "orders", ["payment_status", *NEWEST_FIRST])
    op.create_index("orders_by_total", "orders", ["total", *NEWEST_FIRST])
    op.create_index("items_by_sku", "order_items", ["sku", "order_id"])
    op.create_index("ix_payments_charge_id", "payments", ["charge_id"])
    op.create_index("payments_by_last4", "payments", [sa.text(LAST4)])
    notes = sa.text("kind = 'note'")
    op.create_index(
        "notes_by_order", "order_events", ["order_id"], postgresql_where=notes, sqlite_where=notes
    )
    op.create_index("attempts_newest_first", "checkout_attempts", ["created_at"])
    known = sa.text("stripe_customer IS NOT NULL")
    op.create_index(
        "attempts_by_customer",
        "checkout_attempts",
        ["stripe_customer"],
        postgresql_where=known,
        sqlite_where=known,
    )
    if _has_trigrams():
        for column in ("name", "email"):
            op.execute(
                f"CREATE INDEX orders_by_part_of_{column} ON orders USING gin ({column} gin_trgm_ops)"
            )


def downgrade():
    if op.get_bind().dialect.name == "postgresql":
        for column in ("name", "email"):
            op.execute(f"DROP INDEX IF EXISTS orders_by_part_of_{column}")
    op.drop_index("attempts_by_customer", table_name="checkout_attempts")
    op.drop_index("attempts_newest_first", table_name="checkout_attempts")
    op.drop_index("notes_by_order", table_name="order_events")
    op.drop_index("payments_by_last4", table_name="payments")
    op.drop_index("ix_payments_charge_id", table_name="payments")
    op.drop_index("items_by_sku", table_name="order_items")
    for name in ("orders_by_total", "orders_by_payment", *VIEWS):
        op.drop_index(name, table_name="orders")


def _has_trigrams():
    """Whether the extension is there, or may be made: on most hosts by whoever owns the database."""
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return False
    try:
        with bind.begin_nested():
            bind.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except sa.exc.DBAPIError:
        return False
    return True
