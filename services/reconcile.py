"""The clock's work: drain what is waiting, fetch what was missed, end what ran out (rule R7).

The same pass serves ``flask sync``, the clock and the admin. It never walks finished orders: it
starts from live legs and from Stripe's list of events since a cursor.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import structlog
from flask import current_app
from sqlalchemy import or_, select, union, update

from domain.clock import now
from domain.errors import ShopError, StripeBusy, StripeError, StripeMissing, StripeUnavailable
from domain.facts import LIVE
from extensions import HungJob, atomic, reading, retrying
from gateway import current_gateway
from models import CheckoutAttempt, Order, StripeLeg
from services import inbox, leases, outbox, settle
from services.causes import EXPIRY, SYNC, Cause
from services.exceptions import open_exception

log = structlog.get_logger()

CURSOR = "events_cursor"
OVERLAP = timedelta(minutes=10)  # Stripe's ``created`` is in whole seconds and events come late
FIRST_LOOK_BACK = timedelta(days=1)
PURGE_UNPAID_AFTER = timedelta(hours=24)  # until then an unpaid attempt can be taken up again
LONGEST_LOOK_S = 3600  # a bank debit under way for days needs no look every two minutes
MOST_LOOKS = 500  # per pass: at 25 reads a second, Stripe's own limit, twenty seconds


@dataclass(slots=True)
class Tally:
    """What a pass did: ``synced`` changed something, ``skipped`` found nothing new."""

    synced: int = 0
    failed: int = 0
    skipped: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def sweep() -> int:
    """Carry out what is waiting in inbox and outbox, with or without Redis. Returns how much."""
    return inbox.drain() + outbox.drain()


def sync(*, since: datetime | None = None, cause: Cause = SYNC, due_only: bool = True) -> Tally:
    """One whole pass: missed events, then live legs, then what is owed. Safe at any time.

    ``since`` (UTC) reads the event list from there instead of from the cursor; ``due_only`` False
    looks at every live leg, also at those that were looked at a moment ago. An order that fails is
    counted and left to the next pass; it never stops the others.
    """
    tally, fresh = Tally(), []
    try:
        fresh = fetch_events(since)
    except StripeError as error:
        tally.failed += 1
        log.warning("sync.events_unreadable", error=error.code)
    inbox.drain()
    tally.synced += inbox.orders_of(fresh)
    for attempt_id, past_deadline in _live_attempts(due_only):
        _look_at(attempt_id, EXPIRY if past_deadline else cause, tally, end=past_deadline)
    outbox.drain()
    purge()
    log.info("sync.done", **tally.as_dict())
    return tally


def until_quiet(*, since: datetime | None = None, patience_s: float = 300) -> Tally:
    """Pass after pass, over every live leg, until one finds nothing left to do."""
    total, give_up_at = Tally(), time.monotonic() + patience_s
    while True:
        tally = sync(since=since, due_only=False)
        total.synced += tally.synced
        total.failed, total.skipped = tally.failed, tally.skipped
        if not tally.failed and not tally.synced and inbox.is_empty() and outbox.is_empty():
            return total
        if time.monotonic() > give_up_at:
            log.error("sync.never_quiet", **total.as_dict())
            return total
        if not tally.synced:
            time.sleep(1)  # what waits has a time of its own: a lease, a pause after a failure


def sync_order(attempt_id: str, cause: Cause) -> Tally:
    """The admin's *Sync now*: the same pass over one order."""
    tally = Tally()
    _look_at(attempt_id, cause, tally, end=False)
    outbox.drain()
    return tally


def fetch_events(since: datetime | None = None) -> list[str]:
    """Store events that never reached us; the cursor moves only after all of them are committed.

    Returns the ids of those that were new.
    """
    cursor = leases.read(CURSOR)
    usual = datetime.fromisoformat(cursor) - OVERLAP if cursor else now() - FIRST_LOOK_BACK
    start = since or usual
    newest, fresh = None, []
    for event, created in current_gateway().events_since(start):
        newest = max(newest or created, created)
        if inbox.receive(event, lane=SYNC.lane):
            fresh.append(event.id)
    if newest and start <= usual:  # a later start has left a gap that the cursor must not skip
        leases.write(CURSOR, newest.isoformat())
    return fresh


def _live_attempts(due_only: bool) -> list[tuple[str, bool]]:
    """Attempts that are not over, or have a leg that is not, and are due for a look; and whether
    their time is up. Both come from partial indexes that hold no finished order."""
    moment = now()
    unfinished = union(
        select(StripeLeg.attempt_id).where(StripeLeg.state.in_(LIVE)),
        select(CheckoutAttempt.id).where(CheckoutAttempt.state == "open"),
    ).subquery()
    query = select(CheckoutAttempt.id, CheckoutAttempt.deadline).join(
        unfinished, unfinished.c[0] == CheckoutAttempt.id
    )
    if due_only:
        query = query.where(
            or_(CheckoutAttempt.next_look_at.is_(None), CheckoutAttempt.next_look_at <= moment)
        )
    with reading() as session:
        rows = session.execute(query.order_by(CheckoutAttempt.next_look_at).limit(MOST_LOOKS)).all()
    return [(row.id, row.deadline <= moment) for row in rows]


def _look_at(attempt_id: str, cause: Cause, tally: Tally, *, end: bool) -> None:
    outcome = "error"
    try:
        settled = settle.settle(attempt_id, cause, look=True, end=end)
        outcome = "changed" if settled and settled.changed else "same"
    except (StripeUnavailable, StripeBusy) as error:
        log.warning("sync.order_unreachable", order=attempt_id, error=error.code)
    except StripeMissing as error:
        _tell_missing(attempt_id, error)
    except ShopError as error:
        log.error("sync.order_refused", order=attempt_id, error=error.message)
    except HungJob:
        raise
    except Exception:
        log.exception("sync.order_failed", order=attempt_id)
    _note_look(attempt_id, answered=outcome != "error")
    log.info("sync.order", order=attempt_id, lane=cause.lane, outcome=outcome)
    if outcome == "error":
        tally.failed += 1
    elif outcome == "changed":
        tally.synced += 1
    else:
        tally.skipped += 1


@retrying
def _tell_missing(attempt_id: str, error: StripeMissing) -> None:
    """Stripe does not have what we opened there: another account's key, or lost test data. The
    stock stays held, because only a person can know whether it was paid."""
    log.error("sync.order_missing_at_stripe", order=attempt_id, error=error.message)
    with atomic():
        open_exception(
            "missing_at_stripe",
            attempt_id,
            "Stripe does not know this order's payment page. Were the keys or the account changed?",
            order_id=attempt_id,
        )


@retrying
def _note_look(attempt_id: str, *, answered: bool) -> None:
    """Count the look, on error too, and say when the next one is due.

    Steady, so that whatever Stripe decides is seen within minutes; only a payment that the bank
    has under way for days is asked about ever more rarely.
    """
    moment = now()
    wait_s: float = current_app.extensions["settings"].reconcile_seconds
    with atomic() as session:
        attempt = session.scalar(select(CheckoutAttempt).where(CheckoutAttempt.id == attempt_id))
        if attempt is None:
            return
        if answered and attempt.is_processing:
            age_s = (moment - attempt.created_at).total_seconds()
            wait_s = max(wait_s, min(age_s / 10, LONGEST_LOOK_S))
        attempt.next_look_at = moment + timedelta(seconds=wait_s)
        if attempt.deadline > moment:
            attempt.next_look_at = min(attempt.next_look_at, attempt.deadline)
        session.execute(
            update(Order)
            .where(Order.id == attempt_id)
            .values(sync_attempts=Order.sync_attempts + 1, last_sync_attempt=moment)
            .execution_options(synchronize_session=False)
        )


def purge() -> int:
    """Forget the person in attempts that are over; the lines stay as a tombstone (rule R10)."""
    with atomic() as session:
        over = session.scalars(
            select(CheckoutAttempt)
            .where(
                CheckoutAttempt.purged_at.is_(None),
                CheckoutAttempt.closed_at.is_not(None),
                (CheckoutAttempt.state == "settled")
                | (CheckoutAttempt.closed_at <= now() - PURGE_UNPAID_AFTER),
                ~CheckoutAttempt.id.in_(
                    select(StripeLeg.attempt_id).where(StripeLeg.state.in_(LIVE))
                ),
            )
            .limit(MOST_LOOKS)
        ).all()
        for attempt in over:
            attempt.snapshot = {"lines": attempt.lines}
            attempt.purged_at = now()
        ids = [attempt.id for attempt in over]
        session.execute(
            update(StripeLeg).where(StripeLeg.attempt_id.in_(ids)).values(parameters=None)
        )
    return len(over)
