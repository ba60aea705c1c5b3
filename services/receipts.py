"""The receipt: one outbox row per order, one Message-ID. And what shows the way to orders."""

from __future__ import annotations

from datetime import timedelta
from email.message import EmailMessage

from flask import render_template
from flask_babel import gettext as _
from sqlalchemy import func, select, update

from domain.clock import now
from extensions import atomic, reading
from models import CheckoutAttempt, Order, OrderItem, OutboxMessage, Payment
from services import language, letters, links, mail, orders, outbox, plan_pages, shop, sign_in

MOST_LINKS = 20
FORGOTTEN: outbox.Result = {"not_sent": "the person is forgotten"}


def send_again(order_id: str, to: str | None = None) -> bool:
    """Somebody asks for the receipt again, for its address or another one; at most one per minute,
    whoever presses how often. Says whether this press sends one."""
    with atomic() as session:
        order = session.scalar(select(Order).where(Order.id == order_id))
        if order is None or not order.paid_at:  # also one that was refunded since has a receipt
            return False
        minute = now().strftime("%Y%m%dT%H%M")
        other = {"to": to} if to else {}
        return outbox.owe("receipt_again", f"{order_id}:{minute}", order_id=order_id, **other)


def send_links(email: str, number: int | None = None) -> None:
    """Mail the links of all orders under this address, or of one of them, if there are any. Tells
    nobody which: like signing in, it is a worker that looks."""
    with atomic():
        key = sign_in.asked_for(f"{email}:{number}" if number else email)
        outbox.owe("order_links", key, email=email.strip().lower()[:254], number=number)


@outbox.handles("payment_failed")
def send_failure(message: OutboxMessage) -> outbox.Result:
    """Tell the shopper that the bank said no in the end, and that nothing was charged. Where the
    strategy makes no order before its money, the address is that of the checkout."""
    with reading() as session:
        order = session.scalar(select(Order).where(Order.id == message.order_id))
        attempt = session.get_one(CheckoutAttempt, message.order_id)
    email = order.email if order else attempt.email
    if email is None:
        return FORGOTTEN
    number = orders.number(order) if order else None
    link = letters.origin() + (links.path(order) if order else f"/orders/{attempt.id}")
    about = {"number": number, "link": link}
    with language.speaking(attempt.language):
        subject = (
            _("The payment for order %(number)s did not go through", number=number)
            if number
            else _("The payment for your order did not go through")
        )
        return mail.send(letters.letter(message, email, subject, "payment_failed", **about))


@outbox.handles("order_links", forgets=True)
def send_order_links(message: OutboxMessage) -> outbox.Result:
    """Write to an address where its orders are; to the one that was typed when ordering."""
    mine = [func.lower(Order.email) == message.payload.get("email", "")]
    if number := message.payload.get("number"):
        mine.append(Order.number == number)
    with atomic() as session:
        found = session.scalars(
            select(Order).where(*mine).order_by(Order.created_at.desc()).limit(MOST_LINKS)
        ).all()
        if not found:
            return sign_in.UNKNOWN
        others = select(func.count()).where(
            OutboxMessage.kind == "order_links",
            OutboxMessage.order_id.in_([one.id for one in found]),
            OutboxMessage.created_at > now() - timedelta(hours=1),
            OutboxMessage.id != message.id,
        )
        if (session.scalar(others) or 0) >= sign_in.MOST_AN_HOUR:
            return sign_in.TOO_MANY
        session.execute(
            update(OutboxMessage)
            .where(OutboxMessage.id == message.id)
            .values(order_id=found[0].id)
            .execution_options(synchronize_session=False)
        )
    listed = [
        (orders.number(one), one.created_at, letters.origin() + links.path(one)) for one in found
    ]
    to = str(found[0].email)
    with language.speaking(found[0].language):
        subject = _("Your orders")
        return mail.send(letters.letter(message, to, subject, "links", orders=listed))


@outbox.handles("fresh_link")
def send_fresh_link(message: OutboxMessage) -> outbox.Result:
    """The older links of an order are dead: here is the new one, unless one is newer still."""
    with reading() as session:
        order = session.scalars(select(Order).where(Order.id == message.order_id)).one()
    if order.email is None:
        return FORGOTTEN
    if message.key != f"{order.id}:{order.link_version}":
        return {"not_sent": "a newer link has replaced it"}
    number = orders.number(order)
    about = {"number": number, "link": letters.origin() + links.path(order)}
    with language.speaking(order.language):
        subject = _("A fresh link to order %(number)s", number=number)
        return mail.send(letters.letter(message, order.email, subject, "fresh_link", **about))


@outbox.handles("receipt_again")
@outbox.handles("receipt")
def send(message: OutboxMessage) -> outbox.Result:
    """Write and send the receipt of ``message.order_id``; notes which payments it tells of, for
    what is paid later has a receipt of its own."""
    with reading() as session:
        if not session.scalar(select(Order.email).where(Order.id == message.order_id)):
            return FORGOTTEN
        told = session.scalars(
            select(Payment.payment_intent).where(
                Payment.attempt_id == message.order_id, Payment.role == "settles"
            )
        ).all()
    return mail.send(compose(message)) | {"payments": list(told)}


def compose(message: OutboxMessage) -> EmailMessage:
    """The receipt as an e-mail: text and HTML, readable without pictures."""
    with reading() as session:
        order = session.scalars(select(Order).where(Order.id == message.order_id)).one()
        items = list(order.items)
    with language.speaking(order.language):
        return _written(message, order, items)


def _written(message: OutboxMessage, order: Order, items: list[OrderItem]) -> EmailMessage:
    case = orders.dossier(order.id)
    about = {
        "order": order,
        "items": items,
        "received": order.total - plan_pages.unpaid(items),
        "unpaid": plan_pages.unpaid(items),
        "plans": plan_pages.of(case) if case else [],
        "number": orders.number(order),
        "money": lambda amount: language.money(amount, order.currency),
        "link": letters.origin() + links.path(order),
        "shop": shop.IDENTITY,
    }
    to = str(message.payload.get("to") or order.email)
    subject = _("Your receipt for order %(number)s", number=about["number"])
    mail_ = letters.addressed(message, to, subject)
    mail_.set_content(render_template("email/receipt.txt", **about))
    mail_.add_alternative(render_template("email/receipt.html", **about), subtype="html")
    return mail_
