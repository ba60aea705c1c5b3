"""The clock's work: drain what is waiting, fetch what was missed, end what ran out (rule R7).

The same pass serves ``flask sync``, the clock and the admin. It never walks finished orders: it
starts from live legs and from Stripe's list of events since a cursor.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import structlog
from flask import current_app
from sqlalchemy import or_, select, union, update

from domain.clock import now
from domain.errors import ShopError, StripeBusy, StripeError, StripeMissing, StripeUnavailable
from domain.facts import LIVE, News
from extensions import HungJob, atomic, reading, retrying
from gateway import current_gateway
from models import CheckoutAttempt, Order, Payment, StripeLeg
from services import (
    disputes,
    inbox,
    leases,
    outbox,
    settings,
    settle,
    sign_in,
    snapshots,
    subscriptions,
)
from services.causes import EXPIRY, SYNC, Cause
from services.check import BEGINNING
from services.exceptions import heal, open_exception

log = structlog.get_logger()

CURSOR = "events_cursor"
OVERLAP = timedelta(minutes=10)  # Stripe's ``created`` is in whole seconds and events come late
FIRST_LOOK_BACK = timedelta(days=1)
EVENTS_KEPT = timedelta(days=30)  # by Stripe's list of events; what is older is read as objects
PAID_LATER = timedelta(days=15)  # a session may be that old when its bank debit arrives
LONGEST_LOOK_S = 3600  # a bank debit under way for days needs no look every two minutes
MOST_LOOKS = 500  # per pass
LOOKS_PER_S = 20  # Stripe answers 25 reads a second of one kind; shoppers need some of them
FIRST_RETRY_S, LONGEST_RETRY_S = 15, 150  # 15, 30, 60, 120, 150: well within 300 s of an outage
OUTAGE_AFTER = 3  # calls in a row without an answer: the pass stops and leaves the rest to the next
SHOWN_FAILED_AFTER = 3  # failed looks in a row


@dataclass(slots=True)
class Tally:
    """What a pass did: ``synced`` changed something, ``skipped`` found nothing new or did not come
    to be looked at."""

    synced: int = 0
    failed: int = 0
    skipped: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class _Outage(Exception):
    """Stripe does not answer, or asks us to slow down: going on would only make it worse."""


def sweep() -> int:
    """Carry out what is waiting in inbox and outbox, with or without Redis, and look again at
    orders whose last look failed. Returns how much was waiting."""
    done = inbox.drain() + outbox.drain()
    if settings.current().background_sync:
        _look_at_all(_live_attempts(due_only=True, failed_only=True), SYNC, Tally())
    return done


def by_clock() -> Tally | None:
    """The clock's pass; None while an admin has switched it off. People are forgotten even then."""
    if settings.current().background_sync:
        return sync()
    log.warning("sync.switched_off")
    _tidy()
    return None


def sync(
    *,
    since: datetime | None = None,
    cause: Cause = SYNC,
    due_only: bool = True,
    budget_s: float | None = None,
) -> Tally:
    """One whole pass: missed events, then live legs, then what is owed. Safe at any time.

    ``since`` (UTC) reads the event list from there instead of from the cursor, and beyond the 30
    days that it reaches back, the payments themselves; ``due_only`` False looks at every live leg,
    also at those that were looked at a moment ago. An order that fails is counted and left to the
    next pass; it never stops the others. While Stripe does not answer, the rest is left as well,
    and so it is after ``budget_s`` seconds, for whoever waits for an answer.
    """
    tally, fresh, reachable = Tally(), [], True
    since = max(since, BEGINNING) if since else None
    try:
        fresh = fetch_events(since)
        inbox.drain()  # what events have told need not be read as objects, nor be counted twice
        if since and since < now() - EVENTS_KEPT:
            fetch_payments(since - PAID_LATER, cause, tally)
    except StripeError as error:
        tally.failed += 1
        reachable = False
        log.warning("sync.stripe_unreachable", error=error.code)
    inbox.drain()
    tally.synced += inbox.orders_of(fresh)
    if reachable:
        _look_at_all(_live_attempts(due_only), cause, tally, budget_s)
    outbox.drain()
    _tidy()
    log.info("sync.done", **tally.as_dict())
    return tally


def until_quiet(*, since: datetime | None = None, patience_s: float = 300) -> Tally:
    """Pass after pass, over every live leg, until one finds nothing left to do. What lies further
    back than the cursor is read until Stripe has answered once, and not on every pass."""
    total, give_up_at = Tally(), time.monotonic() + patience_s
    while True:
        tally = sync(since=since, due_only=False)
        since = since if tally.failed else None
        total.synced += tally.synced
        total.failed, total.skipped = tally.failed, tally.skipped
        if tally.synced:
            give_up_at = time.monotonic() + patience_s
        if not tally.failed and not tally.synced and inbox.is_empty() and outbox.is_empty():
            return total
        if time.monotonic() > give_up_at:
            log.error("sync.never_quiet", **total.as_dict())
            return total
        if not tally.synced:
            time.sleep(1)  # what waits has a time of its own: a lease, a pause after a failure


def sync_order(attempt_id: str, cause: Cause) -> Tally:
    """The admin's *Sync now*: the same pass over one order, and over its subscriptions and
    disputes, which otherwise only events tell of."""
    tally = Tally()
    with contextlib.suppress(_Outage):  # counted as failed
        _look_at(attempt_id, cause, tally, end=False)
        try:
            if subscriptions.refresh(attempt_id, cause) | _refresh_disputes(attempt_id, cause):
                tally = Tally(synced=1)
        except ShopError as error:
            tally = Tally(failed=1)
            log.warning("sync.order_unreachable", order=attempt_id, error=error.code)
    outbox.drain()
    return tally


def _refresh_disputes(order_id: str, cause: Cause) -> bool:
    """Settle what Stripe says of the disputes that we know; says whether that was news."""
    changed = False
    for row in disputes.of_order(order_id):
        read = News("", "dispute", row.stripe_id, reads=("dispute", row.stripe_id))
        settled = settle.settle(order_id, cause, news=read)
        changed |= settled is not None and settled.changed
    return changed


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


def fetch_payments(since: datetime, cause: Cause, tally: Tally) -> None:
    """Read what could be paid through since then, and settle what we do not have of its payments:
    for what Stripe's list of events no longer tells. Sessions come first, because an attempt can be
    made anew from one. What fails never stops the others."""
    gateway = current_gateway()
    for attempt_id, said in chain(
        gateway.sessions_since(since), gateway.intents_since(since), gateway.invoices_since(since)
    ):
        news = News("", "payments", attempt_id=attempt_id, facts=said)
        if news.payment is None or _is_known(news.payment.payment_intent):
            continue
        try:
            if inbox.take(news, cause) or inbox.tell_unmatched(news):
                tally.synced += 1
        except StripeError:
            raise
        except HungJob:
            raise
        except Exception:
            tally.failed += 1
            log.exception("sync.payment_failed", order=attempt_id)


def _is_known(payment_intent: str) -> bool:
    with reading() as session:
        return bool(
            session.scalar(select(Payment.id).where(Payment.payment_intent == payment_intent))
        )


def _live_attempts(due_only: bool, *, failed_only: bool = False) -> list[tuple[str, bool]]:
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
    if failed_only:
        query = query.where(CheckoutAttempt.failed_looks > 0)
    with reading() as session:
        most = MOST_LOOKS if due_only else None
        rows = session.execute(query.order_by(CheckoutAttempt.next_look_at).limit(most)).all()
    return [(row.id, row.deadline <= moment) for row in rows]


def _look_at_all(
    found: list[tuple[str, bool]], cause: Cause, tally: Tally, budget_s: float | None = None
) -> None:
    """Look at one after the other, no faster than Stripe likes, until it stops answering."""
    unanswered, began = 0, time.monotonic()
    for number, (attempt_id, past_deadline) in enumerate(found):
        started = time.monotonic()
        if budget_s is not None and started - began > budget_s:
            tally.skipped += len(found) - number
            return
        try:
            _look_at(attempt_id, EXPIRY if past_deadline else cause, tally, end=past_deadline)
            unanswered = 0
        except _Outage as outage:
            unanswered += 1
            if unanswered == OUTAGE_AFTER or isinstance(outage.__cause__, StripeBusy):
                left = len(found) - number - 1
                tally.skipped += left
                log.warning("sync.stopped_early", left=left)
                return
        pause(started + 1 / LOOKS_PER_S - time.monotonic())


def pause(seconds: float) -> None:
    if seconds > 0:
        time.sleep(seconds)


def _look_at(attempt_id: str, cause: Cause, tally: Tally, *, end: bool) -> None:
    """Look at one order; raises _Outage, after everything was noted, if Stripe did not answer."""
    outcome, outage = "error", None
    try:
        settled = settle.settle(attempt_id, cause, look=True, end=end)
        outcome = "changed" if settled and settled.changed else "same"
    except (StripeUnavailable, StripeBusy) as error:
        outage = error
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
    if outage:
        raise _Outage from outage


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

    Steady while Stripe answers, so that whatever it decides is seen within minutes; only what waits
    for days, a bank's decision or a first invoice that its shopper is to pay, is asked about ever
    more rarely. After an error soon, and then twice as late each time.
    """
    moment = now()
    wait_s: float = current_app.extensions["settings"].reconcile_seconds
    with atomic() as session:
        attempt = session.scalar(select(CheckoutAttempt).where(CheckoutAttempt.id == attempt_id))
        if attempt is None:
            return
        was_lost = attempt.failed_looks > 0
        attempt.failed_looks = 0 if answered else attempt.failed_looks + 1
        if not answered:
            doublings = min(attempt.failed_looks - 1, 10)
            wait_s = min(FIRST_RETRY_S * 2**doublings, LONGEST_RETRY_S)
        elif attempt.is_processing or attempt.state == "settled":
            age_s = (moment - attempt.created_at).total_seconds()
            wait_s = max(wait_s, min(age_s / 10, LONGEST_LOOK_S))
        attempt.next_look_at = moment + timedelta(seconds=wait_s)
        if attempt.deadline > moment:
            attempt.next_look_at = min(attempt.next_look_at, attempt.deadline)
        noted: dict[str, Any] = {
            "sync_attempts": Order.sync_attempts + 1,
            "last_sync_attempt": moment,
        }
        if attempt.state == "open":
            is_lost = attempt.failed_looks >= SHOWN_FAILED_AFTER
            noted["sync_status"] = "failed" if is_lost else "syncing"
        session.execute(
            update(Order)
            .where(Order.id == attempt_id)
            .values(noted)
            .execution_options(synchronize_session=False)
        )
        if was_lost and answered:
            session.flush()
            heal(attempt_id)


def _tidy() -> None:
    """Forget people, and then the attempts themselves, when their time is over (rule R10)."""
    snapshots.purge()
    snapshots.bury()
    sign_in.tidy()
