"""failed looks of the reconciler, and tombstones by age

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade():
    # A default in the database: the code from before this revision inserts without the column.
    with op.batch_alter_table("checkout_attempts") as batch_op:
        batch_op.add_column(
            sa.Column("failed_looks", sa.Integer(), nullable=False, server_default="0")
        )
        batch_op.create_index("tombstones", ["purged_at"])


def downgrade():
    with op.batch_alter_table("checkout_attempts") as batch_op:
        batch_op.drop_index("tombstones")
        batch_op.drop_column("failed_looks")
