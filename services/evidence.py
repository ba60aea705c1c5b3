"""Everything stored about one order that answers a dispute: for a printed page and a text alike.

Nothing is guessed. A fact that could be there and is not has the value None, and is said to be
missing; what the shop never stores is named at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import select

from domain import plans
from domain.clock import now
from domain.money import display
from domain.transitions import LineState, Status
from extensions import reading
from models import Order, OrderEvent, OutboxMessage, Payment
from services import dispute_pages, disputes, orders, outbox, refunds, shop

NEVER_STORED = (
    "The network address (IP) and device of the shopper",
    "The carrier’s proof of delivery and signature: ask the carrier, by the tracking number",
    "Letters between the shopper and the shop, but the e-mails above",
    "The shop’s postal address, terms of sale and refund policy",
    "Whether an e-mail was read: only that the mail server took it",
)


@dataclass(frozen=True, slots=True)
class Fact:
    """``value`` is None where there is nothing stored."""

    label: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Part:
    title: str
    facts: list[Fact]
    empty: str = ""  # what it says without any fact


@dataclass(frozen=True, slots=True)
class Evidence:
    number: str
    made_at: datetime
    parts: list[Part]
    never_stored: tuple[str, ...] = NEVER_STORED

    @property
    def text(self) -> str:
        """The same as plain text, one fact a line."""
        lines = [f"EVIDENCE, ORDER {self.number}", f"Put together on {_time(self.made_at)}"]
        for part in self.parts:
            lines += ["", part.title.upper()]
            lines += [f"{fact.label}: {_one_line(fact.value)}" for fact in part.facts]
            lines += [] if part.facts else [part.empty]
        lines += ["", "MISSING, BECAUSE THE SHOP DOES NOT STORE IT", *self.never_stored]
        return "\n".join(lines) + "\n"


def of(case: orders.Dossier) -> Evidence:
    """All of it. The order must be there."""
    order = case.order
    assert order is not None
    events = [event for event, _ in reversed(orders.history(order.id))]
    mails = _outbox(order.id)
    parts = [
        *_disputes(order.id),
        _shop(),
        _shopper(case, order),
        _bought(case, order),
        *_payments(case),
        _delivery(case, order, events),
        *_subscriptions(case),
        Part("Refunds", list(_refunds(order.id)), "None."),
        Part("E-mails to the shopper", list(_mails(mails)), "None."),
        Part("Visits of the shopper that were noted", list(_visits(events, mails)), "None."),
        Part("What happened to the order", list(_story(events)), "Nothing."),
    ]
    return Evidence(orders.number(order), now(), parts)


def _disputes(order_id: str) -> Iterator[Part]:
    for row in disputes.of_order(order_id):
        yield Part(
            "The dispute",
            [
                Fact("Dispute", row.stripe_id),
                Fact("Payment", row.payment_intent),
                Fact("Amount", display(row.amount, row.currency)),
                Fact("Reason", f"{row.reason}: {dispute_pages.reason(row.reason).words}"),
                Fact("Status", row.status.replace("_", " ")),
                Fact("First seen", _time(row.opened_at)),
                Fact("To be answered by", _time(row.due_by)),
            ],
        )


def _shop() -> Part:
    origin = current_app.extensions["settings"].public_origin
    return Part(
        "The shop",
        [
            Fact("Name", shop.IDENTITY.name),
            Fact("Address on the web", origin),
            Fact("E-mail", shop.IDENTITY.help_email),
        ],
    )


def _shopper(case: orders.Dossier, order: Order) -> Part:
    customers = [row.stripe_customer for row in case.plans] + [case.attempt.stripe_customer]
    customer = next(filter(None, customers), None)
    known = [Fact("Customer at Stripe", customer)] if customer else []
    return Part(
        "The shopper",
        [
            Fact("Name", order.name),
            Fact("E-mail", order.email),
            Fact("Telephone", order.phone or None),
            *known,
        ],
    )


def _bought(case: orders.Dossier, order: Order) -> Part:
    facts = [
        Fact("Order", f"{orders.number(order)} ({order.id})"),
        Fact("Checked out", _time(case.attempt.created_at)),
        Fact("Paid", _time(order.paid_at)),
    ]
    for item in case.items:
        title = f"{item.title}, {item.subtitle}" if item.subtitle else item.title
        said = f"{item.quantity} × {title}, {display(item.unit_amount, order.currency)} each"
        said += f" {plans.every(item.plan)}" if item.plan else ""
        said += "" if item.state == LineState.ACTIVE else f" ({item.state.replace('_', ' ')})"
        facts.append(Fact(item.sku, said))
    sums = {
        "Items": order.subtotal,
        "Discount": -order.discount,
        "Shipping": order.shipping,
        "Tax": order.tax,
    }
    told = {name: sum_ for name, sum_ in sums.items() if sum_ or name in ("Items", "Shipping")}
    facts += [Fact(name, display(sum_, order.currency)) for name, sum_ in told.items()]
    return Part("What was bought", [*facts, Fact("Total", display(order.total, order.currency))])


_FOR = {
    "settles": "paid for the order",
    "renewal": "paid for a later period of a subscription",
    "surplus": "was more than the order cost",
    "mismatch": "did not fit the order",
}


def _payments(case: orders.Dossier) -> Iterator[Part]:
    for payment in case.payments:
        yield Part(_titled(case, payment), list(_payment(payment)))
    if not case.payments:
        yield Part("Payment", [], "None.")


def _titled(case: orders.Dossier, payment: Payment) -> str:
    if len(case.payments) == 1:
        return "Payment"
    return f"Payment {case.payments.index(payment) + 1} of {len(case.payments)}"


def _payment(payment: Payment) -> Iterator[Fact]:
    yield Fact("What it was", _FOR.get(payment.role, payment.role))
    yield Fact("Amount", display(payment.amount, payment.currency))
    yield Fact("Method", payment.method)
    yield Fact("State", payment.state)
    yield Fact("Payment intent", payment.payment_intent)
    yield Fact("Charge", payment.charge_id)
    if payment.invoice:
        yield Fact("Invoice", payment.invoice)
    yield Fact("Seen here", _time(payment.created_at))


def _delivery(case: orders.Dossier, order: Order, events: list[OrderEvent]) -> Part:
    given, way = order.address or {}, order.delivery or {}
    town = " ".join(given[part] for part in ("postal_code", "city") if given.get(part))
    lines = (given.get("line1"), given.get("line2"), town, given.get("state"), given.get("country"))
    facts = [
        Fact("Address", ", ".join(line for line in (order.name, *lines) if line) or None),
        Fact("Way of delivery", way.get("label")),
    ]
    for count, parcel in enumerate(case.shipments, start=1):
        what = ", ".join(f"{line['quantity']} × {line['title']}" for line in parcel.lines)
        facts += [
            Fact(f"Parcel {count} sent", f"{_time(parcel.at)} with {parcel.carrier}: {what}"),
            Fact(f"Parcel {count} tracking number", parcel.tracking or None),
        ]
    if not case.shipments:
        facts.append(Fact("Parcels", "none was sent"))
    arrived = next((event for event in events if event.to_status == Status.DELIVERED), None)
    noted = f"{_time(arrived.at)}, noted by the shop" if arrived else None
    return Part("Delivery", [*facts, Fact("Delivered", noted)])


def _subscriptions(case: orders.Dossier) -> Iterator[Part]:
    for row in case.plans:
        plan = {"interval": row.interval, "count": row.interval_count, "trial_days": 0}
        dates = {
            "Free until": row.trial_end,
            "Current period ends": row.period_end,
            "Ends on": row.cancel_at,
            "Ended": row.ended_at,
        }
        yield Part(
            f"Terms of the subscription “{row.title}”",
            [
                Fact("Subscription", row.stripe_id),
                Fact("Price", f"{display(row.price, row.currency)} {plans.every(plan)}"),
                Fact("Status", row.status.replace("_", " ")),
                Fact("First seen", _time(row.created_at)),
                *(Fact(name, _time(at)) for name, at in dates.items() if at),
            ],
        )


def _refunds(order_id: str) -> Iterator[Fact]:
    for row in refunds.of_order(order_id):
        sum_ = "What was left" if row.amount is None else display(row.amount, row.currency or "")
        why = f": {row.reason}" if row.reason else ""
        at_stripe = f" ({row.stripe_id})" if row.stripe_id else ""
        yield Fact(_time(row.created_at) or "", f"{sum_}, {row.state}{why}{at_stripe}")


_MAILS = {
    "receipt": "Receipt",
    "receipt_again": "Receipt, sent again",
    "order_links": "Links to the orders",
    "fresh_link": "A fresh link to the order; older ones stopped working",
    "payment_failed": "The payment failed",
    "refunded": "Money sent back",
    "shipped": "A parcel is on its way",
    "renewed": "Receipt of a payment for a subscription",
    "past_due": "A payment for a subscription failed",
    "subscription_ended": "The subscription has ended",
    "not_started": "A subscription was not started",
}


def _outbox(order_id: str) -> list[OutboxMessage]:
    """What was written to the shopper about this order, or is to be, oldest first."""
    with reading() as session:
        found = select(OutboxMessage).where(
            OutboxMessage.order_id == order_id, OutboxMessage.kind.in_(outbox.MAIL_KINDS)
        )
        return list(session.scalars(found.order_by(OutboxMessage.id)))


def _mails(rows: list[OutboxMessage]) -> Iterator[Fact]:
    for row in rows:
        kind = _MAILS.get(row.kind, row.kind.replace("_", " "))
        result: dict[str, Any] = row.result or {}
        if row.done_at and result.get("message_id"):
            said = f"{kind}, to {result.get('to')}, “{result.get('subject')}”"
            yield Fact(_time(row.done_at) or "", f"{said}, Message-ID {result['message_id']}")
        else:
            yield Fact(_time(row.created_at) or "", f"{kind}: not sent")


_VISITS = {
    "checkout": "Checked out and went to pay",
    "landing": "Came back from paying",
    "shopper": "Used the page of the order",
}


def _visits(events: list[OrderEvent], mails: list[OutboxMessage]) -> Iterator[Fact]:
    """What only the shopper's browser can have brought about."""
    seen = {
        (event.at.replace(microsecond=0), _VISITS[event.cause])
        for event in events
        if event.cause in _VISITS
    }
    seen |= {
        (row.created_at.replace(microsecond=0), "Asked for the receipt once more")
        for row in mails
        if row.kind == "receipt_again"
    }
    for at, what in sorted(seen):
        yield Fact(_time(at) or "", what)


_TOLD = ("transition", "payment", "refund", "parcel", "plan", "dispute")
_STEPS = {
    "payment": "Payment seen",
    "refund": "Refund",
    "parcel": "Parcel sent",
    "plan": "Subscription",
}


def _story(events: list[OrderEvent]) -> Iterator[Fact]:
    for event in events:
        if event.kind not in _TOLD:
            continue
        if event.kind == "transition":
            said = f"The order became {event.to_status}".replace("_", " ")
        elif event.kind == "dispute":
            said = ": ".join(dispute_pages.entry(event.detail))
        else:
            said = f"{_STEPS[event.kind]}: {event.detail}"
        by = f" (Stripe’s event {event.stripe_event_id})" if event.stripe_event_id else ""
        yield Fact(_time(event.at) or "", said + by)


def _one_line(value: str | None) -> str:
    """What somebody typed stays one fact, however it was typed."""
    return "not stored" if value is None else " ".join(value.split())


def _time(at: datetime | None) -> str | None:
    return f"{at.day} {at:%B %Y, %H:%M:%S} UTC" if at else None
