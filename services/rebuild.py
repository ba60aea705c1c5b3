"""Money came, but what was submitted is gone: make it anew from what Stripe kept (rule R10).

An attempt is missing after a backup was restored; its person is missing when money comes long after
an unpaid end. Stripe has the lines, the amounts, who paid, and where the parcel goes. Nothing is
guessed: what does not fit our catalogue to the cent is left to a person.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import structlog
from flask import current_app
from sqlalchemy import select

from domain import plans
from domain.clock import now
from domain.delivery import DELIVERIES
from domain.errors import StripeMissing
from domain.facts import LegState, PaymentSucceeded
from domain.transitions import Status
from extensions import atomic, db, insert_once, reading, retrying
from gateway import current_gateway
from gateway.facts import Payer, Purchase, PurchaseLine
from gateway.pricing import rates_of
from models import CheckoutAttempt, Product, StripeLeg
from services import history, language
from services import settings as shop_settings
from services.causes import Cause

log = structlog.get_logger()


def attempt(attempt_id: str, paid: PaymentSucceeded, cause: Cause) -> bool:
    """Write a missing attempt anew, as one that had ended unpaid; says whether it is there now.

    Settling then treats its payment as late money: stock is taken again if there is any. Only what
    this shop itself opened is made anew. Raises the Stripe errors. Safe to repeat.
    """
    bought = _purchase(paid.payment_intent, paid.subscription)
    if bought is None or not _is_ours(bought, attempt_id):
        return False
    made = _lines(bought)
    if made is None:
        log.warning("rebuild.lines_unknown", attempt=attempt_id, session=bought.session_id)
        return False
    return _write(attempt_id, bought, made, cause)


def refill(attempt_id: str, payment_intent: str | None, subscription: str | None = None) -> None:
    """Give a tombstone its person back, so that its order can be made. What Stripe does not know
    either stays unknown. Raises the Stripe errors. Safe to repeat."""
    payer, label = Payer(), None
    if payment_intent:
        bought = _purchase(payment_intent, subscription)
        label = language.own_words(bought.delivery_label or "") or None if bought else None
        payer = bought.payer if bought else current_gateway().payer_of(payment_intent)
    with atomic() as session:
        known = session.get(CheckoutAttempt, attempt_id)
        if known and known.purged_at:
            known.erased_at = None  # they have bought again: the parcel needs somebody to go to
            known.purged_at = None  # the clock forgets the person again once this is settled
            known.snapshot = {**known.snapshot, **_person(payer, label, known.shipping)}


def _purchase(payment_intent: str, subscription: str | None = None) -> Purchase | None:
    try:
        return current_gateway().purchase_of(payment_intent, subscription)
    except StripeMissing:
        return None


def _is_ours(bought: Purchase, attempt_id: str) -> bool:
    """Another shop on this Stripe account has the same kind of metadata, but not our address."""
    came_from = urlsplit(bought.back_to)._replace(path="", query="", fragment="").geturl()
    ours: str = current_app.extensions["settings"].public_origin
    return bought.reference == attempt_id and came_from == ours and _is_id(attempt_id)


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Made:
    """What was bought, as a snapshot holds it; amounts in minor units, ``tax`` is on top."""

    lines: list[dict[str, Any]]
    shipping: int
    label: str | None
    tax: int
    tax_rates: list[dict[str, Any]] | None


def _lines(bought: Purchase) -> _Made | None:
    """Stripe's line items, with what the delivery cost, if each is exactly one product of ours and
    the amounts add up; None otherwise."""
    sold = [replace(line, title=language.own_words(line.title)) for line in bought.lines]
    shipping, label = bought.shipping, language.own_words(bought.delivery_label or "") or None
    if any(line.rhythm for line in sold):  # then the parcel is a line of its own
        labels = {way.label for way in DELIVERIES.values()}
        sent = next((line for line in sold if line.title in labels and not line.rhythm), None)
        if sent:
            sold.remove(sent)
            shipping, label = sent.due, sent.title
    titles = [line.title for line in sold]
    with reading():
        found = list(db.session.scalars(select(Product).where(Product.title.in_(titles))))
    products = {product.title: product for product in found}
    if not titles or len(found) != len(products) or set(titles) != set(products):
        return None
    rates = None if bought.taxes is None else rates_of(bought.taxes)
    on_top = [rate["amount"] for rate in rates or () if not rate["inclusive"]]
    subtotal, tax = sum(line.due for line in bought.lines), sum(on_top)
    total = subtotal - bought.discount + bought.shipping + tax
    if (bought.subtotal, bought.total) != (subtotal, total):
        return None
    lines: list[dict[str, Any]] = [
        {
            "product_id": products[line.title].id,
            "sku": products[line.title].sku,
            "title": line.title,
            "subtitle": products[line.title].subtitle,
            "picture": products[line.title].picture,
            "unit_amount": line.unit_amount,
            "quantity": line.quantity,
            **_plan(line, products[line.title]),
            **({"discount": line.discount} if bought.discount else {}),
            **({"tax": line.tax} if on_top else {}),
        }
        for line in sold
    ]
    parcel_tax = tax - sum(line.get("tax", 0) for line in lines)
    if sum(plans.due_now(lines, shipping + parcel_tax).values()) != bought.total:
        return None
    lines.sort(key=lambda line: line["product_id"])
    return _Made(lines, shipping, label, tax, rates)


def _plan(line: PurchaseLine, product: Product) -> dict[str, Any]:
    """How a line recurs, as it was bought. How long its trial is, Stripe's subscription knows."""
    if line.rhythm is None:
        return {}
    trial_days = 0 if line.due else max(product.trial_days, 1)
    return {"plan": plans.plan(*line.rhythm, trial_days)}


def _person(payer: Payer, label: str | None, shipping: int) -> dict[str, Any]:
    """The personal part of a snapshot; ``shipping`` in minor units."""
    way = next((way for way in DELIVERIES.values() if way.label == label), None)
    return {
        "contact": {"name": payer.name, "email": payer.email, "phone": payer.phone},
        "address": payer.address,
        "delivery": {"code": way.code if way else "", "label": label, "amount": shipping},
    }


@retrying
def _write(
    attempt_id: str,
    bought: Purchase,
    made: _Made,
    cause: Cause,
) -> bool:
    strategy, _ = shop_settings.strategy_for(bought.payer.email or "")
    person = _person(bought.payer, made.label, made.shipping)
    with atomic() as session:
        new = insert_once(
            CheckoutAttempt,
            id=attempt_id,
            shopper_id=str(uuid.uuid4()),  # nobody's browser: the order is reached by its link
            strategy=strategy.name,
            payment_ui="hosted",
            fingerprint="",
            snapshot={"lines": made.lines, **person},
            currency=bought.currency,
            subtotal=bought.total - made.shipping - made.tax + bought.discount,
            discount=bought.discount,
            shipping=made.shipping,
            tax=made.tax,
            total=bought.total,
            tax_rates=made.tax_rates,
            code=bought.code,
            state="closed",
            status=Status.EXPIRED,
            is_processing=False,
            hold="released",
            lines_out=False,
            deadline=bought.expires_at,
            created_at=bought.created,
            closed_at=now(),
            failed_looks=0,
        )
        if new:
            session.add(
                StripeLeg(
                    attempt_id=attempt_id,
                    stripe_id=bought.session_id,
                    payment_intent=bought.payment_intent,
                    amount=bought.total,
                    currency=bought.currency,
                    state=LegState.OPEN,
                    deadline=bought.expires_at,
                )
            )
            history.moved(
                attempt_id, None, Status.EXPIRED, cause, "made anew from what Stripe kept"
            )
            log.warning("rebuild.attempt", attempt=attempt_id, session=bought.session_id)
    return True
