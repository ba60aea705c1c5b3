"""The receipt: one outbox row per order, one Message-ID."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import urlsplit

from flask import current_app, render_template
from sqlalchemy import func, select

from domain.clock import now
from domain.money import display
from extensions import atomic, reading
from models import CheckoutAttempt, Order, OutboxMessage, Payment
from services import links, mail, orders, outbox, plan_pages, shop

MOST_LINKS = 20


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


def send_links(email: str) -> None:
    """Mail the links of all orders under this address, if there are any. Tells nobody which."""
    address = email.strip().lower()[:254]
    with atomic() as session:
        newest = session.scalar(
            select(Order.id)
            .where(func.lower(Order.email) == address)
            .order_by(Order.created_at.desc())
        )
        if newest:
            minute = now().strftime("%Y%m%dT%H%M")
            outbox.owe("order_links", f"{newest}:{minute}", order_id=newest)


@outbox.handles("payment_failed")
def send_failure(message: OutboxMessage) -> outbox.Result:
    """Tell the shopper that the bank said no in the end, and that nothing was charged. Where the
    strategy makes no order before its money, the address is that of the checkout."""
    with reading() as session:
        order = session.scalar(select(Order).where(Order.id == message.order_id))
        attempt = session.get_one(CheckoutAttempt, message.order_id)
    email = order.email if order else attempt.email
    if email is None:
        return {"not_sent": "the person is forgotten"}
    number = orders.number(order) if order else None
    mail_ = addressed(message, email, f"The payment for {_called(number)} did not go through")
    origin = current_app.extensions["settings"].public_origin
    link = origin + (links.path(order) if order else f"/orders/{attempt.id}")
    about = {"number": number, "link": link, "shop": shop.IDENTITY}
    mail_.set_content(render_template("email/payment_failed.txt", **about))
    return mail.send(mail_)


@outbox.handles("order_links")
def send_order_links(message: OutboxMessage) -> outbox.Result:
    """Write to the address of ``message.order_id`` where its orders are."""
    with reading() as session:
        order = session.scalars(select(Order).where(Order.id == message.order_id)).one()
        found = session.scalars(
            select(Order)
            .where(func.lower(Order.email) == (order.email or "").lower())
            .order_by(Order.created_at.desc())
            .limit(MOST_LINKS)
        ).all()
    origin = current_app.extensions["settings"].public_origin
    listed = [(orders.number(one), one.created_at, origin + links.path(one)) for one in found]
    mail_ = addressed(message, order.email, "Your orders")
    mail_.set_content(render_template("email/links.txt", orders=listed, shop=shop.IDENTITY))
    return mail.send(mail_)


@outbox.handles("receipt_again")
@outbox.handles("receipt")
def send(message: OutboxMessage) -> outbox.Result:
    """Write and send the receipt of ``message.order_id``; notes which payments it tells of, for
    what is paid later has a receipt of its own."""
    with reading() as session:
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
    case = orders.dossier(order.id)
    settings = current_app.extensions["settings"]
    about = {
        "order": order,
        "items": items,
        "received": order.total - plan_pages.unpaid(items),
        "unpaid": plan_pages.unpaid(items),
        "plans": plan_pages.of(case) if case else [],
        "number": orders.number(order),
        "money": lambda amount: display(amount, order.currency),
        "link": settings.public_origin + links.path(order),
        "shop": shop.IDENTITY,
    }
    to = message.payload.get("to") or order.email
    mail_ = addressed(message, to, f"Your receipt for order {about['number']}")
    mail_.set_content(render_template("email/receipt.txt", **about))
    mail_.add_alternative(render_template("email/receipt.html", **about), subtype="html")
    return mail_


def _called(number: str | None) -> str:
    return f"order {number}" if number else "your order"


def addressed(message: OutboxMessage, email: str | None, subject: str) -> EmailMessage:
    """An empty message to somebody, with a Message-ID that never changes."""
    settings = current_app.extensions["settings"]
    host = urlsplit(settings.public_origin).hostname
    mail_ = EmailMessage()
    mail_["Subject"] = subject
    mail_["From"] = settings.mail_from
    mail_["To"] = email
    mail_["Date"] = format_datetime(message.created_at)
    mail_["Message-ID"] = f"<{message.kind}.{message.key.replace(':', '.')}@{host}>"
    return mail_
