"""Flask extensions, and how the shop opens a transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from flask import request
from flask_babel import Babel
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from htmx_flask import Htmx
from sqlalchemy import Engine, MetaData, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session

from doorbell import Doorbell, ForgedJob, HungJob

__all__ = ["ForgedJob", "HungJob"]  # re-exported: services know of no queue but this

P = ParamSpec("P")
R = TypeVar("R")


class Base(DeclarativeBase):
    """Ground of all tables; every constraint has a name, so that a migration can drop it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


# Nothing expires at a commit, so that a page may show what a finished transaction loaded; and every
# query brings fresh values, so that no transaction decides on what an earlier one saw.
SESSION = {"expire_on_commit": False, "execution_options": {"populate_existing": True}}
db = SQLAlchemy(model_class=Base, session_options=SESSION)
migrate = Migrate(directory="migrations", render_as_batch=True)
csrf = CSRFProtect()
htmx = Htmx()
babel = Babel()
doorbell = Doorbell()
# A limiter that cannot count must not close the shop: it counts in memory while Redis is down.
limiter = Limiter(get_remote_address, in_memory_fallback_enabled=True, swallow_errors=True)
limiter.request_filter(lambda: request.blueprint == "webhooks")  # Stripe may come as fast as it can

TRIES = 5  # of a transaction that lost a deadlock; each loser waits a little longer
_RETRYABLE = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
_AFTER_COMMIT = "after_commit"
_TOLD_AFTER = "told_after_commit"
_DEPTH = "in_atomic"
_REHEARSAL = "rehearsal"


class NestedTransaction(RuntimeError):
    """A service called another service inside its own transaction."""


@contextmanager
def atomic() -> Iterator[Session]:
    """One transaction: commits at the end, rolls back on any error, never nests.

    On SQLite it takes the write lock at once (BEGIN IMMEDIATE), so that a read which leads to a
    write cannot be overtaken. What ``enqueue_after_commit`` noted is rung after the commit, and
    then what ``after_commit`` noted is called.
    """
    session = db.session()
    if session.info.get(_DEPTH):
        raise NestedTransaction("atomic() inside atomic(): one operation, one transaction")
    if session.in_transaction():
        _let_go(session)  # a read before us left one open; it holds nothing
    session.info[_DEPTH] = True
    session.info[_AFTER_COMMIT] = []
    look = session.info.get(_REHEARSAL)
    session.info[_TOLD_AFTER] = []
    try:
        session.connection(execution_options={"begin": "BEGIN IMMEDIATE"})
        if look:
            look()
        yield session
        if look:
            _end_rehearsal(session, look)
        else:
            session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.info[_DEPTH] = False
    rings, calls = session.info.pop(_AFTER_COMMIT, []), session.info.pop(_TOLD_AFTER, [])
    for ring in rings:
        doorbell.ring(ring)
    for call in calls:
        call()


@contextmanager
def rehearsing(look: Callable[[], None]) -> Iterator[None]:
    """Let every ``atomic()`` of this thread end in a rollback, whoever opens it: nothing is kept
    and nothing is rung. ``look`` is called at its start and before its end, to see the difference.
    """
    session = db.session()
    session.info[_REHEARSAL] = look
    try:
        yield
    finally:
        del session.info[_REHEARSAL]


def _end_rehearsal(session: Session, look: Callable[[], None]) -> None:
    session.flush()
    look()
    session.rollback()
    session.info[_AFTER_COMMIT] = session.info[_TOLD_AFTER] = []


@contextmanager
def reading() -> Iterator[Session]:
    """Read, then let go: no transaction stays open behind it (rule R1)."""
    session = db.session()
    try:
        yield session
    except DBAPIError:  # the connection may be gone, and then there is nothing to commit
        if not session.info.get(_DEPTH):
            session.rollback()
        raise
    finally:
        if not session.info.get(_DEPTH):
            _let_go(session)


def _let_go(session: Session) -> None:
    """End a transaction that only read; what it read stays as it is, which a rollback forgets."""
    try:
        session.commit()
    except SQLAlchemyError:
        session.rollback()
        raise


def enqueue_after_commit(job: str) -> None:
    """Ring for ``job`` (a name of ``doorbell.JOBS``) once the open ``atomic()`` has committed."""
    rings: list[str] = db.session().info[_AFTER_COMMIT]
    if job not in rings:
        rings.append(job)


def after_commit(call: Callable[[], None]) -> None:
    """Call it once the open ``atomic()`` has committed, and not at all if it rolls back or the
    process dies in between. It must not raise: what was committed is committed."""
    db.session().info[_TOLD_AFTER].append(call)


def in_transaction() -> bool:
    """Whether this thread holds a database transaction open right now."""
    return bool(db.session().in_transaction())


def retrying(function: Callable[P, R]) -> Callable[P, R]:
    """Repeat a function that lost a deadlock or a serialization race.

    Only for functions whose every effect is inside one ``atomic()``: the loser did nothing.
    """

    @wraps(function)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, TRIES + 1):
            try:
                return function(*args, **kwargs)
            except DBAPIError as error:
                if attempt == TRIES or not lost_a_race(error):
                    raise
                time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter, no secret
        raise AssertionError("unreachable")

    return repeated


def lost_a_race(error: DBAPIError) -> bool:
    """Whether the database asks to try the same transaction again."""
    state = getattr(error.orig, "sqlstate", None)
    return state in _RETRYABLE or "database is locked" in str(error.orig)


def wait_for_others(name: str) -> None:
    """Let one transaction at a time go on that has called this with the same name; it ends with the
    transaction. SQLite lets one write at a time anyway."""
    if is_postgresql():
        db.session.execute(_ALONE, {"name": name})


_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


def is_postgresql() -> bool:
    """Whether this shop's database locks rows; SQLite locks the whole file instead."""
    return bool(db.engine.dialect.name == "postgresql")


def tune_sqlite(engine: Engine) -> None:
    """WAL, full durability and a patient wait; transactions begin exactly when we say so."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin on its own
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=5000",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def insert_once(table: Any, **values: Any) -> bool:
    """Insert a row of a model unless its key is taken; says whether it was new. A Core statement:
    on the hot path an ORM insert costs two and a half times as much."""
    return db.session.execute(inserting_once(table), values).first() is not None


def inserting_once(table: Any) -> Any:
    """The statement of ``insert_once``; it returns a row if it wrote one. (An insert's rowcount is
    unknown to some drivers.) The values are its parameters."""
    return _inserting_once(table.__table__, dialect_insert())


@cache  # building and hashing a statement costs more than sending it
def _inserting_once(core: Any, insert: Callable[[Any], Any]) -> Any:
    return insert(core).on_conflict_do_nothing().returning(*core.primary_key)


@contextmanager
def one_statement() -> Iterator[Connection]:
    """A transaction of one statement, which on PostgreSQL needs no BEGIN and no COMMIT."""
    if not is_postgresql():
        with db.engine.begin() as connection:
            yield connection
        return
    with db.engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def dialect_insert() -> Callable[[Any], Any]:
    """The INSERT of this database that knows ON CONFLICT."""
    return postgresql.insert if is_postgresql() else sqlite.insert
