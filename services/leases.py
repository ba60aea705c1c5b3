"""Small facts in the ``settings`` table: cursors, leases, heartbeats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import literal, or_, select, update

from domain.clock import now
from extensions import atomic, db, insert_once, reading
from models import Json, Setting

SILENT_AFTER = timedelta(seconds=50)  # heartbeats come every 10 s; named dead within a minute
SILENCES_KEPT = timedelta(hours=24)  # as far back as uptime is told; at most 1,440 fit into it


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


@dataclass(frozen=True, slots=True)
class Pulse:
    """A process as its beats tell it: ``since`` its first one (UTC), and when it was silent."""

    since: datetime
    last: datetime
    silences: tuple[tuple[datetime, datetime], ...] = ()


def beat(name: str) -> None:
    """Say that a process is alive. A silence that ends with this beat is noted.

    Only silences are kept, so that a healthy process leaves two rows for ever. Of two workers that
    end the same silence one notes it: the row of the last beat is locked.
    """
    moment = now()
    with atomic() as session:
        mine = select(Setting).where(Setting.name == _beat_of(name)).with_for_update()
        row = session.scalar(mine)
        before = datetime.fromisoformat(row.value) if row else moment
        insert_once(
            Setting,
            name=_silences_of(name),
            value={"since": before.isoformat(), "silences": []},
            updated_at=moment,
        )
        if moment - before > SILENT_AFTER:
            _note_silence(name, before, moment)
        put(_beat_of(name), max(before, moment).isoformat())


def last_beat(name: str) -> datetime | None:
    """When it last said so (UTC)."""
    value = read(_beat_of(name))
    return datetime.fromisoformat(value) if value else None


def pulse(name: str) -> Pulse | None:
    """What its beats tell, or None if it never reported."""
    last, kept = last_beat(name), read(_silences_of(name))
    if last is None:
        return None
    if kept is None:  # it last reported before silences were kept
        return Pulse(last, last)
    return Pulse(datetime.fromisoformat(kept["since"]), last, _read_silences(kept))


def is_alive(pulse: Pulse | None) -> bool:
    """Whether it has reported, and is not silent now."""
    return pulse is not None and now() - pulse.last <= SILENT_AFTER


def _note_silence(name: str, start: datetime, end: datetime) -> None:
    row = db.session.scalars(select(Setting).where(Setting.name == _silences_of(name))).one()
    recent = [pair for pair in _read_silences(row.value) if pair[1] > end - SILENCES_KEPT]
    told = [[a.isoformat(), b.isoformat()] for a, b in (*recent, (start, end))]
    put(_silences_of(name), {"since": row.value["since"], "silences": told})


def _read_silences(kept: dict[str, Any]) -> tuple[tuple[datetime, datetime], ...]:
    moments = ((datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in kept["silences"])
    return tuple(moments)


def _beat_of(name: str) -> str:
    return f"heartbeat:{name}"


def _silences_of(name: str) -> str:
    return f"silences:{name}"


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
