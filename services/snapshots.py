"""What a shopper submitted, kept for as long as its money may still come (rule R10).

It lives in the attempt's row, so that it is written in the transaction that holds the stock, and
every process sees it. Redis keeps none of it: a cache may be evicted or flushed.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import or_, select, update

from domain.clock import now
from domain.facts import LIVE, LegState
from extensions import atomic, db, reading, retrying
from models import (
    CheckoutAttempt,
    Order,
    OrderEvent,
    Payment,
    StripeEvent,
    StripeLeg,
    Subscription,
)
from services import leases
from services.plan_rows import ENDED

UNPAID_KEPT = timedelta(hours=24)  # until then an unpaid attempt can be taken up again
TOMBSTONE_KEPT = timedelta(days=35)  # longer than Stripe's list of events reaches back
MOST_AT_ONCE = 500
BURIED_UNTIL = "tombstones_buried_until"
_UNDECIDED = (LegState.CREATING, LegState.PROCESSING)


def save(**facts: Any) -> CheckoutAttempt:
    """Keep what was submitted, under a new random id, in the caller's transaction.

    ``facts`` are the columns of an attempt. The row is written when this returns: an attempt that
    is open for the same cart already makes the database refuse (IntegrityError).
    """
    attempt = CheckoutAttempt(id=str(uuid.uuid4()), **facts)
    db.session.add(attempt)
    db.session.flush()
    return attempt


def get(attempt_id: str) -> dict[str, Any] | None:
    """What was submitted, for as long as it may be read: until its deadline, and longer while the
    bank is still deciding or Stripe's answer is unknown. None otherwise."""
    with reading() as session:
        attempt = session.get(CheckoutAttempt, attempt_id)
        legs = session.scalars(select(StripeLeg).where(StripeLeg.attempt_id == attempt_id)).all()
        return attempt.snapshot if attempt and is_readable(attempt, legs) else None


def is_readable(attempt: CheckoutAttempt, legs: Iterable[StripeLeg]) -> bool:
    """Whether the person in it may still be read; ``legs`` are the attempt's."""
    if attempt.purged_at:
        return False
    in_time = attempt.state == "open" and now() < attempt.deadline
    return in_time or any(leg.state in _UNDECIDED for leg in legs)


def delete(attempt_id: str) -> None:
    """Forget the person now; the lines stay as a tombstone, so that a second use is recognised."""
    with atomic() as session:
        attempt = session.get(CheckoutAttempt, attempt_id)
        if attempt and not attempt.purged_at:
            _forget([attempt])


def purge() -> int:
    """Forget the person in attempts that are over: settled ones whose legs are final, unpaid ones
    a day after their end. Returns how many. Safe to repeat."""
    with atomic() as session:
        over = session.scalars(
            select(CheckoutAttempt)
            .where(
                CheckoutAttempt.purged_at.is_(None),
                CheckoutAttempt.closed_at.is_not(None),
                (CheckoutAttempt.state == "settled")
                | (CheckoutAttempt.closed_at <= now() - UNPAID_KEPT),
                ~CheckoutAttempt.id.in_(
                    select(StripeLeg.attempt_id).where(StripeLeg.state.in_(LIVE))
                ),
            )
            .limit(MOST_AT_ONCE)
            .with_for_update(skip_locked=True)  # someone may be taking one up again this moment
        ).all()
        _forget(over)
    return len(over)


def emptied(payload: str) -> str:
    """An event without what it says of the person."""
    event = json.loads(payload)
    kept = {name: event[name] for name in ("id", "type", "created") if name in event}
    return json.dumps({**kept, "erased": True})


def empty_event(event_id: str | None) -> None:
    """Stripe tells of somebody who was erased: keep that it did, in the caller's transaction."""
    payload = db.session.scalar(select(StripeEvent.payload).where(StripeEvent.id == event_id))
    if payload:
        db.session.execute(
            update(StripeEvent)
            .where(StripeEvent.id == event_id)
            .values(payload=emptied(payload))
            .execution_options(synchronize_session=False)
        )


def empty_if_erased(event_id: str) -> None:
    """The same for an event that is nobody's business, if it names somebody who was erased."""
    payload = db.session.scalar(select(StripeEvent.payload).where(StripeEvent.id == event_id))
    named = set(_NAMES.findall(payload or ""))
    if not named:
        return
    paid = select(Payment.attempt_id).where(
        Payment.payment_intent.in_(named) | Payment.charge_id.in_(named)
    )
    legs = select(StripeLeg.attempt_id).where(
        StripeLeg.payment_intent.in_(named) | StripeLeg.stripe_id.in_(named)
    )
    mine = or_(*(CheckoutAttempt.id.in_(some) for some in (named, paid, legs)))
    if db.session.scalar(
        select(CheckoutAttempt.id).where(mine, CheckoutAttempt.erased_at.is_not(None)).limit(1)
    ):
        empty_event(event_id)


# An attempt's id, and those of Stripe's that our rows know.
_NAMES = re.compile(
    r'"((?:cs_|pi_|seti_|in_|ch_|py_)[^"]{1,250}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"'
)


def _forget(attempts: Any) -> None:
    for attempt in attempts:
        attempt.snapshot = {"lines": attempt.lines}
        attempt.purged_at = now()
    ids = [attempt.id for attempt in attempts]
    db.session.execute(
        update(StripeLeg)
        .where(StripeLeg.attempt_id.in_(ids))
        .values(parameters=None, client_secret=None)
    )


@retrying
def bury() -> int:
    """Remove tombstones that are too old to matter and have neither order nor payment.

    It goes on where it left off, so that it never walks the attempts that have become orders.
    Returns how many were removed. Safe to repeat.
    """
    upto = now() - TOMBSTONE_KEPT
    moment, last_id = leases.read(BURIED_UNTIL) or ("2011-01-01T00:00:00+00:00", "")
    since, row = datetime.fromisoformat(moment), CheckoutAttempt
    with atomic() as session:
        passed = session.execute(
            select(row.id, row.purged_at)
            .where(row.purged_at >= since, row.purged_at <= upto)
            .where((row.purged_at > since) | (row.id > last_id))
            .order_by(row.purged_at, row.id)
            .limit(MOST_AT_ONCE)
        ).all()
        if not passed:
            return 0
        ids = [row.id for row in passed]
        kept = set(session.scalars(select(Order.id).where(Order.id.in_(ids))))
        kept |= set(session.scalars(select(Payment.attempt_id).where(Payment.attempt_id.in_(ids))))
        plans = select(Subscription.checkout_attempt_id).where(
            Subscription.checkout_attempt_id.in_(ids), Subscription.status.not_in(ENDED)
        )
        kept |= set(session.scalars(plans))
        gone = [id_ for id_ in ids if id_ not in kept]
        session.execute(delete_rows(Subscription).where(Subscription.checkout_attempt_id.in_(gone)))
        # The oldest leg of a retried attempt is named by the next one.
        mine = StripeLeg.attempt_id.in_(gone)
        session.execute(update(StripeLeg).where(mine).values(previous_id=None))
        session.execute(delete_rows(StripeLeg).where(mine))
        session.execute(delete_rows(OrderEvent).where(OrderEvent.order_id.in_(gone)))
        session.execute(delete_rows(CheckoutAttempt).where(CheckoutAttempt.id.in_(gone)))
        leases.put(BURIED_UNTIL, [passed[-1].purged_at.isoformat(), passed[-1].id])
    return len(gone)
