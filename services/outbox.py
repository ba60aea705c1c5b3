"""Effects that are owed to the world. Owed in the transaction that decides them, paid after it.

A row's ``kind`` and ``key`` make it one: asking twice owes once. Handlers may run more than once
(a crash between the effect and our note of it), so each must be safe to repeat or say that it is
not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import structlog
from sqlalchemy import select, update

from domain.clock import now
from domain.errors import ChangesTooFast, StripeBusy, StripeUnavailable
from extensions import (
    HungJob,
    atomic,
    db,
    doorbell,
    enqueue_after_commit,
    insert_once,
    is_postgresql,
    reading,
    retrying,
)
from models import AuditEntry, OutboxMessage
from services.exceptions import TRIED, close_exception, open_exception

log = structlog.get_logger()

LEASE_S = 60  # longer than any one effect takes; a crashed drainer's rows come free after it
MOST_TRIES = 8
LONGEST_WAIT_S = 60
MAIL_KINDS = (
    "receipt",
    "receipt_again",
    "order_links",
    "fresh_link",
    "sign_in",
    "payment_failed",
    "refunded",
    "shipped",
    "renewed",
    "past_due",
    "subscription_ended",
    "not_started",
    "alert",
    "alert_cleared",
)
BUDGET_S = 5  # a job stops itself after this and rings again

Result = dict[str, Any]
Handler = Callable[[OutboxMessage], Result]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try: a message is dead after ``MOST_TRIES`` that count, and not before it is
    ``lasts`` old. The pause between two tries doubles up to ``longest_wait_s``."""

    longest_wait_s: int = LONGEST_WAIT_S
    lasts: timedelta = timedelta(0)


_handlers: dict[str, Handler] = {}
_patience: dict[str, Patience] = {}
_forgets: set[str] = set()  # kinds whose payload names a person, and is dropped once it is done
# Who carries effects out. They settle and owe in turn, so they are found by name, when needed.
CARRIERS = (
    "services.alarms",
    "services.payback",
    "services.receipts",
    "services.remedies",
    "services.shipping",
    "services.sign_in",
    "services.subscribing",
    "services.targets",
)


class Unreachable(Exception):
    """Somebody else's outage (mail server down): wait, do not count it as a try."""


class Undelivered(Exception):
    """Whom it was for did not take it. It counts as a try; nothing of ours is to be traced."""


class NotYet(Exception):
    """Nothing was tried, because there was no hope in it before ``until``."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


def handles(
    kind: str, patience: Patience | None = None, *, forgets: bool = False
) -> Callable[[Handler], Handler]:
    """Register the function that carries out messages of ``kind``; ``forgets`` drops what they
    say once they are done."""

    def register(handler: Handler) -> Handler:
        _handlers[kind] = handler
        _patience[kind] = patience or Patience()
        if forgets:
            _forgets.add(kind)
        return handler

    return register


def owe(kind: str, key: str, *, order_id: str | None = None, **payload: Any) -> bool:
    """Note an effect inside the caller's transaction; it is carried out after the commit. Says
    whether it was not owed yet."""
    moment = now()
    is_new = insert_once(
        OutboxMessage,
        kind=kind,
        key=key,
        order_id=order_id,
        payload=payload,
        state="new",
        tries=0,
        next_at=moment,
        created_at=moment,
    )
    enqueue_after_commit("drain_outbox")
    return is_new


def drain() -> int:
    """Carry out what is due; returns how many were done. May run in many workers at once."""
    doorbell.answered("drain_outbox")
    started, done = now(), 0
    while message := _lease():
        done += _carry_out(message)
        if now() - started > timedelta(seconds=BUDGET_S):
            doorbell.ring("drain_outbox")
            break
    return done


def is_empty() -> bool:
    """Whether nothing is owed."""
    with reading() as session:
        waiting = select(OutboxMessage.id).where(OutboxMessage.state == "new").limit(1)
        return session.scalar(waiting) is None


@retrying
def _lease() -> OutboxMessage | None:
    """The next message, ours for ``LEASE_S``. One at a time: mail servers are slow, and a lease
    on many would run out before the last of them is sent."""
    moment = now()
    waiting = (
        select(OutboxMessage)
        .where(OutboxMessage.state == "new", OutboxMessage.next_at <= moment)
        .order_by(OutboxMessage.next_at, OutboxMessage.id)
        .limit(1)
    )
    if is_postgresql():
        waiting = waiting.with_for_update(skip_locked=True)
    with atomic() as session:
        message = session.scalar(waiting)
        if message:
            message.next_at = moment + timedelta(seconds=LEASE_S)
        return message


def _carry_out(message: OutboxMessage) -> bool:
    try:
        result = _handler_of(message.kind)(message)
    except (Unreachable, StripeUnavailable, StripeBusy, ChangesTooFast) as error:
        _try_again(message, error, counts=False)
        return False
    except NotYet as resting:
        _finish(message, state="new", next_at=resting.until)
        return False
    except Undelivered as error:
        log.warning("outbox.undelivered", kind=message.kind, key=message.key, why=str(error))
        _try_again(message, error, counts=True)
        return False
    except HungJob:
        raise
    except Exception as error:
        log.exception("outbox.failed", kind=message.kind, key=message.key)
        _try_again(message, error, counts=True)
        return False
    dropped: Result = {"payload": {}} if message.kind in _forgets else {}
    _finish(message, state="done", result=result, done_at=now(), error=None, **dropped)
    log.info("outbox.done", kind=message.kind, key=message.key)
    return True


def _handler_of(kind: str) -> Handler:
    if kind not in _handlers:
        for carrier in CARRIERS:
            import_module(carrier)
    return _handlers[kind]


def _try_again(message: OutboxMessage, error: Exception, *, counts: bool) -> None:
    tries, patience = message.tries + counts, _patience.get(message.kind, Patience())
    dead = tries >= MOST_TRIES and now() - message.created_at >= patience.lasts
    wait = timedelta(seconds=min(2 ** min(tries + 1, 20), patience.longest_wait_s))
    _finish(
        message,
        state="dead" if dead else "new",
        tries=tries,
        next_at=now() + wait,
        error=f"{type(error).__name__}: {error}"[:2000],
    )


def _finish(message: OutboxMessage, **values: Any) -> None:
    with atomic() as session:
        session.execute(
            update(OutboxMessage)
            .where(OutboxMessage.id == message.id, OutboxMessage.state == "new")
            .values(**values)
            .execution_options(synchronize_session=False)
        )
        if values["state"] == "dead":
            open_exception(
                "dead_effect",
                f"{message.kind}:{message.key}",
                f"{message.kind} could not be carried out: {values['error']}",
                order_id=message.order_id,
            )


def replay(name: str, actor: str) -> bool:
    """Take a dead effect (``kind:key``) up again, and close its exception; says if it was dead."""
    kind, _, key = name.partition(":")
    with atomic() as session:
        taken = session.execute(
            update(OutboxMessage)
            .where(
                OutboxMessage.kind == kind, OutboxMessage.key == key, OutboxMessage.state == "dead"
            )
            .values(state="new", tries=0, next_at=now())
            .execution_options(synchronize_session=False)
        )
        again = bool(taken.rowcount)  # type: ignore[attr-defined]
        if again:
            close_exception("dead_effect", name, TRIED, "Taken up again.", by=actor)
            session.add(AuditEntry(actor=actor, action="replayed", subject=name[:255]))
            enqueue_after_commit("drain_outbox")
    return again


def mails(limit: int = 50) -> list[OutboxMessage]:
    """Messages that were delivered as mail, newest first."""
    with reading():
        done = db.session.scalars(
            select(OutboxMessage)
            .where(OutboxMessage.kind.in_(MAIL_KINDS), OutboxMessage.state == "done")
            .order_by(OutboxMessage.id.desc())
            .limit(limit)
        )
        return [row for row in done if row.result and "not_sent" not in row.result]
