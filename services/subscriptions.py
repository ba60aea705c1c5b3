"""What people do about subscriptions: end them, or let them go on.

Whoever does asks Stripe, and then settles what Stripe says.
"""

from __future__ import annotations

from domain.clock import now
from domain.errors import Conflict, NotFound, StripeRefused
from domain.facts import News
from extensions import atomic, reading
from gateway import current_gateway
from models import AuditEntry, Subscription
from services import settle
from services.causes import Cause
from services.plan_rows import BEGUN, ENDED


def cancel(order_id: str, row_id: int, cause: Cause, *, at_period_end: bool) -> Subscription:
    """End a subscription now, or with the period that is paid. What was paid stays paid.

    Raises NotFound, Conflict if it has ended, and the Stripe errors; after an unknown outcome it
    may be called again.
    """
    row = _row(order_id, row_id)
    if row.status in ENDED:
        raise Conflict("This subscription has ended already. Nothing more is charged.")
    gateway = current_gateway()
    if at_period_end and row.status in BEGUN:
        try:
            gateway.let_run_out(row.stripe_id, leaves=True)
        except StripeRefused as refused:
            raise Conflict("This subscription has ended already.") from refused
        did = "set to end with its period"
    else:  # there is no paid period to wait for
        gateway.end_subscription(row.stripe_id)
        did = "ended now"
    return _noted(row, cause, did)


def resume(order_id: str, row_id: int, cause: Cause) -> Subscription:
    """Let a subscription go on that was to end with its period. Raises as ``cancel``."""
    row = _row(order_id, row_id)
    if row.status in ENDED:
        raise Conflict("This subscription has ended. Order it again to start a new one.")
    try:
        current_gateway().let_run_out(row.stripe_id, leaves=False)
    except StripeRefused as refused:
        raise Conflict("This subscription has ended already.") from refused
    return _noted(row, cause, "goes on")


def _row(order_id: str, row_id: int) -> Subscription:
    with reading() as session:
        row = session.get(Subscription, row_id)
    if row is None or row.checkout_attempt_id != order_id:
        raise NotFound("There is no such subscription.")
    return row


def _noted(row: Subscription, cause: Cause, did: str) -> Subscription:
    """Settle what Stripe says of it now, and write down who asked."""
    assert row.checkout_attempt_id is not None
    reads = News("", "subscription", row.stripe_id, reads=("subscription", row.stripe_id))
    settle.settle(row.checkout_attempt_id, cause, news=reads)
    if cause.actor:
        with atomic() as session:
            session.add(
                AuditEntry(
                    at=now(),
                    actor=cause.actor,
                    action="subscription",
                    subject=row.checkout_attempt_id,
                    detail=f"{row.title}: {did}",
                )
            )
    return _row(row.checkout_attempt_id, row.id)
