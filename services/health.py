"""Whether the parts of the shop are alive, each by name."""

from __future__ import annotations

from collections.abc import Callable

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from domain.clock import now
from extensions import db, doorbell
from services import leases
from services.leases import SILENT_AFTER

Part = dict[str, object]


def parts() -> dict[str, Part]:
    """``{"database": {"ok": True, "detail": "…"}, …}``; never raises."""
    checks: dict[str, Callable[[], str]] = {
        "database": _database,
        "migrations": _migrations,
        "redis": _redis,
        "worker": lambda: _alive("worker"),
        "clock": lambda: _alive("clock"),
    }
    return {name: _asked(check) for name, check in checks.items()}


def _asked(check: Callable[[], str]) -> Part:
    try:
        return {"ok": True, "detail": check()}
    except (SQLAlchemyError, RedisError, RuntimeError) as error:
        return {"ok": False, "detail": str(error).splitlines()[0][:200]}


def _database() -> str:
    with db.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return str(db.engine.dialect.name)


def _migrations() -> str:
    """The schema this code expects is there, or a newer one: a release brings its tables before
    its code, tables only grow, and what runs meanwhile is as ready as before."""
    scripts = ScriptDirectory(current_app.extensions["migrate"].directory)
    wanted = scripts.get_current_head()
    with db.engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if present is None or (present in known and present != wanted):
        raise RuntimeError(f"database is at {present}, code at {wanted}: run `flask db upgrade`")
    return str(present) if present == wanted else f"{present}, newer than this code ({wanted})"


def _redis() -> str:
    doorbell.connection.ping()
    return "answers"


def _alive(who: str) -> str:
    beat = leases.last_beat(who)
    if beat is None:
        raise RuntimeError(f"no {who} has ever reported: start `flask {who}`")
    silent = now() - beat
    if silent > SILENT_AFTER:
        raise RuntimeError(f"the {who} has been silent for {silent.total_seconds():.0f} s")
    return f"{max(0, silent.total_seconds()):.0f} s ago"
