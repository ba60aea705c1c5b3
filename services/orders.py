"""Orders as people look at them: one's own, or an admin's list and page."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import String, and_, cast, func, or_, select

from domain.transitions import Status, payment_status
from extensions import db, reading
from models import (
    CheckoutAttempt,
    Order,
    OrderEvent,
    OrderItem,
    Payment,
    Shipment,
    ShopException,
    StripeEvent,
    StripeLeg,
)
from services.legs import SAVES_CARD
from services.shop import IDENTITY

PAGE = 50
COUNTED_UP_TO = 1000  # a view's count is exact up to here, then "1000+"

VIEWS: dict[str, tuple[str, Any]] = {
    "all": ("All", None),
    "to-ship": (
        "To ship",
        Order.status.in_((Status.PAYMENT_CONFIRMED, Status.AWAITING_SHIPMENT)),
    ),
    "confirming": ("Confirming", Order.status == Status.PENDING_PAYMENT),
    "refunds": ("Refunds", Order.refunded > 0),
    "ended": (
        "Not paid",
        and_(Order.status.in_((Status.CANCELLED, Status.EXPIRED)), Order.paid_at.is_(None)),
    ),
}


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything about one checkout that a page may show."""

    attempt: CheckoutAttempt
    order: Order | None
    items: list[OrderItem]
    legs: list[StripeLeg]
    payments: list[Payment]
    shipments: list[Shipment] = field(default_factory=list)
    unsure: bool = False  # Stripe was asked and did not answer: what we know may be old

    def is_paid_through(self, intent: str) -> bool:
        """Whether this payment intent belongs to one of its legs."""
        return any(leg.payment_intent == intent for leg in self.legs)

    def has_card_by(self, setup: str) -> bool:
        """Whether this setup intent is one of its legs."""
        return any(leg.stripe_id == setup for leg in self.legs if leg.kind == SAVES_CARD)

    @property
    def newest_leg(self) -> StripeLeg | None:
        """The last one that we opened: what it can be paid through, if anything."""
        return next((leg for leg in reversed(self.legs) if leg.is_ours), None)

    @property
    def has_moved_money(self) -> bool:
        """Whether it was paid, or is being paid: it is no longer the shopper's to end."""
        attempt = self.attempt
        return attempt.state == "settled" or attempt.is_processing or bool(self.payments)


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
        discount=0,
        shipping=attempt.shipping,
        tax=0,
        total=attempt.total,
        refunded=0,
        name=contact.get("name"),
        email=contact.get("email"),
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
    shopper_id: str, before: tuple[datetime, str] | None = None, limit: int = 20
) -> list[Order]:
    """A shopper's orders, newest first."""
    query = select(Order).where(Order.shopper_id == shopper_id)
    return _page(query, before, limit)


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


def admin_list(
    view: str = "all", search: str = "", before: tuple[datetime, str] | None = None
) -> list[Order]:
    """A page of the admin's list, newest first; ``before`` is (created_at, id) of the last row."""
    query = select(Order)
    condition = VIEWS.get(view, VIEWS["all"])[1]
    if condition is not None:
        query = query.where(condition)
    if search:
        query = query.where(_matches(search))
    return _page(query, before, PAGE + 1)


def view_counts() -> dict[str, int]:
    """How many orders each view holds, counted up to ``COUNTED_UP_TO``."""
    counts = {}
    with reading() as session:
        for code, (_, condition) in VIEWS.items():
            some = select(Order.id)
            if condition is not None:
                some = some.where(condition)
            capped = some.limit(COUNTED_UP_TO).subquery()
            counts[code] = session.scalar(select(func.count()).select_from(capped)) or 0
    return counts


def items_text(order_ids: list[str]) -> dict[str, str]:
    """``2 × Enamel mug, 1 × Desk lamp`` for each order, in one query."""
    texts: dict[str, list[str]] = {}
    with reading() as session:
        for item in session.scalars(
            select(OrderItem).where(OrderItem.order_id.in_(order_ids)).order_by(OrderItem.id)
        ):
            texts.setdefault(item.order_id, []).append(f"{item.quantity} × {item.title}")
    return {order_id: ", ".join(parts) for order_id, parts in texts.items()}


def with_exceptions(order_ids: list[str]) -> set[str]:
    """Which of these orders have an open exception."""
    with reading() as session:
        return set(
            session.scalars(
                select(ShopException.order_id).where(
                    ShopException.state == "open", ShopException.order_id.in_(order_ids)
                )
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


def _matches(search: str) -> Any:
    """Number, e-mail, name, or any Stripe id, as it was pasted."""
    text = search.strip()[:200]
    bare = text.upper().removeprefix(f"{IDENTITY.number_prefix}-")
    if bare.isascii() and bare.isdigit():
        return cast(Order.number, String) == bare
    if text.startswith(("cs_", "pi_")):
        return or_(
            Order.payment_intent == text,
            Order.id.in_(
                select(StripeLeg.attempt_id).where(
                    or_(StripeLeg.stripe_id == text, StripeLeg.payment_intent == text)
                )
            ),
        )
    like = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return or_(
        Order.id == text,
        Order.email.ilike(like, escape="\\"),
        Order.name.ilike(like, escape="\\"),
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
    paid = next((payment for payment in case.payments if payment.role == "settles"), None)
    lines: list[Any] = [
        {
            "sku": item.sku,
            "title": item.title,
            "unitAmount": item.unit_amount,
            "quantity": item.quantity,
        }
        for item in case.items
    ] or [
        {
            "sku": line["sku"],
            "title": line["title"],
            "unitAmount": line["unit_amount"],
            "quantity": line["quantity"],
        }
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
        "discount": order.discount if order else 0,
        "shipping": source.shipping,
        "tax": order.tax if order else 0,
        "total": source.total,
        "items": lines,
        "sessionId": newest and newest.session_id,
        "previousSessionId": previous and previous.session_id,
        "paymentIntentId": paid.payment_intent if paid else newest and newest.payment_intent,
        "amountReceived": paid.amount if paid else None,
        "createdAt": source.created_at.isoformat(),
        "updatedAt": (order.updated_at if order else attempt.created_at).isoformat(),
    }
    optional = ("failureReason", "previousSessionId", "paymentIntentId", "amountReceived")
    return {k: v for k, v in shown.items() if v is not None or k not in optional}
