"""A person's own data: given out whole, and erased on request. Money rows stay, without the person.

A person is whoever has an e-mail address, in any letter case.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import false, func, or_, select, update

from domain.clock import now
from extensions import atomic, db, reading
from models import (
    AuditEntry,
    CheckoutAttempt,
    Order,
    OrderItem,
    OutboxMessage,
    StripeEvent,
    StripeLeg,
    Subscription,
    User,
)
from services import plan_rows

ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows forgot the person, and how many checkouts could not yet."""

    orders: int
    attempts: int
    mails: int
    events: int
    still_open: int
    running: tuple[str, ...] = ()  # subscriptions that keep their person, to be ended first


def export(email: str) -> Iterator[dict[str, Any]]:
    """Everything kept under this address, one plain object each, ``kind`` first. Money in minor
    units, times in ISO 8601 UTC."""
    with reading() as session:
        for user in session.scalars(select(User).where(func.lower(User.email) == email.lower())):
            yield {"kind": "account", "email": user.email, "name": user.name, "role": user.role}
        orders = session.scalars(_orders_of(email).order_by(Order.created_at)).all()
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
        for row in _plans_of([order.id for order in orders]):
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
                "period_end": row.period_end.isoformat() if row.period_end else None,
                "customer": row.stripe_customer,
            }
        for attempt in _attempts_of(email):
            if attempt.purged_at is None:
                yield {
                    "kind": "checkout",
                    "id": attempt.id,
                    "state": attempt.state,
                    "began_at": attempt.created_at.isoformat(),
                    **attempt.snapshot,
                }
        for message in _mails_of([order.id for order in orders]):
            sent = message.result or {}
            yield {
                "kind": "mail",
                "what": message.kind,
                "subject": sent.get("subject"),
                "sent_at": message.done_at.isoformat() if message.done_at else None,
            }


def erase(email: str, actor: str = "command line") -> Erased:
    """Forget the person in one transaction; safe to repeat. Orders, payments, refunds and history
    stay to the cent. A checkout whose money may still come, or whose mail is not sent yet, keeps
    its person until that is over: then run it again. So does an order whose subscription still
    runs, because it charges, and has somebody to be written to: end it first."""
    with atomic() as session:
        orders = session.scalars(_orders_of(email)).all()
        attempts = _attempts_of(email)
        waiting = {attempt.id for attempt in attempts if attempt.state == "open"}
        waiting |= {m.order_id or "" for m in _mails_of([o.id for o in orders]) if m.state == "new"}
        running = [row for row in _plans_of([o.id for o in orders]) if plan_rows.runs([row])]
        kept = {row.checkout_attempt_id or "" for row in running}
        still_open = len(waiting - kept)
        waiting |= kept
        over = [attempt for attempt in attempts if attempt.id not in waiting]
        forgotten = [order for order in orders if order.id not in waiting]
        ids = [order.id for order in forgotten] + [attempt.id for attempt in over]
        for order in forgotten:
            order.name = order.email = order.phone = order.address = None
            order.link_version += 1  # links in old mails open nothing any more
            order.version += 1
        for attempt in over:
            if attempt.purged_at is None:
                attempt.snapshot = {"lines": attempt.lines}
                attempt.purged_at = now()
        session.execute(
            update(StripeLeg)
            .where(StripeLeg.attempt_id.in_(ids))
            .values(parameters=None, client_secret=None, url=None)
        )
        session.execute(
            update(CheckoutAttempt).where(CheckoutAttempt.id.in_(ids)).values(stripe_customer=None)
        )
        for row in _plans_of(ids):
            row.stripe_customer = row.pay_url = None
        mails = _mails_of(ids)
        for message in mails:
            message.payload = {}
            known = ("message_id",)
            message.result = {k: v for k, v in (message.result or {}).items() if k in known}
        # Events that were none of our business are tied to no attempt, but name it in their text.
        about = or_(*(StripeEvent.payload.contains(id_, autoescape=True) for id_ in ids), false())
        events = session.scalars(
            select(StripeEvent).where(about, StripeEvent.state.in_(("done", "ignored")))
        ).all()
        for event in events:
            event.payload = json.dumps({"id": event.id, "type": event.type, ERASED: True})
        for user in session.scalars(
            select(User).where(func.lower(User.email) == email.lower(), User.role == "shopper")
        ):
            user.email, user.name = f"{ERASED}-{user.id}@invalid", ""
        session.add(AuditEntry(actor=actor, action="erased a person", detail=f"{len(ids)} rows"))
    named = tuple(dict.fromkeys(f"{row.stripe_id} ({row.title})" for row in running))
    return Erased(len(forgotten), len(over), len(mails), len(events), still_open, named)


def _orders_of(email: str) -> Any:
    return select(Order).where(func.lower(Order.email) == email.lower())


def _items(order_id: str) -> list[OrderItem]:
    return list(db.session.scalars(select(OrderItem).where(OrderItem.order_id == order_id)))


def _plans_of(order_ids: list[str]) -> list[Subscription]:
    return list(
        db.session.scalars(
            select(Subscription)
            .where(Subscription.checkout_attempt_id.in_(order_ids))
            .order_by(Subscription.id)
        )
    )


def _attempts_of(email: str) -> list[CheckoutAttempt]:
    """Also those that never became an order: their person is kept for a day."""
    address = CheckoutAttempt.snapshot["contact"]["email"].as_string()
    return list(
        db.session.scalars(
            select(CheckoutAttempt).where(
                CheckoutAttempt.purged_at.is_(None), func.lower(address) == email.lower()
            )
        )
    )


def _mails_of(order_ids: list[str]) -> list[OutboxMessage]:
    return list(
        db.session.scalars(
            select(OutboxMessage).where(
                OutboxMessage.order_id.in_(order_ids),
                # Its body is made when it is sent, so that one which waits for days keeps nobody.
                OutboxMessage.kind != "webhook",
            )
        )
    )
