"""A part of the proof: that orders add up, that Stripe adds them up in the same way, and that no
invoice is missing. Each finding is (invariant, subject, detail, repair)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import exists, func, or_, select

from extensions import db, reading
from gateway import current_gateway
from models import CheckoutAttempt, Counter, Invoice, Order, OrderItem, ShopException, StripeLeg
from services.invoices import COUNTER

Finding = tuple[str, str, str, str]
DEFECT = "this is a defect: report it with `flask export`"


def add_up() -> tuple[int, list[Finding]]:
    """subtotal − discount + shipping + tax is the total, of every order; its lines carry the whole
    discount, and no more tax than there is."""
    parts = (
        select(
            OrderItem.order_id,
            func.sum(OrderItem.discount).label("discount"),
            func.sum(OrderItem.tax).label("tax"),
        )
        .group_by(OrderItem.order_id)
        .subquery()
    )
    total = Order.subtotal - Order.discount + Order.shipping + Order.tax
    rows = db.session.execute(
        select(Order.id, Order.total, total, Order.discount, parts.c.discount, Order.tax)
        .outerjoin(parts, parts.c.order_id == Order.id)
        .where(
            or_(
                Order.total != total,
                Order.discount != func.coalesce(parts.c.discount, 0),
                Order.tax < func.coalesce(parts.c.tax, 0),
            )
        )
    ).all()
    found = [
        (
            "bills",
            row[0],
            f"total {row[1]}, its parts {row[2]}; discount {row[3]}, of its lines {row[4]}",
            DEFECT,
        )
        for row in rows
    ]
    return db.session.scalar(select(func.count()).select_from(Order)) or 0, found


def numbered() -> tuple[int, list[Finding]]:
    """Every order that was paid has an invoice, no other has one, and there is no gap."""
    wrong = db.session.execute(
        select(Order.id, Invoice.number)
        .outerjoin(Invoice, Invoice.order_id == Order.id)
        .where(
            or_(
                Order.paid_at.is_not(None) & Invoice.number.is_(None),
                Order.paid_at.is_(None) & Invoice.number.is_not(None),
            )
        )
    ).all()
    found = [
        ("invoices", row[0], f"invoice {row[1] or 'missing'} does not fit the order", DEFECT)
        for row in wrong
    ]
    count, least, most = db.session.execute(
        select(func.count(), func.min(Invoice.number), func.max(Invoice.number))
    ).one()
    last = db.session.scalar(select(Counter.last).where(Counter.name == COUNTER)) or 0
    if (least or 1, most or 0, last) != (1, count, count):
        said = f"{count} invoices, numbered {least} to {most}, the counter says {last}"
        found.append(("invoices", "numbers", said, DEFECT))
    return count, found


def differ() -> list[Finding]:
    """Orders with a code or tax whose page at Stripe adds up to something else. A page whose bill
    was refused here and never shown has ended, and is not asked about. Nor is one that another sum
    was paid for: it is not settled, and a person was called."""
    is_told = exists().where(
        ShopException.order_id == CheckoutAttempt.id,
        ShopException.type == "amount_mismatch",
    )
    with reading() as session:
        rows = session.execute(
            select(StripeLeg.stripe_id, CheckoutAttempt)
            .join(CheckoutAttempt, CheckoutAttempt.id == StripeLeg.attempt_id)
            .where(
                StripeLeg.kind == "session",
                StripeLeg.is_ours,
                StripeLeg.stripe_id.is_not(None),
                StripeLeg.last_error.is_(None),
                ~is_told,
                or_(CheckoutAttempt.code.is_not(None), CheckoutAttempt.tax_rates.is_not(None)),
            )
        ).all()
    ours: dict[Any, CheckoutAttempt] = dict(rows)
    if not ours:
        return []
    since = min(attempt.created_at for attempt in ours.values()) - timedelta(minutes=5)
    found = []
    for session_id, theirs in current_gateway().bills_since(since):
        attempt = ours.get(session_id)
        wrong = attempt.bill.differs(theirs) if attempt else []
        if attempt and wrong:
            found.append(("bills", attempt.id, "; ".join(wrong), DEFECT))
    return found
