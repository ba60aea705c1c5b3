"""discount codes, tax, and numbered invoices

Every order that is paid by now gets its invoice number, in the order in which they were paid.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def _amount(name):
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")


def upgrade():
    with op.batch_alter_table("checkout_attempts") as table:
        table.add_column(_amount("discount"))
        table.add_column(_amount("tax"))
        table.add_column(sa.Column("tax_rates", JSON))
        table.add_column(sa.Column("code", sa.String(64)))
    with op.batch_alter_table("orders") as table:
        table.add_column(sa.Column("tax_rates", JSON))
        table.add_column(sa.Column("code", sa.String(64)))
    with op.batch_alter_table("order_items") as table:
        table.add_column(_amount("discount"))
        table.add_column(_amount("tax"))
    op.create_table(
        "counters",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("last", sa.Integer(), nullable=False),
    )
    op.create_table(
        "invoices",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column(
            "order_id", sa.String(36), sa.ForeignKey("orders.id"), nullable=False, unique=True
        ),
        sa.Column("seller", JSON),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute(
        "INSERT INTO invoices (number, order_id, issued_at)"
        " SELECT ROW_NUMBER() OVER (ORDER BY paid_at, id), id, paid_at FROM orders"
        " WHERE paid_at IS NOT NULL"
    )
    op.execute("INSERT INTO counters (name, last) SELECT 'invoices', COUNT(*) FROM invoices")


def downgrade():
    op.drop_table("invoices")
    op.drop_table("counters")
    with op.batch_alter_table("order_items") as table:
        table.drop_column("tax")
        table.drop_column("discount")
    with op.batch_alter_table("orders") as table:
        table.drop_column("code")
        table.drop_column("tax_rates")
    with op.batch_alter_table("checkout_attempts") as table:
        for name in ("code", "tax_rates", "tax", "discount"):
            table.drop_column(name)
