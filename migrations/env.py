"""Alembic runs inside the app: its engine, its tables."""

from contextlib import contextmanager

from alembic import context
from flask import current_app


def plain_type(kind, item, _context):
    """Migrations outlive our models, so they name SQLAlchemy's own types only."""
    if kind == "type" and type(item).__name__ == "UtcDateTime":
        return "sa.DateTime(timezone=True)"
    return False


@contextmanager
def tables_may_be_rebuilt(connection):
    """SQLite changes a column by building its table anew, and would not let the old one go while
    another table points at it. What points where is checked at the end."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = connection.connection.dbapi_connection  # the switch has no effect in a transaction
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
        lost = driver.execute("PRAGMA foreign_key_check").fetchall()
        if lost:
            raise RuntimeError(f"rows that point nowhere after the migration: {lost[:5]}")
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


database = current_app.extensions["migrate"].db


def run() -> None:
    with database.engine.connect() as connection, tables_may_be_rebuilt(connection):
        context.configure(
            connection=connection,
            target_metadata=database.metadata,
            render_as_batch=True,
            compare_type=True,
            render_item=plain_type,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


run()
