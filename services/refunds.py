"""Money back. One row per refund; only a row with Stripe's id counts."""

from __future__ import annotations

import uuid

from sqlalchemy import func, select, update

from domain.clock import now
from domain.errors import StripeRefused, StripeReplayedFailure
from domain.facts import RefundSeen
from extensions import atomic, db, insert_once, reading
from gateway import current_gateway
from models import OutboxMessage, Refund
from services import attempts, outbox
from services.exceptions import open_exception


def owe(payment_intent: str, order_id: str, reason: str) -> None:
    """Owe what is left of a payment, once, inside the caller's transaction."""
    outbox.owe("refund", payment_intent, order_id=order_id, reason=reason)


def versions(payment_intent: str) -> dict[str, int]:
    """The refund rows of a payment as they are now: note them before a look at Stripe, and apply
    the look only if they still are the same (rule R3)."""
    rows = db.session.execute(
        select(Refund.id, Refund.version).where(Refund.payment_intent == payment_intent)
    )
    return {row.id: row.version for row in rows}


def record(fact: RefundSeen, order_id: str) -> bool:
    """Write one refund down, in the row that asked for it if there is one; says if it changed.

    Call it under the attempt's lock."""
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
    """Refund what is left of a payment. The row and its key are committed before the call, and the
    row's id follows from the message, so that asking again asks for the same refund."""
    intent, order_id = message.key, message.order_id or ""
    row = _row(message)
    with reading():
        before = versions(intent)
    try:
        facts = [_ask(row)]
    except StripeReplayedFailure:
        # The key repeats a failure. Was the refund made all the same? If not, a new key may ask.
        facts = current_gateway().refunds_of(intent)
        if row.id not in [fact.our_row for fact in facts]:
            _next_generation(row)
            raise
    except StripeRefused:
        # Usually: nothing left to refund, because somebody did it in the dashboard. Look.
        facts = current_gateway().refunds_of(intent)
        if not facts:
            raise
    with atomic():
        attempts.lock(order_id)
        if versions(intent) == before:  # else an event has told us more than this answer knows
            for fact in facts:
                record(fact, order_id)
    return {"refunds": [fact.refund_id for fact in facts]}


def _row(message: OutboxMessage) -> Refund:
    row_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{message.kind}:{message.key}"))
    with atomic() as session:
        insert_once(
            Refund,
            id=row_id,
            payment_intent=message.key,
            order_id=message.order_id,
            state="asked",
            reason=message.payload["reason"],
            generation=1,
            version=1,
            created_at=now(),
        )
        return session.scalars(select(Refund).where(Refund.id == row_id)).one()


def _ask(row: Refund) -> RefundSeen:
    key = f"refund:{row.id}:g{row.generation}"
    return current_gateway().refund_rest(row.payment_intent, row=row.id, key=key)


def _next_generation(row: Refund) -> None:
    with atomic() as session:
        session.execute(
            update(Refund)
            .where(Refund.id == row.id, Refund.generation == row.generation)
            .values(generation=row.generation + 1)
            .execution_options(synchronize_session=False)
        )


def of_order(order_id: str) -> list[Refund]:
    with reading():
        return list(
            db.session.scalars(
                select(Refund).where(Refund.order_id == order_id).order_by(Refund.created_at)
            )
        )
