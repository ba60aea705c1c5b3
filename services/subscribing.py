"""Begin and end subscriptions at Stripe, and tell the shopper what becomes of them."""

from __future__ import annotations

import re
from datetime import datetime
from functools import wraps

from flask_babel import gettext as _
from sqlalchemy import select

from domain.facts import LegState
from domain.transitions import LineState
from extensions import reading
from gateway import current_gateway
from models import (
    CheckoutAttempt,
    Order,
    OrderItem,
    OutboxMessage,
    Payment,
    StripeLeg,
    Subscription,
)
from services import language, legs, letters, links, mail, orders, outbox, plan_rows, settle
from services.causes import Cause

CAUSE = Cause("subscription")


@outbox.handles("subscription")
def begin(message: OutboxMessage) -> outbox.Result:
    """Ask Stripe for the subscription of one line. Its leg carries the key and the parameters, so
    that asking again gives the same one; a leg that was dropped meanwhile is left alone."""
    attempt_id = message.order_id or ""
    key = f"subscription:{message.key}"
    with reading() as session:
        owed = session.scalars(
            select(StripeLeg).where(
                StripeLeg.attempt_id == attempt_id,
                StripeLeg.kind == legs.PAYS_FIRST,
                StripeLeg.part == message.payload["part"],
                StripeLeg.state == LegState.CREATING,
            )
        ).all()
    for leg in owed:
        if re.fullmatch(re.escape(key) + r"(:g\d+)?", leg.idempotency_key or ""):
            legs.resolve(leg)
    settle.settle(attempt_id, CAUSE, look=True)
    with reading() as session:
        made = session.scalar(
            select(StripeLeg)
            .where(StripeLeg.attempt_id == attempt_id, StripeLeg.part == message.payload["part"])
            .order_by(StripeLeg.id.desc())
        )
    return {"invoice": made.stripe_id, "state": made.state} if made else {}


@outbox.handles("end_subscription")
def end(message: OutboxMessage) -> outbox.Result:
    """End a subscription that nobody is to pay for any more. Ending it again changes nothing."""
    current_gateway().end_subscription(message.key)
    settle.settle(message.order_id or "", CAUSE, look=True)
    return {"ended": message.key}


def _as_ordered(handler: outbox.Handler) -> outbox.Handler:
    """Write the mail in the language that was spoken at the checkout."""

    @wraps(handler)
    def told(message: OutboxMessage) -> outbox.Result:
        with reading() as session:
            attempt = session.get(CheckoutAttempt, message.order_id)
        with language.speaking(attempt.language if attempt else None):
            return handler(message)

    return told


@outbox.handles("renewed")
@_as_ordered
def tell_renewal(message: OutboxMessage) -> outbox.Result:
    """The receipt of a renewal, or of a first payment of which the order's receipt does not tell;
    by its payment intent."""
    with reading() as session:
        receipt = session.scalar(
            select(OutboxMessage).where(
                OutboxMessage.kind == "receipt", OutboxMessage.key == message.order_id
            )
        )
        paid = session.scalars(select(Payment).where(Payment.payment_intent == message.key)).one()
        row = session.scalar(
            select(Subscription).where(
                Subscription.checkout_attempt_id == paid.attempt_id, Subscription.part == paid.part
            )
        )
    if paid.role == "settles" and receipt:
        if receipt.state == "new":
            raise outbox.Unreachable("the order's receipt goes first, and may tell of it")
        if message.key in (receipt.result or {}).get("payments", ()):
            return {"not_sent": "the order's receipt tells of it"}
    title = language.kept(row.title) if row else _("your subscription")
    about = {
        "title": title,
        "amount": language.money(paid.amount, paid.currency),
        "method": paid.method,
        "until": _day(row.period_end) if row else None,
        "goes_on": row is not None and row.status in plan_rows.BEGUN and row.cancel_at is None,
    }
    return _send(message, _("Your receipt for %(title)s", title=title), "renewed", **about)


@outbox.handles("past_due")
@_as_ordered
def tell_past_due(message: OutboxMessage) -> outbox.Result:
    """An invoice could not be collected: where it can be paid; once per invoice."""
    with reading() as session:
        rows = session.scalars(
            select(Subscription).where(Subscription.latest_invoice == message.key)
        ).all()
    owing = [row for row in rows if row.pay_url and row.status not in plan_rows.ENDED]
    if not owing:
        return {"not_sent": "it is paid by now"}
    titles = language.listed([language.kept(row.title) for row in owing])
    amount = language.money(sum(row.price for row in owing), owing[0].currency)
    subject = _("The payment for %(titles)s did not go through", titles=titles)
    about = {"title": titles, "amount": amount, "pay_at": owing[0].pay_url}
    is_first = owing[0].status == "incomplete"
    return _send(message, subject, "past_due", is_first=is_first, **about)


@outbox.handles("subscription_ended")
@_as_ordered
def tell_end(message: OutboxMessage) -> outbox.Result:
    """A subscription is over: nothing more is charged. A line whose first payment was never made
    is told of by itself, and not again by the end of its subscription."""
    title, begun = _title(message), _had_begun(message)
    if not begun and not message.payload.get("part"):
        return {"not_sent": "its line tells it, if its order was ever confirmed"}
    subject = (
        _("%(title)s has ended", title=title)
        if begun
        else _("%(title)s has not begun", title=title)
    )
    return _send(message, subject, "subscription_ended", title=title, begun=begun)


@outbox.handles("not_started")
@_as_ordered
def tell_not_started(message: OutboxMessage) -> outbox.Result:
    """The rest is paid, but no card was ever saved for a line that recurs."""
    title = _title(message)
    return _send(message, _("%(title)s has not started", title=title), "not_started", title=title)


def _had_begun(message: OutboxMessage) -> bool:
    """Whether anything of what has ended was ever paid for, or on trial."""
    with reading() as session:
        part = message.payload.get("part")
        named = OrderItem.sku == part
        if not part:
            named = OrderItem.sku.in_(
                select(Subscription.part).where(Subscription.stripe_id == message.key)
            )
        states = session.scalars(
            select(OrderItem.state).where(OrderItem.order_id == message.order_id, named)
        ).all()
    return LineState.ACTIVE in states


def _title(message: OutboxMessage) -> str:
    """Of the line, or of all lines of a subscription."""
    with reading() as session:
        part = message.payload.get("part")
        if part:
            item = select(OrderItem.title).where(
                OrderItem.order_id == message.order_id, OrderItem.sku == part
            )
            return language.kept(session.scalar(item)) or _("Your subscription")
        titles = session.scalars(
            select(Subscription.title).where(Subscription.stripe_id == message.key)
        ).all()
    return language.listed([language.kept(title) for title in titles]) or _("Your subscription")


def _send(message: OutboxMessage, subject: str, template: str, **about: object) -> outbox.Result:
    """To whoever ordered it. A first payment may fail before its order is made, where the strategy
    makes none without money: then the address is that of the checkout."""
    with reading() as session:
        order = session.scalar(select(Order).where(Order.id == message.order_id))
        attempt = session.get(CheckoutAttempt, message.order_id)
    email = order.email if order else attempt and attempt.email
    if not email:
        return {"not_sent": "the person is forgotten"}
    link = letters.origin() + (links.path(order) if order else f"/orders/{message.order_id}")
    number = orders.number(order) if order else None
    about |= {"number": number, "link": link}
    return mail.send(letters.letter(message, email, subject, template, **about))


def _day(moment: datetime | None) -> str | None:
    return language.long_day(moment) if moment else None
