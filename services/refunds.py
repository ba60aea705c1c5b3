"""Money back. One row per refund; only a row with Stripe's id counts."""

from __future__ import annotations

import uuid

from sqlalchemy import func, select

from domain.errors import StripeRefused
from domain.facts import RefundSeen
from extensions import atomic, db, reading
from gateway import current_gateway
from models import OutboxMessage, Refund
from services import outbox
from services.exceptions import open_exception


def owe(payment_intent: str, order_id: str, reason: str) -> None:
    """Owe what is left of a payment, once, inside the caller's transaction."""
    outbox.owe("refund", payment_intent, order_id=order_id, reason=reason)


def record(fact: RefundSeen, order_id: str) -> bool:
    """Write one refund down, in the row that asked for it if there is one; says if it changed."""
    row = db.session.scalar(select(Refund).where(Refund.stripe_id == fact.refund_id))
    if row is None and fact.our_row:
        row = db.session.get(Refund, fact.our_row)
    if row is None:
        row = Refund(id=str(uuid.uuid4()), payment_intent=fact.payment_intent, state="asked")
        db.session.add(row)
    seen = (fact.refund_id, fact.amount, fact.currency, fact.status)
    if (row.stripe_id, row.amount, row.currency, row.state) == seen:
        return False
    if row.state == "succeeded" and fact.status in ("failed", "canceled"):
        open_exception(
            "refund_failed",
            fact.refund_id,
            "A refund that had succeeded was given back by the bank. The shopper was not repaid.",
            order_id=order_id,
            amount=fact.amount,
            currency=fact.currency,
        )
    row.stripe_id, row.amount, row.currency, row.state = seen
    row.order_id = order_id
    row.version = (row.version or 0) + 1
    return True


def sum_of(payment_intents: list[str]) -> int:
    """Succeeded refunds of these payments, minor units."""
    if not payment_intents:
        return 0
    return (
        db.session.scalar(
            select(func.coalesce(func.sum(Refund.amount), 0)).where(
                Refund.payment_intent.in_(payment_intents), Refund.state == "succeeded"
            )
        )
        or 0
    )


@outbox.handles("refund")
def carry_out(message: OutboxMessage) -> outbox.Result:
    """Refund what is left of a payment. The row and its key are written before the call."""
    intent, order_id = message.key, message.order_id or ""
    with atomic() as session:
        row = session.scalar(
            select(Refund).where(
                Refund.payment_intent == intent, Refund.reason == message.payload["reason"]
            )
        )
        if row is None:
            row = Refund(
                id=str(uuid.uuid4()),
                payment_intent=intent,
                order_id=order_id,
                reason=message.payload["reason"],
            )
            session.add(row)
        row_id = row.id
    try:
        fact = current_gateway().refund_rest(intent, row=row_id, key=f"refund:{row_id}")
    except StripeRefused as refusal:
        # Usually: nothing left to refund, because somebody did it in the dashboard. Look.
        seen = current_gateway().refunds_of(intent)
        if not seen:
            raise
        with atomic():
            for refund in seen:
                record(refund, order_id)
        return {"refused": refusal.message, "refunds": [refund.refund_id for refund in seen]}
    with atomic():
        record(fact, order_id)
    return {"refund": fact.refund_id, "amount": fact.amount}


def of_order(order_id: str) -> list[Refund]:
    with reading():
        return list(
            db.session.scalars(
                select(Refund).where(Refund.order_id == order_id).order_by(Refund.created_at)
            )
        )
