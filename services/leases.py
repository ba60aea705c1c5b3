"""Small facts in the ``settings`` table: cursors, leases, heartbeats."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import literal, or_, select, update

from domain.clock import now
from extensions import atomic, db, insert_once, reading
from models import Json, Setting


def read(name: str) -> Any:
    """The value of a setting, or None."""
    with reading() as session:
        return session.scalar(select(Setting.value).where(Setting.name == name))


def write(name: str, value: Any) -> None:
    """Set it; the last writer wins."""
    with atomic():
        put(name, value)


def take_lease(name: str, holder: str, seconds: int) -> bool:
    """Take or renew a lease; False while somebody else's is running.

    The database's row decides, so two clocks never tick at once, on however many machines.
    """
    moment = now()
    until = moment + timedelta(seconds=seconds)
    with atomic() as session:
        if insert_once(Setting, name=name, value=holder, until=until, updated_at=moment):
            return True
        taken = session.execute(
            update(Setting)
            .where(Setting.name == name)
            .where(or_(Setting.until <= moment, Setting.value == literal(holder, Json)))
            .values(value=holder, until=until, updated_at=moment)
            .execution_options(synchronize_session=False)
        )
        return bool(taken.rowcount)  # type: ignore[attr-defined]


def give_up_lease(name: str, holder: str) -> None:
    """Let the next one start at once."""
    with atomic() as session:
        row = session.get(Setting, name)
        if row and row.value == holder:
            row.until = now()


def beat(name: str) -> None:
    """Say that a process is alive."""
    write(f"heartbeat:{name}", now().isoformat())


def last_beat(name: str) -> datetime | None:
    """When it last said so (UTC)."""
    value = read(f"heartbeat:{name}")
    return datetime.fromisoformat(value) if value else None


def put(name: str, value: Any) -> None:
    """The same inside the caller's transaction."""
    moment = now()
    if not insert_once(Setting, name=name, value=value, updated_at=moment):
        db.session.execute(
            update(Setting)
            .where(Setting.name == name)
            .values(value=value, updated_at=moment)
            .execution_options(synchronize_session=False)
        )
