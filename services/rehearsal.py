"""What an event would change if it were applied now: applied as ever, looked at, and rolled back.

Stripe is only read, nothing is sent, and every transaction ends in a rollback. What would need a
write at Stripe, or more than one transaction, is said in words instead. On PostgreSQL a number for
a new order may be skipped, because its sequence never goes back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from sqlalchemy import select

from domain.errors import ShopError, StripeError
from domain.facts import LIVE, Fact, LegState, News
from domain.money import display
from extensions import db, reading, rehearsing
from gateway import current_gateway, facts
from models import (
    CheckoutAttempt,
    Dispute,
    Order,
    OrderItem,
    OutboxMessage,
    Payment,
    Product,
    Refund,
    ShopException,
    StripeEvent,
    StripeLeg,
    Subscription,
)
from services import attempts, inbox, settle
from services.causes import Cause

log = structlog.get_logger()

Rows = dict[tuple[str, str], dict[str, Any]]  # (what, which) -> what is shown of it

MAILS = {
    "receipt": "the receipt",
    "payment_failed": "that the payment failed",
    "refunded": "that money went back",
    "renewed": "that the subscription renewed",
    "past_due": "that a payment of the subscription is due",
    "subscription_ended": "that the subscription ended",
    "not_started": "that the subscription was never started",
}
TASKS = {
    "refund": "Stripe is asked to refund what is left of a payment",
    "subscription": "Stripe is asked to start a subscription",
    "end_subscription": "Stripe is asked to end a subscription",
}
ROLES = {
    "settles": "settles the order",
    "surplus": "is too much",
    "mismatch": "is not what was due",
    "renewal": "renews a subscription",
}


@dataclass(slots=True)
class Rehearsal:
    """``changes`` in words, none if all of it stays as it is; ``note`` says what was not tried."""

    event_id: str
    type: str = ""
    order_id: str | None = None
    changes: list[str] = field(default_factory=list)
    note: str | None = None


def of_event(event: StripeEvent) -> Rehearsal:
    """What this event would change now. Never raises what Stripe answers; says it instead."""
    told = Rehearsal(event.id, event.type)
    try:
        _rehearse(event, told)
    except StripeError as error:
        told.note = f"It could not be tried: {error.message}"
    except ShopError as error:
        told.note = f"It would be refused: {error.message}"
    except Exception as error:  # what would kill the event is what one wants to see
        log.exception("rehearsal.failed", event_id=event.id)
        told.note = f"It would fail again: {type(error).__name__}: {error}"[:500]
    return told


def _rehearse(event: StripeEvent, told: Rehearsal) -> None:
    news = facts.of_event(json.loads(event.payload))
    if news.ignored:
        told.note = f"It would be ignored: {news.ignored}."
        return
    news = inbox.told(news)
    told.order_id = inbox.attempt_of(news)
    if told.order_id is None:
        told.note = "It would be ignored: it names no checkout of this shop."
        return
    if not attempts.exists(told.order_id):
        told.order_id = None
        told.note = (
            "This shop has no record of its checkout. It would be made anew from what Stripe kept, "
            "if it is ours and fits the catalogue; else its money becomes an exception."
            if news.payment
            else "It would be ignored: this shop has no record of its checkout."
        )
        return
    if news.payment and _is_forgotten(told.order_id):
        told.note = (
            "Its person is forgotten here: Stripe would first be asked for name and address."
        )
        return
    seen, told.note = _looked(news, told.order_id)
    snapshots: list[Rows] = []
    order_id = told.order_id
    with (
        structlog.contextvars.bound_contextvars(rehearsal=True),
        rehearsing(lambda: snapshots.append(_around(order_id))),
    ):
        settle.settle(order_id, Cause(event.lane, event_id=event.id), news=seen)
    if len(snapshots) >= 2:
        told.changes = list(_differences(snapshots[-2], snapshots[-1]))


def _is_forgotten(attempt_id: str) -> bool:
    with reading() as session:
        forgotten = CheckoutAttempt.purged_at.is_not(None)
        born = select(Order.id).where(Order.id == attempt_id).exists()
        found = select(CheckoutAttempt.id).where(CheckoutAttempt.id == attempt_id, forgotten, ~born)
        return session.scalar(found) is not None


def _looked(news: News, attempt_id: str) -> tuple[News, str | None]:
    """The same news with everything read that settling would read, so that it asks for nothing."""
    gateway = current_gateway()
    told: tuple[Fact, ...] = ()
    note = None
    if news.must_look:
        with reading():
            live = [leg for leg in attempts.legs_of(attempt_id) if leg.state in LIVE]
        for leg in live:
            if leg.stripe_id is None:
                note = "A payment page that is just being opened was left out."
            else:
                told += gateway.read_leg(leg.kind, leg.stripe_id)
            if leg.state == LegState.PROCESSING:
                note = "If the bank has said no, its payment page would be closed at Stripe first."
    if news.reads:
        told += gateway.read(*news.reads)
    return replace(news, facts=news.facts + told, must_look=False, reads=None), note


# -- what is looked at, and how it is said


def _around(order_id: str) -> Rows:
    """Everything that settling an order may change. Locks it, so that the first look and the second
    see nobody else's work."""
    attempt = attempts.lock(order_id)
    rows: Rows = {}
    if attempt is None:
        return rows
    rows["checkout", order_id] = _shown(attempt, "status", "hold", "is_processing", "lines_out")
    kinds: tuple[tuple[str, Any, Any, tuple[str, ...]], ...] = (
        ("order", Order, Order.id == order_id,
         ("number", "status", "payment_status", "refunded", "sync_status", "is_provisional")),
        ("leg", StripeLeg, StripeLeg.attempt_id == order_id, ("stripe_id", "state")),
        ("payment", Payment, Payment.attempt_id == order_id,
         ("payment_intent", "amount", "currency", "role")),
        ("refund", Refund, Refund.order_id == order_id, ("amount", "currency", "state")),
        ("dispute", Dispute, Dispute.order_id == order_id, ("amount", "currency", "status")),
        ("line", OrderItem, OrderItem.order_id == order_id, ("title", "state")),
        ("plan", Subscription, Subscription.checkout_attempt_id == order_id, ("title", "status")),
        ("effect", OutboxMessage, OutboxMessage.order_id == order_id, ("kind",)),
        ("exception", ShopException, ShopException.order_id == order_id, ("type", "state")),
    )  # fmt: skip
    for kind, model, where, names in kinds:
        for row in db.session.scalars(select(model).where(where)):
            rows[kind, str(row.id)] = _shown(row, *names)
    ids = [line["product_id"] for line in attempt.lines]
    for product in db.session.scalars(select(Product).where(Product.id.in_(ids))):
        rows["stock", str(product.id)] = _shown(product, "title", "on_hand", "held", "sold")
    return rows


def _shown(row: Any, *names: str) -> dict[str, Any]:
    return {name: _plain(getattr(row, name)) for name in names}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _differences(before: Rows, after: Rows) -> Iterator[str]:
    for key, now_ in after.items():
        kind, _ = key
        was = before.get(key)
        if was == now_:
            continue
        said = _SAY[kind](was, now_)
        if said:
            yield said


def _moved(name: str, was: Any, now_: Any) -> str | None:
    if was == now_:
        return None
    return f"{name} {_word(was)} → {_word(now_)}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("_", " ")


def _steps(was: dict[str, Any], now_: dict[str, Any], **names: str) -> str:
    steps = [_moved(spoken, was[name], now_[name]) for name, spoken in names.items()]
    return ", ".join(step for step in steps if step)


def _sum(row: dict[str, Any]) -> str:
    if row.get("amount") is None or not row.get("currency"):
        return "what is left"
    return display(row["amount"], row["currency"])


def _checkout(was: Any, now_: Any) -> str | None:
    stock = {"held": "set aside", "sold": "sold", "released": "free again"}
    said = [
        _moved("status", was["status"], now_["status"]),
        _moved("its goods", stock[was["hold"]], stock[now_["hold"]]),
        _moved("waits for the bank or a person", was["is_processing"], now_["is_processing"]),
    ]
    if was["lines_out"] != now_["lines_out"]:
        said.append("its lines leave the basket" if now_["lines_out"] else "its lines come back")
    told = ", ".join(part for part in said if part)
    return f"Checkout: {told}" if told else None


def _order(was: Any, now_: Any) -> str | None:
    if was is None:
        return f"A new order: {_word(now_['status'])}, {_word(now_['payment_status'])}"
    steps = _steps(
        was,
        now_,
        status="status",
        payment_status="payment",
        refunded="refunded (minor units)",
        sync_status="sync",
        is_provisional="provisional",
    )
    return f"Order: {steps}" if steps else None


def _new_or(noun: str, name: str, *, spoken: Any = _sum) -> Any:
    def say(was: Any, now_: Any) -> str:
        about = f"{noun} {spoken(now_)}"
        if was is None:
            return f"{about}: new, {_word(now_[name])}"
        return f"{about}: {_moved(name, was[name], now_[name])}"

    return say


def _payment(was: Any, now_: Any) -> str:
    role = ROLES.get(now_["role"], now_["role"])
    if was is None:
        told = f"Payment of {_sum(now_)} ({_short(now_['payment_intent'])})"
        return f"{told} is written down: it {role}"
    return f"Payment of {_sum(now_)} ({_short(now_['payment_intent'])}): now it {role}"


def _effect(was: Any, now_: Any) -> str | None:
    if was is not None:
        return None
    kind = now_["kind"]
    if kind in MAILS:
        return f"Mail to the shopper: {MAILS[kind]}"
    return TASKS.get(kind, f"Task: {_word(kind)}")


def _exception(was: Any, now_: Any) -> str:
    what = _word(now_["type"])
    return f"Exception “{what}” {'opens' if now_['state'] == 'open' else 'is resolved'}"


def _stock(was: Any, now_: Any) -> str | None:
    steps = _steps(was, now_, on_hand="on hand", held="held", sold="sold")
    return f"Stock of {now_['title']}: {steps}" if steps else None


def _short(id_: str | None) -> str:
    id_ = id_ or ""
    return id_ if len(id_) <= 18 else f"{id_[:12]}…{id_[-4:]}"


def _title(row: dict[str, Any]) -> str:
    return f"“{row['title']}”"


_SAY: dict[str, Any] = {
    "checkout": _checkout,
    "order": _order,
    "leg": _new_or("Payment page", "state", spoken=lambda row: _short(row["stripe_id"])),
    "payment": _payment,
    "refund": _new_or("Refund of", "state"),
    "dispute": _new_or("Dispute over", "status"),
    "line": _new_or("Line", "state", spoken=_title),
    "plan": _new_or("Subscription", "status", spoken=_title),
    "effect": _effect,
    "exception": _exception,
    "stock": _stock,
}
