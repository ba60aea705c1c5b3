"""Everything the shop knows, as lines that outlive it.

Every line names its ``kind`` first; a leg's and a message's own kind are ``leg_kind`` and
``message_kind``, because one name cannot say two things.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from extensions import db, reading
from models import (
    CheckoutAttempt,
    Dispute,
    Order,
    OrderEvent,
    OrderItem,
    OutboxMessage,
    Payment,
    Product,
    Refund,
    Shipment,
    ShopException,
    StockMovement,
    StripeEvent,
    StripeLeg,
    Subscription,
)
from services.cells import guarded

CHUNK = 500
Row = dict[str, Any]


def lines(form: str, kinds: Sequence[str]) -> Iterator[str]:
    """Lines of JSON, or CSV with one header per kind; formulas are made harmless in CSV."""
    for kind in kinds:
        if form == "jsonl":
            for row in KINDS[kind]():
                yield json.dumps({"kind": kind, **row}, default=_plain, ensure_ascii=False)
            continue
        header: list[str] | None = None
        for row in KINDS[kind]():
            if header is None:
                header = ["kind", *row]
                yield _csv(header)
            yield _csv([kind, *(_plain(value) for value in row.values())])


def _rows(model: Any, **columns: Any) -> Iterator[Row]:
    """A table in pages, by primary key, so that a large shop exports in little memory."""
    key = model.__mapper__.primary_key[0]
    last = None
    while True:
        query = select(key, *columns.values()).order_by(key).limit(CHUNK)
        if last is not None:
            query = query.where(key > last)
        with reading():
            page = db.session.execute(query).all()
        for row in page:
            yield dict(zip(columns, row[1:], strict=True))
        if len(page) < CHUNK:
            return
        last = page[-1][0]


def _attempts() -> Iterator[Row]:
    a = CheckoutAttempt
    yield from _rows(
        a,
        id=a.id,
        strategy=a.strategy_name,
        state=a.state,
        hold=a.hold,
        total=a.total,
        currency=a.currency,
        deadline=a.deadline,
        purged=a.purged_at.is_not(None),
    )


def _orders() -> Iterator[Row]:
    o = Order
    names = (
        "id number status payment_status is_provisional subtotal discount shipping tax total "
        "currency email created_at paid_at"
    ).split()
    yield from _rows(o, **{name: getattr(o, name) for name in names})


def _items() -> Iterator[Row]:
    i = OrderItem
    yield from _rows(
        i,
        order=i.order_id,
        sku=i.sku,
        quantity=i.quantity,
        unit_amount=i.unit_amount,
        state=i.state,
    )


def _legs() -> Iterator[Row]:
    leg = StripeLeg
    yield from _rows(
        leg,
        stripe_id=leg.stripe_id,
        attempt=leg.attempt_id,
        leg_kind=leg.kind,
        amount=leg.amount,
        currency=leg.currency,
        state=leg.state,
        deadline=leg.deadline,
    )


def _payments() -> Iterator[Row]:
    p = Payment
    order = select(Order.id).where(Order.id == p.attempt_id).scalar_subquery()
    yield from _rows(
        p,
        payment_intent=p.payment_intent,
        attempt=p.attempt_id,
        order=order,
        amount=p.amount,
        currency=p.currency,
        state=p.state,
        role=p.role,
    )


def _refunds() -> Iterator[Row]:
    r = Refund
    yield from _rows(
        r,
        stripe_id=r.stripe_id,
        payment_intent=r.payment_intent,
        order=r.order_id,
        amount=r.amount,
        state=r.state,
    )


def _disputes() -> Iterator[Row]:
    d = Dispute
    yield from _rows(
        d,
        stripe_id=d.stripe_id,
        payment_intent=d.payment_intent,
        order=d.order_id,
        amount=d.amount,
        status=d.status,
    )


def _subscriptions() -> Iterator[Row]:
    s = Subscription
    yield from _rows(
        s, stripe_id=s.stripe_id, attempt=s.checkout_attempt_id, part=s.part, status=s.status
    )


def _shipments() -> Iterator[Row]:
    s = Shipment
    yield from _rows(
        s, id=s.id, order=s.order_id, carrier=s.carrier, tracking=s.tracking, lines=s.lines, at=s.at
    )


def _exceptions() -> Iterator[Row]:
    e = ShopException
    yield from _rows(
        e, id=e.id, type=e.type, stripe_id=e.stripe_id, order=e.order_id, state=e.state
    )


def _stock() -> Iterator[Row]:
    p = Product

    def moved(kind: str) -> Any:
        return (
            select(func.coalesce(func.sum(StockMovement.quantity), 0))
            .where(StockMovement.product_id == p.id, StockMovement.kind == kind)
            .scalar_subquery()
        )

    yield from _rows(
        p,
        sku=p.sku,
        initial=moved("initial"),
        received=moved("received"),
        restocked=moved("restocked"),
        on_hand=p.on_hand,
        held=p.held,
        sold=p.sold,
    )


def _events() -> Iterator[Row]:
    e = StripeEvent
    yield from _rows(e, id=e.id, type=e.type, state=e.state, tries=e.tries)


def _messages() -> Iterator[Row]:
    m = OutboxMessage
    yield from _rows(
        m,
        message_kind=m.kind,
        key=m.key,
        order=m.order_id,
        message_id=m.result["message_id"].as_string(),
        sent_at=m.done_at,
    )


def _transitions() -> Iterator[Row]:
    """Of orders only: an attempt that never became one has a history too, which ends with it."""
    e = OrderEvent
    for row in _rows(
        e,
        kind_of_event=e.kind,
        born=select(Order.id).where(Order.id == e.order_id).scalar_subquery(),
        order=e.order_id,
        **{"from": e.from_status},
        to=e.to_status,
        cause=e.cause,
        at=e.at,
    ):
        is_move, is_orders = row.pop("kind_of_event") == "transition", row.pop("born")
        if is_move and is_orders:
            yield row


KINDS = {
    "attempt": _attempts,
    "order": _orders,
    "order_item": _items,
    "leg": _legs,
    "payment": _payments,
    "refund": _refunds,
    "dispute": _disputes,
    "subscription": _subscriptions,
    "shipment": _shipments,
    "exception": _exceptions,
    "stock": _stock,
    "event": _events,
    "message": _messages,
    "transition": _transitions,
}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _csv(values: Sequence[Any]) -> str:
    out = io.StringIO()
    cells = [guarded(value) if isinstance(value, str) else value for value in values]
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()
