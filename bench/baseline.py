"""The hand-written rival: what a shop would write who follows Stripe's own webhook samples.

``construct_event`` checks and builds the event, the ORM loads the order, changes it, and commits
before the answer goes out. It does the same work as the shop's event does in the end (order paid,
stock down, one history row, one receipt owed), and none of what makes that safe to repeat: no
event is remembered, nothing is locked, the amount is not compared.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import stripe
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Product(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(120))
    stock: Mapped[int]


class Order(db.Model):
    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    status: Mapped[str] = mapped_column(String(24), default="pending")
    email: Mapped[str] = mapped_column(String(254))
    total: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    payment_intent: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    items: Mapped[list[OrderItem]] = relationship()


class OrderItem(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey(Order.id), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey(Product.id))
    quantity: Mapped[int]
    product: Mapped[Product] = relationship(lazy="joined", innerjoin=True)


class OrderHistory(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey(Order.id), index=True)
    status: Mapped[str] = mapped_column(String(24))
    event_id: Mapped[str] = mapped_column(String(255))
    at: Mapped[datetime]


class Receipt(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey(Order.id), unique=True)
    sent_at: Mapped[datetime | None]


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BASELINE_DATABASE_URL"]
    # As many connections as the server has threads, so that none of them waits for one.
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 8}
    secret = os.environ["STRIPE_WEBHOOK_SECRET"]
    db.init_app(app)
    with app.app_context():
        db.create_all()

    @app.post("/webhook")
    def webhook() -> tuple[str, int]:
        try:
            event = stripe.Webhook.construct_event(
                request.get_data(), request.headers.get("Stripe-Signature", ""), secret
            )
        except (ValueError, stripe.SignatureVerificationError):
            return "", 400
        if event.type == "checkout.session.completed":
            fulfil(event)
        return "", 200

    return app


def fulfil(event: stripe.Event) -> None:
    session = event.data.object
    if session.payment_status != "paid":
        return
    order = db.session.scalars(
        select(Order)
        .where(Order.id == session.metadata["checkout_attempt_id"])
        .options(selectinload(Order.items))
    ).one()
    moment = datetime.now(UTC).replace(tzinfo=None)
    order.status = "paid"
    order.payment_intent = session.payment_intent
    order.paid_at = moment
    for item in order.items:
        item.product.stock = Product.stock - item.quantity
    db.session.add(OrderHistory(order_id=order.id, status="paid", event_id=event.id, at=moment))
    db.session.add(Receipt(order_id=order.id))
    db.session.commit()
