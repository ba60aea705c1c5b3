"""passwords and second factors of the people of the shop, and where they are signed in

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)

NEW = ("recovery_codes", "totp_misses", "totp_step", "totp_at", "totp_pending", "totp_secret",
       "password_at", "password_hash")


def upgrade():
    with op.batch_alter_table("users") as table:
        table.add_column(sa.Column("password_hash", sa.String(200)))
        table.add_column(sa.Column("password_at", Moment))
        table.add_column(sa.Column("totp_secret", sa.String(64)))
        table.add_column(sa.Column("totp_pending", sa.String(64)))
        table.add_column(sa.Column("totp_at", Moment))
        table.add_column(sa.Column("totp_step", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("totp_misses", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("recovery_codes", Json, nullable=False, server_default="[]"))
    op.create_table(
        "admin_sessions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("way", sa.String(8), nullable=False),
        sa.Column("agent", sa.String(80), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("seen_at", Moment, nullable=False),
        sa.Column("ended_at", Moment),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_admin_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admin_sessions")),
    )
    op.create_index(op.f("ix_admin_sessions_user_id"), "admin_sessions", ["user_id"])


def downgrade():
    op.drop_table("admin_sessions")
    with op.batch_alter_table("users") as table:
        for column in NEW:
            table.drop_column(column)
