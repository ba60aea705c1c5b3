"""A person's own data, given out whole. A person is whoever has an e-mail address, in any letter
case; ``services.erasure`` forgets them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select

from extensions import db, reading
from models import (
    CheckoutAttempt,
    Dispute,
    Order,
    OrderItem,
    OutboxMessage,
    Payment,
    Refund,
    Shipment,
    ShopperSession,
    SignInLink,
    Subscription,
    User,
)


def export(email: str) -> Iterator[dict[str, Any]]:
    """Everything kept under this address, one plain object each, ``kind`` first. Money in minor
    units, times in ISO 8601 UTC."""
    with reading() as session:
        for user in session.scalars(select(User).where(func.lower(User.email) == email.lower())):
            yield {"kind": "account", "email": user.email, "name": user.name, "role": user.role}
        for seat in session.scalars(
            select(ShopperSession).where(ShopperSession.email == email.lower())
        ):
            yield {
                "kind": "sign_in",
                "at": seat.created_at.isoformat(),
                "seen_at": seat.seen_at.isoformat(),
                "ended_at": _iso(seat.ended_at),
            }
        for link in session.scalars(select(SignInLink).where(SignInLink.email == email.lower())):
            yield {
                "kind": "sign_in_link",
                "asked_at": link.created_at.isoformat(),
                "used_at": _iso(link.used_at),
            }
        orders = session.scalars(orders_of(email).order_by(Order.created_at)).all()
        ids = [order.id for order in orders]
        for order in orders:
            yield {
                "kind": "order",
                "id": order.id,
                "number": order.number,
                "status": order.status,
                "payment_status": order.payment_status,
                "placed_at": order.created_at.isoformat(),
                "total": order.total,
                "currency": order.currency,
                "name": order.name,
                "email": order.email,
                "phone": order.phone,
                "address": order.address,
                "delivery": order.delivery,
                "items": [
                    {"sku": item.sku, "title": item.title, "quantity": item.quantity}
                    for item in _items(order.id)
                ],
            }
        yield from _about_money(ids)
        for row in plans_of(ids):
            yield {
                "kind": "subscription",
                "id": row.stripe_id,
                "order": row.checkout_attempt_id,
                "title": row.title,
                "status": row.status,
                "unit_amount": row.unit_amount,
                "quantity": row.quantity,
                "currency": row.currency,
                "interval": row.interval,
                "interval_count": row.interval_count,
                "period_end": _iso(row.period_end),
                "customer": row.stripe_customer,
            }
        for parcel in session.scalars(select(Shipment).where(Shipment.order_id.in_(ids))):
            yield {
                "kind": "parcel",
                "order": parcel.order_id,
                "sent_at": parcel.at.isoformat(),
                "carrier": parcel.carrier,
                "tracking": parcel.tracking,
                "items": [
                    {"sku": line["sku"], "quantity": line["quantity"]} for line in parcel.lines
                ],
            }
        for attempt in attempts_of(email):
            yield {
                "kind": "checkout",
                "id": attempt.id,
                "state": attempt.state,
                "began_at": attempt.created_at.isoformat(),
                **attempt.snapshot,
            }
        for message in mails_of(email, ids):
            sent = message.result or {}
            yield {
                "kind": "mail",
                "what": message.kind,
                "subject": sent.get("subject"),
                "sent_at": _iso(message.done_at),
            }


def _about_money(order_ids: list[str]) -> Iterator[dict[str, Any]]:
    session = db.session
    for paid in session.scalars(select(Payment).where(Payment.attempt_id.in_(order_ids))):
        yield {
            "kind": "payment",
            "id": paid.payment_intent,
            "order": paid.attempt_id,
            "amount": paid.amount,
            "currency": paid.currency,
            "state": paid.state,
            "role": paid.role,
            "method": paid.method,
            "seen_at": paid.created_at.isoformat(),
        }
    for back in session.scalars(select(Refund).where(Refund.order_id.in_(order_ids))):
        yield {
            "kind": "refund",
            "id": back.stripe_id,
            "order": back.order_id,
            "amount": back.amount,
            "currency": back.currency,
            "state": back.state,
            "reason": back.reason,
            "asked_at": back.created_at.isoformat(),
        }
    for row in session.scalars(select(Dispute).where(Dispute.order_id.in_(order_ids))):
        yield {
            "kind": "dispute",
            "id": row.stripe_id,
            "order": row.order_id,
            "amount": row.amount,
            "currency": row.currency,
            "status": row.status,
            "reason": row.reason,
        }


def orders_of(email: str) -> Any:
    return select(Order).where(func.lower(Order.email) == email.lower())


def plans_of(order_ids: list[str]) -> list[Subscription]:
    return list(
        db.session.scalars(
            select(Subscription)
            .where(Subscription.checkout_attempt_id.in_(order_ids))
            .order_by(Subscription.id)
        )
    )


def attempts_of(email: str) -> list[CheckoutAttempt]:
    """Also those that never became an order: their person is kept for a day."""
    address = CheckoutAttempt.snapshot["contact"]["email"].as_string()
    return list(
        db.session.scalars(
            select(CheckoutAttempt).where(
                CheckoutAttempt.purged_at.is_(None), func.lower(address) == email.lower()
            )
        )
    )


def mails_of(email: str, order_ids: list[str]) -> list[OutboxMessage]:
    """What is owed or was sent for these orders, or to this address without one."""
    addresses = (OutboxMessage.payload["email"], OutboxMessage.result["to"])
    to_it = or_(*(func.lower(one.as_string()) == email.lower() for one in addresses))
    return list(
        db.session.scalars(
            select(OutboxMessage)
            .where(
                OutboxMessage.order_id.in_(order_ids) | to_it,
                # Its body is made when it is sent, so that one which waits for days keeps nobody.
                OutboxMessage.kind != "webhook",
            )
            .order_by(OutboxMessage.id)
        )
    )


def _items(order_id: str) -> list[OrderItem]:
    return list(db.session.scalars(select(OrderItem).where(OrderItem.order_id == order_id)))


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
