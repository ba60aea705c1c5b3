"""What people do about subscriptions: end them, or let them go on.

Whoever does asks Stripe, and then settles what Stripe says.
"""

from __future__ import annotations

from domain.clock import now
from domain.errors import Conflict, NotFound, StripeRefused
from domain.facts import News
from domain.words import Words
from extensions import atomic, reading
from gateway import current_gateway
from models import AuditEntry, Subscription
from services import history, plan_rows, settle
from services.causes import Cause
from services.plan_rows import BEGUN, ENDED


def cancel(order_id: str, row_id: int, cause: Cause, *, at_period_end: bool) -> Subscription:
    """End a subscription now, or with the period that is paid. What was paid stays paid.

    Raises NotFound, Conflict if it has ended, and the Stripe errors; after an unknown outcome it
    may be called again.
    """
    row = _row(order_id, row_id)
    if row.status in ENDED:
        raise Conflict(Words("This subscription has ended already. Nothing more is charged."))
    gateway = current_gateway()
    if at_period_end and row.status in BEGUN:
        try:
            gateway.let_run_out(row.stripe_id, leaves=True)
        except StripeRefused as refused:
            raise Conflict(Words("This subscription has ended already.")) from refused
        did = "set to end with its period"
    else:  # there is no paid period to wait for
        gateway.end_subscription(row.stripe_id)
        did = "ended now"
    return _noted(row, cause, did)


def resume(order_id: str, row_id: int, cause: Cause) -> Subscription:
    """Let a subscription go on that was to end with its period. Raises as ``cancel``."""
    row = _row(order_id, row_id)
    if row.status in ENDED:
        raise Conflict(Words("This subscription has ended. Order it again to start a new one."))
    try:
        current_gateway().let_run_out(row.stripe_id, leaves=False)
    except StripeRefused as refused:
        raise Conflict(Words("This subscription has ended already.")) from refused
    return _noted(row, cause, "goes on")


def refresh(order_id: str, cause: Cause) -> bool:
    """Settle what Stripe says of the subscriptions of an order and of their newest invoices; says
    whether that was news. Raises the Stripe errors."""
    changed = False
    for stripe_id in dict.fromkeys(row.stripe_id for row in plan_rows.of_order(order_id)):
        changed |= _settled(order_id, cause, "subscription", stripe_id)
    for invoice in dict.fromkeys(row.latest_invoice for row in plan_rows.of_order(order_id)):
        changed |= bool(invoice) and _settled(order_id, cause, "invoice", invoice or "")
    return changed


def _settled(order_id: str, cause: Cause, kind: str, stripe_id: str) -> bool:
    """Read one object afresh and settle what it says; says whether that was news."""
    read = News("", kind, stripe_id, reads=(kind, stripe_id))
    settled = settle.settle(order_id, cause, news=read)
    return settled is not None and settled.changed


def _row(order_id: str, row_id: int) -> Subscription:
    if row_id >= 2**31:  # no database has such a row
        raise NotFound(Words("There is no such subscription."))
    with reading() as session:
        row = session.get(Subscription, row_id)
    if row is None or row.checkout_attempt_id != order_id:
        raise NotFound(Words("There is no such subscription."))
    return row


def _noted(row: Subscription, cause: Cause, did: str) -> Subscription:
    """Settle what Stripe says of it now, and write down who asked."""
    assert row.checkout_attempt_id is not None
    _settled(row.checkout_attempt_id, cause, "subscription", row.stripe_id)
    with atomic() as session:
        history.noted(row.checkout_attempt_id, "plan", cause, f"{row.title}: {did}")
        if cause.actor:
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
