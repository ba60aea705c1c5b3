"""client secrets of legs that are paid on a page of ours

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table("stripe_legs") as batch_op:
        batch_op.add_column(sa.Column("client_secret", sa.String(255), nullable=True))


def downgrade():
    with op.batch_alter_table("stripe_legs") as batch_op:
        batch_op.drop_column("client_secret")
