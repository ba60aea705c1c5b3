"""Alembic runs inside the app: its engine, its tables."""

import time
from contextlib import contextmanager

from alembic import context
from flask import current_app
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

# A change of a table waits for whoever reads it, and whoever comes later waits for the change: one
# long query would stop the shop. So the change gives up soon, lets the others by and tries again.
LOCK_TIMEOUT = "2s"
TRIES, PAUSE_S = 30, 1
LOCK_NOT_AVAILABLE = "55P03"


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
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.commit()
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


def run_beside_others() -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            run()
            break
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", "") != LOCK_NOT_AVAILABLE or not tries_left:
                raise
            time.sleep(PAUSE_S)


run_beside_others()
