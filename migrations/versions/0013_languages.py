"""in which language a shopper is written to

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLES = ("checkout_attempts", "orders")


def upgrade():
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.add_column(
                sa.Column("language", sa.String(8), nullable=False, server_default="en")
            )


def downgrade():
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.drop_column("language")
