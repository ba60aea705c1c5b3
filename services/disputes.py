"""Money that a shopper's bank has taken back, or asks about: mirrors of Stripe's disputes.

A dispute is answered in Stripe's dashboard, with the evidence that the order's page gathers; what
becomes of it comes here by event and by the reconciler.
"""

from __future__ import annotations

from sqlalchemy import select

from domain.clock import now
from domain.facts import DisputeSeen
from domain.money import display
from extensions import db, reading
from models import Dispute
from services.exceptions import DISPUTE_ENDS, open_exception

# Those of Stripe's statuses that end a dispute in the shop's favour; while in any other, the order
# is disputed.
HARMLESS = ("won", "warning_closed", "prevented")
DECIDED = DISPUTE_ENDS
UNANSWERED = ("needs_response", "warning_needs_response", "appeal_needs_response")


def of(payment_intents: list[str]) -> list[Dispute]:
    """Those of these payments, oldest first; inside the caller's transaction."""
    if not payment_intents:
        return []
    found = select(Dispute).where(Dispute.payment_intent.in_(payment_intents))
    return list(db.session.scalars(found.order_by(Dispute.id)))


def of_order(order_id: str) -> list[Dispute]:
    """Those of one order, for a page."""
    with reading():
        found = select(Dispute).where(Dispute.order_id == order_id).order_by(Dispute.id)
        return list(db.session.scalars(found))


def waiting() -> list[Dispute]:
    """Those that nobody has answered, the most urgent first."""
    with reading():
        found = select(Dispute).where(Dispute.status.in_(UNANSWERED))
        return list(db.session.scalars(found.order_by(Dispute.due_by.nulls_last(), Dispute.id)))


def why_held(order_id: str) -> str | None:
    """Why nothing of an order is packed or sent, or None; call it under the attempt's lock to
    decide by it."""
    found = select(Dispute.status).where(
        Dispute.order_id == order_id, Dispute.status.not_in(HARMLESS)
    )
    statuses = set(db.session.scalars(found))
    if not statuses:
        return None
    if "lost" in statuses:
        return "The shopper’s bank has taken this payment back, so nothing of it is packed or sent."
    if all(map(is_inquiry, statuses)):
        return (
            "The shopper’s bank asks about this payment. Nothing is packed or sent until it says "
            "that all is well."
        )
    return (
        "The shopper’s bank disputes this payment. Nothing is packed or sent until the dispute is "
        "won."
    )


def shown_why_held(order_id: str) -> str | None:
    """``why_held`` for a page."""
    with reading():
        return why_held(order_id)


def are_decided(order_id: str) -> bool:
    """Whether the bank has nothing of this order left to decide, for a page."""
    return all(row.status in DECIDED for row in of_order(order_id))


def not_refundable(payment_intents: list[str]) -> dict[str, str]:
    """The payments of these of which Stripe refunds nothing, because the bank has taken the money
    already, each with the status of its dispute; of an inquiry the money is still here."""
    return {
        row.payment_intent: row.status
        for row in of(payment_intents)
        if is_harmful(row) and not is_inquiry(row.status)
    }


def versions(attempt_id: str) -> dict[str, int]:
    """The rows of an attempt as they are now (rule R3)."""
    rows = db.session.execute(
        select(Dispute.stripe_id, Dispute.version).where(Dispute.order_id == attempt_id)
    )
    return {row.stripe_id: row.version for row in rows}


def record(fact: DisputeSeen, order_id: str, rows: list[Dispute]) -> bool:
    """Write one down under the attempt's lock, adding it to ``rows`` if it is new; says if anything
    changed. A person is told when it opens; once it is decided that heals."""
    row = next((row for row in rows if row.stripe_id == fact.dispute_id), None)
    if row is None:
        row = Dispute(stripe_id=fact.dispute_id, status="", version=0, opened_at=now())
        db.session.add(row)
        rows.append(row)
    seen = {
        "payment_intent": fact.payment_intent,
        "order_id": order_id,
        "amount": fact.amount,
        "currency": fact.currency,
        "status": fact.status,
        "reason": fact.reason,
        "due_by": fact.due_by,
    }
    if all(getattr(row, name) == value for name, value in seen.items()):
        return False
    for name, value in seen.items():
        setattr(row, name, value)
    row.version += 1
    if fact.status not in DISPUTE_ENDS:
        _tell(fact, order_id)
    return True


def _tell(fact: DisputeSeen, order_id: str) -> None:
    sum_ = display(fact.amount, fact.currency)
    due = f" Answer it by {fact.due_by.day} {fact.due_by:%B %Y}." if fact.due_by else ""
    open_exception(
        "dispute",
        fact.dispute_id,
        f"The shopper's bank disputes {sum_} ({fact.reason.replace('_', ' ')}).{due}",
        order_id=order_id,
        amount=fact.amount,
        currency=fact.currency,
    )


def is_harmful(row: Dispute) -> bool:
    """Whether it keeps the order disputed."""
    return row.status not in HARMLESS


def is_inquiry(status: str) -> bool:
    """Whether the bank only asks, and has taken nothing so far."""
    return status.startswith("warning_")
