"""shoppers sign in by a mailed link; what was erased stays erased

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

Moment = sa.DateTime(timezone=True)
TABLES = ("shopper_sessions", "sign_in_links")


def upgrade():
    op.create_table(
        "sign_in_links",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.Column("used_at", Moment),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_links")),
    )
    op.create_table(
        "shopper_sessions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("seen_at", Moment, nullable=False),
        sa.Column("ended_at", Moment),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shopper_sessions")),
    )
    for table in TABLES:
        for column in ("email", "created_at"):
            op.create_index(op.f(f"ix_{table}_{column}"), table, [column])
    op.create_index("orders_of_an_address", "orders", [sa.text("lower(email)"), "created_at"])
    with op.batch_alter_table("checkout_attempts") as table:
        table.add_column(sa.Column("erased_at", Moment))


def downgrade():
    with op.batch_alter_table("checkout_attempts") as table:
        table.drop_column("erased_at")
    op.drop_index("orders_of_an_address", table_name="orders")
    for table in TABLES:
        op.drop_table(table)
