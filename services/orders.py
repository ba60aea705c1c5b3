"""Orders as people look at them: one's own, or an admin's list and page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select

from domain import plans
from domain.transitions import LineState, Status, payment_status
from extensions import db, reading
from models import (
    CheckoutAttempt,
    Order,
    OrderEvent,
    OrderItem,
    OutboxMessage,
    Payment,
    Shipment,
    StripeEvent,
    StripeLeg,
    Subscription,
)
from services import outbox, plan_rows
from services.legs import SAVES_CARD
from services.shop import IDENTITY


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything about one checkout that a page may show."""

    attempt: CheckoutAttempt
    order: Order | None
    items: list[OrderItem]
    legs: list[StripeLeg]
    payments: list[Payment]
    shipments: list[Shipment] = field(default_factory=list)
    plans: list[Subscription] = field(default_factory=list)  # one per line that recurs
    unsure: bool = False  # Stripe was asked and did not answer: what we know may be old

    def is_paid_through(self, intent: str) -> bool:
        """Whether this payment intent belongs to one of its legs."""
        return any(leg.payment_intent == intent for leg in self.legs)

    def has_card_by(self, setup: str) -> bool:
        """Whether this setup intent is one of its legs."""
        return any(leg.stripe_id == setup for leg in self.legs if leg.kind == SAVES_CARD)

    @property
    def email(self) -> str | None:
        """The address that was typed for it."""
        return self.order.email if self.order else self.attempt.email

    @property
    def newest_leg(self) -> StripeLeg | None:
        """The last one that we opened: what it can be paid through, if anything. It may be what
        saves a card, or the first invoice of a subscription."""
        return next((leg for leg in reversed(self.legs) if leg.is_ours), None)

    @property
    def settling(self) -> list[Payment]:
        """What paid for it; renewals pay for later periods."""
        return [payment for payment in self.payments if payment.role == "settles"]

    @property
    def has_moved_money(self) -> bool:
        """Whether it was paid, or is being paid: it is no longer the shopper's to end."""
        attempt = self.attempt
        return attempt.state == "settled" or attempt.is_processing or bool(self.payments)


def number_in(text: str) -> int | None:
    """The number in what people type: NL-10001, nl 10001, 10001. None if there is none."""
    bare = text.strip().upper().removeprefix(IDENTITY.number_prefix).lstrip("-# ")
    return int(bare) if bare.isascii() and bare.isdecimal() and len(bare) < 10 else None


def number(order: Order) -> str:
    """The order's number as people say it."""
    return f"{IDENTITY.number_prefix}-{order.number}" if order.number else "No number yet"


def as_order(case: Dossier) -> Order:
    """The order, or what its row would say by now where it is not made yet; that one is never
    written."""
    if case.order:
        return case.order
    attempt = case.attempt
    contact = attempt.snapshot.get("contact") or {}
    return Order(
        id=attempt.id,
        number=0,
        strategy=attempt.strategy_name,
        status=attempt.status,
        payment_status=_payment_status(case),
        is_provisional=False,
        sync_status=sync_status(case),
        currency=attempt.currency,
        subtotal=attempt.subtotal,
        discount=attempt.discount,
        shipping=attempt.shipping,
        tax=attempt.tax,
        total=attempt.total,
        tax_rates=attempt.tax_rates,
        code=attempt.code,
        refunded=0,
        name=contact.get("name"),
        email=contact.get("email"),
        language=attempt.language,
        address=attempt.snapshot.get("address"),
        delivery=attempt.snapshot.get("delivery"),
        version=0,
        created_at=attempt.created_at,
        updated_at=attempt.created_at,
    )


def dossier(attempt_id: str | None) -> Dossier | None:
    """The whole of one checkout, or None if there is no such."""
    with reading() as session:
        attempt = session.scalar(select(CheckoutAttempt).where(CheckoutAttempt.id == attempt_id))
        if attempt is None:
            return None
        order = session.scalar(select(Order).where(Order.id == attempt_id))
        return Dossier(
            attempt,
            order,
            list(order.items) if order else [],
            list(
                session.scalars(
                    select(StripeLeg)
                    .where(StripeLeg.attempt_id == attempt_id)
                    .order_by(StripeLeg.id)
                )
            ),
            list(
                session.scalars(
                    select(Payment).where(Payment.attempt_id == attempt_id).order_by(Payment.id)
                )
            ),
            _parcels(order),
            plan_rows.of(attempt.id) if plans.recurring(attempt.lines) else [],
        )


def _parcels(order: Order | None) -> list[Shipment]:
    """A waiting page asks often, and has none: only what was packed can have been sent."""
    if order is None or order.status in (Status.PENDING_PAYMENT, Status.PAYMENT_CONFIRMED):
        return []
    return list(
        db.session.scalars(
            select(Shipment).where(Shipment.order_id == order.id).order_by(Shipment.id)
        )
    )


def id_of_session(session_id: str) -> str | None:
    """The order behind a session id."""
    with reading() as session:
        return session.scalar(select(StripeLeg.attempt_id).where(StripeLeg.stripe_id == session_id))


def of_shopper(
    shopper_id: str | None,
    before: tuple[datetime, str] | None = None,
    limit: int = 20,
    *,
    email: str | None = None,
) -> list[Order]:
    """The orders of a browser, and of an address that was confirmed there; newest first."""
    mine = [Order.shopper_id == shopper_id] if shopper_id else []
    mine += [func.lower(Order.email) == email] if email else []
    return _page(select(Order).where(or_(*mine)), before, limit) if mine else []


def waiting_of(shopper_id: str) -> list[CheckoutAttempt]:
    """A shopper's checkouts whose payment is under way and whose order is yet to be made, newest
    first: nobody who has paid should find an empty list."""
    with reading() as session:
        return list(
            session.scalars(
                select(CheckoutAttempt)
                .where(
                    CheckoutAttempt.shopper_id == shopper_id,
                    CheckoutAttempt.state == "open",
                    ~select(Order.id).where(Order.id == CheckoutAttempt.id).exists(),
                )
                .order_by(CheckoutAttempt.created_at.desc())
                .limit(20)
            )
        )


def history(order_id: str) -> list[tuple[OrderEvent, StripeEvent | None]]:
    """What happened, newest first, with the Stripe event that brought the news."""
    with reading() as session:
        return [
            (event, stripe_event)
            for event, stripe_event in session.execute(
                select(OrderEvent, StripeEvent)
                .outerjoin(StripeEvent, StripeEvent.id == OrderEvent.stripe_event_id)
                .where(OrderEvent.order_id == order_id)
                .order_by(OrderEvent.id.desc())
            )
        ]


def items_of(order_id: str) -> list[OrderItem]:
    """Its lines, as they were bought."""
    with reading() as session:
        return list(
            session.scalars(
                select(OrderItem).where(OrderItem.order_id == order_id).order_by(OrderItem.id)
            )
        )


def mails_of(order_id: str) -> list[OutboxMessage]:
    """What was mailed about it, or is yet to be."""
    with reading() as session:
        return list(
            session.scalars(
                select(OutboxMessage).where(
                    OutboxMessage.order_id == order_id, OutboxMessage.kind.in_(outbox.MAIL_KINDS)
                )
            )
        )


def _page(query: Any, before: tuple[datetime, str] | None, limit: int) -> list[Order]:
    if before:
        moment, last_id = before
        query = query.where(
            (Order.created_at < moment) | ((Order.created_at == moment) & (Order.id < last_id))
        )
    with reading():
        return list(
            db.session.scalars(
                query.order_by(Order.created_at.desc(), Order.id.desc()).limit(limit)
            )
        )


def id_of_intent(payment_intent: str) -> str | None:
    """The order behind a payment intent."""
    with reading() as session:
        return session.scalar(
            select(Payment.attempt_id).where(Payment.payment_intent == payment_intent)
        ) or session.scalar(
            select(StripeLeg.attempt_id).where(StripeLeg.payment_intent == payment_intent)
        )


def id_of_setup(setup_intent: str) -> str | None:
    """The order behind what saved a card for it."""
    with reading() as session:
        return session.scalar(
            select(StripeLeg.attempt_id).where(
                StripeLeg.stripe_id == setup_intent, StripeLeg.kind == SAVES_CARD
            )
        )


def id_of(order_or_intent: str) -> str | None:
    """The order meant by its own id or by that of its payment intent."""
    is_intent = order_or_intent.startswith("pi_")
    return id_of_intent(order_or_intent) if is_intent else order_or_intent


def _payment_status(case: Dossier) -> str:
    """Of a checkout that has no order row to say it."""
    return payment_status(legs=[leg.view for leg in case.legs], paid=False)


def sync_status(case: Dossier) -> str:
    """Whether we and Stripe agree on this checkout: syncing, synced or failed."""
    if case.order:
        return case.order.sync_status
    return "syncing" if case.attempt.state == "open" else "synced"


def as_dict(case: Dossier) -> dict[str, Any]:
    """An order as the API shows it; money in minor units, times in ISO 8601 UTC.

    An attempt whose order is not born yet reads the same way, without a number.
    """
    attempt, order = case.attempt, case.order
    source: Any = order or attempt
    newest = case.newest_leg
    previous = next((leg for leg in case.legs if newest and leg.id == newest.previous_id), None)
    paid = order and order.paid_at and order.payment_intent
    lines: list[Any] = [
        _line(item.sku, item.title, item.unit_amount, item.quantity, item.plan, item.state)
        | _changes(item.discount, item.tax)
        for item in case.items
    ] or [
        _line(line["sku"], line["title"], line["unit_amount"], line["quantity"], line.get("plan"))
        | _changes(line.get("discount", 0), line.get("tax", 0))
        for line in attempt.lines
    ]
    shown = {
        "id": attempt.id,
        "number": number(order) if order else None,
        "status": attempt.status,
        "paymentStatus": order.payment_status if order else _payment_status(case),
        "failureReason": order.failure_reason if order else newest and newest.failure,
        "isProvisional": bool(order and order.is_provisional),
        "syncStatus": sync_status(case),
        "currency": attempt.currency,
        "subtotal": source.subtotal,
        "discount": source.discount,
        "shipping": source.shipping,
        "tax": source.tax,
        "total": source.total,
        "items": lines,
        "sessionId": newest and newest.session_id,
        "previousSessionId": previous and previous.session_id,
        "paymentIntentId": paid or (newest and newest.payment_intent),
        "amountReceived": sum(payment.amount for payment in case.settling) or None,
        "createdAt": source.created_at.isoformat(),
        "updatedAt": (order.updated_at if order else attempt.created_at).isoformat(),
    }
    if attempt.code:
        shown["discountCode"] = attempt.code
    if attempt.tax_rates is not None:
        shown["taxRates"] = [_rate(rate) for rate in attempt.tax_rates]
    if plans.recurring(attempt.lines):
        shown["subscriptions"] = [_subscription(row) for row in case.plans]
    optional = ("failureReason", "previousSessionId", "paymentIntentId", "amountReceived")
    return {k: v for k, v in shown.items() if v is not None or k not in optional}


def _changes(discount: int, tax: int) -> dict[str, int]:
    """What a line's price was changed by, where it was."""
    return {name: sum_ for name, sum_ in (("discount", discount), ("tax", tax)) if sum_}


def _rate(rate: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "percent", "country", "inclusive", "amount")
    return {**{name: rate[name] for name in names}, "taxableAmount": rate["taxable"]}


def _line(
    sku: str,
    title: str,
    unit_amount: int,
    quantity: int,
    plan: Mapping[str, Any] | None,
    state: str = LineState.PENDING,
) -> dict[str, Any]:
    line = {"sku": sku, "title": title, "unitAmount": unit_amount, "quantity": quantity}
    if plan:
        interval, count, trial_days = plans.rhythm(plan)
        line["plan"] = {"interval": interval, "count": count, "trialDays": trial_days}
        line["state"] = str(state)
    return line


def _subscription(row: Subscription) -> dict[str, Any]:
    shown = {
        "id": row.id,
        "sku": row.part,
        "status": row.status,
        "unitAmount": row.unit_amount,
        "quantity": row.quantity,
        "currency": row.currency,
        "interval": row.interval,
        "intervalCount": row.interval_count,
        "currentPeriodEnd": row.period_end and row.period_end.isoformat(),
        "cancelAt": row.cancel_at and row.cancel_at.isoformat(),
        "payUrl": row.pay_url,
    }
    return {name: value for name, value in shown.items() if value is not None}


def pay_links(order_ids: list[str]) -> dict[str, str]:
    """Where an invoice of a subscription waits to be paid, by order."""
    with reading() as session:
        rows: Any = session.execute(
            select(Subscription.checkout_attempt_id, Subscription.pay_url).where(
                Subscription.checkout_attempt_id.in_(order_ids),
                Subscription.pay_url.is_not(None),
                Subscription.status.not_in(plan_rows.ENDED),
            )
        ).all()
    return dict(rows)
