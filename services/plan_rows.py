"""The rows of subscriptions: mirrors of what Stripe runs, one per line that recurs. Only ``settle``
writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from sqlalchemy import select

from domain import plans
from domain.facts import ItemSeen, SubscriptionSeen
from extensions import db, reading
from gateway import facts
from models import CheckoutAttempt, Subscription

# Stripe's statuses (docs.stripe.com/api/subscriptions/object#subscription_object-status).
ENDED = facts.ENDED
BEGUN = ("trialing", "active")


def of(attempt_id: str) -> list[Subscription]:
    """Those of one order, in the order of its lines; inside the caller's transaction."""
    return list(
        db.session.scalars(
            select(Subscription)
            .where(Subscription.checkout_attempt_id == attempt_id)
            .order_by(Subscription.id)
        )
    )


def of_order(order_id: str) -> list[Subscription]:
    """Those of one order, for a page."""
    with reading():
        return of(order_id)


def versions(attempt_id: str) -> dict[int, int]:
    """The rows as they are now: note them before a look at Stripe, and apply the look only if they
    still are the same (rule R3)."""
    rows = db.session.execute(
        select(Subscription.id, Subscription.version).where(
            Subscription.checkout_attempt_id == attempt_id
        )
    )
    return {row.id: row.version for row in rows}


def attempt_of(subscription_id: str) -> str | None:
    """Whose it is, by our own records."""
    return db.session.scalar(
        select(Subscription.checkout_attempt_id)
        .where(Subscription.stripe_id == subscription_id)
        .limit(1)
    )


def runs(rows: Iterable[Subscription]) -> bool:
    """Whether any of them has begun and not ended."""
    return any(row.status not in ENDED for row in rows)


def show(row: Subscription, fact: SubscriptionSeen, item: ItemSeen | None) -> bool:
    """Write down how a subscription looks; says whether that is new."""
    seen: dict[str, Any] = {
        "stripe_id": fact.subscription_id,
        "stripe_customer": fact.origin.customer_id or row.stripe_customer,
        "status": fact.status,
        "period_end": fact.period_end,
        "trial_end": fact.trial_end,
        "cancel_at": fact.cancel_at,
        "ended_at": fact.ended_at,
        "latest_invoice": fact.latest_invoice,
        "pay_url": fact.pay_url,
    }
    if item:
        seen |= {
            "stripe_item": item.item_id,
            "stripe_price": item.price_id,
            "unit_amount": item.unit_amount,  # a plan may be changed in Stripe's dashboard
            "quantity": item.quantity,
        }
    if all(getattr(row, name) == value for name, value in seen.items()):
        return False
    for name, value in seen.items():
        setattr(row, name, value)
    row.version = (row.version or 0) + 1
    return True


def paired(
    rows: list[Subscription], items: tuple[ItemSeen, ...]
) -> list[tuple[Subscription, ItemSeen | None]]:
    """Which item each row is: the one it has been, else one of the same price, else the next."""
    left = list(items)
    found: dict[int, ItemSeen] = {}
    for same in (
        lambda row, item: row.stripe_item == item.item_id,
        lambda row, item: (row.unit_amount, row.quantity) == (item.unit_amount, item.quantity),
    ):
        for place, row in enumerate(rows):
            hit = next((item for item in left if place not in found and same(row, item)), None)
            if hit:
                found[place] = hit
                left.remove(hit)
    rest = [place for place in range(len(rows)) if place not in found]
    found |= {place: item for place, item in zip_longest(rest, left) if place is not None and item}
    return [(row, found.get(place)) for place, row in enumerate(rows)]


def new(attempt: CheckoutAttempt, line: plans.Line) -> Subscription:
    """A row for a line, in the caller's transaction; what Stripe says of it is yet to be shown."""
    row = Subscription(
        checkout_attempt_id=attempt.id,
        part=line["sku"],
        title=line["title"],
        unit_amount=line["unit_amount"],
        quantity=line["quantity"],
        currency=attempt.currency,
        interval=line["plan"]["interval"],
        interval_count=line["plan"]["count"],
        stripe_id="",
        status="",
        version=0,
    )
    db.session.add(row)
    return row
