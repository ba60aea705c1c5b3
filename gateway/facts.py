"""Stripe's objects, as plain dicts, turned into facts. Pure: no I/O, no SDK.

Sources: Stripe's API reference for Checkout Sessions, PaymentIntents, SetupIntents, Subscriptions,
Invoices, Charges, Refunds and Events, version 2026-10-28.endive.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from domain.bills import Bill
from domain.facts import (
    DisputeSeen,
    Fact,
    ItemSeen,
    LegEnded,
    LegSeen,
    LegState,
    News,
    Origin,
    PaymentSucceeded,
    RefundSeen,
    SubscriptionSeen,
)

PRODUCT = "quittance_"  # and a sku: the products that our subscriptions are of
ATTEMPT_KEY = "checkout_attempt_id"  # the only key that we put into Stripe's metadata

# Statuses of a subscription that is over (docs.stripe.com/api/subscriptions/object).
ENDED = ("canceled", "incomplete_expired")

StripeObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PurchaseLine:
    """A line item; amounts in minor units, ``due`` is what it cost at first, before ``discount``
    and ``tax``. ``rhythm`` is its interval and how many of them, if it recurs."""

    title: str
    unit_amount: int
    quantity: int
    due: int
    rhythm: tuple[str, int] | None = None
    discount: int = 0
    tax: int = 0


@dataclass(frozen=True, slots=True)
class Payer:
    """Who paid, and where the parcel goes, as far as Stripe was told."""

    name: str | None = None
    email: str | None = None
    phone: str | None = None
    address: dict[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Purchase:
    """All that Stripe kept of a checkout; amounts in minor units, times UTC."""

    session_id: str
    payment_intent: str | None
    reference: str | None  # the attempt's id, as only our own call sets it
    back_to: str  # where the browser went after paying: success or return address
    lines: tuple[PurchaseLine, ...]
    currency: str
    subtotal: int
    shipping: int
    total: int
    payer: Payer
    delivery_label: str | None
    created: datetime
    expires_at: datetime
    discount: int = 0
    code: str | None = None
    taxes: list[StripeObject] | None = None  # Stripe's breakdown; None where none was found out


def of_event(event: StripeObject) -> News:
    """What a verified event says for certain, and what must be looked at again."""
    kind = event["type"]
    body = (event.get("data") or {}).get("object") or {}
    reader = _READERS.get(kind)
    if reader is None:
        return News(event["id"], kind, ignored=f"{kind} is not followed by this shop")
    return reader(event["id"], kind, body)


def of_session(session: StripeObject, paid_by: StripeObject | None = None) -> tuple[Fact, ...]:
    """A session, with its payment intent expanded if it was read that way.

    One that subscribes names no intent: ``paid_by`` is the one that paid its invoice.
    """
    if session.get("mode") == "subscription":
        return _of_subscribing(session, paid_by)
    intent = session.get("payment_intent")
    expanded = intent if isinstance(intent, dict) else None
    intent_id = expanded["id"] if expanded else intent
    origin = _origin(session)
    state, paid = session["status"], session["payment_status"]

    if state == "expired":
        return (LegEnded(session["id"], LegState.EXPIRED, intent_id, origin=origin),)
    if state == "complete" and paid == "no_payment_required":
        return (LegEnded(session["id"], LegState.COMPLETE, None, _address(session), origin),)
    if paid == "paid" and intent_id:
        payment = PaymentSucceeded(
            payment_intent=intent_id,
            amount=session["amount_total"],
            currency=session["currency"],
            leg_id=session["id"],
            method=_method(_charge_of(expanded)),
            charge_id=id_of((expanded or {}).get("latest_charge")),
            created=time_of((expanded or session).get("created")),
            origin=origin,
        )
        ended = LegEnded(
            session["id"],
            LegState.COMPLETE,
            intent_id,
            _address(session),
            origin,
            bill=bill_of(session),
        )
        return (payment, ended)

    failure = _failure(expanded)
    if state == "complete":
        # Complete and unpaid with an intent that wants another payment method: failed for good,
        # because nobody can enter one in a session that is complete.
        dead = (expanded or {}).get("status") in ("requires_payment_method", "canceled")
        leg_state = LegState.FAILED if dead else LegState.PROCESSING
    else:
        leg_state = LegState.OPEN
    seen = LegSeen(session["id"], leg_state, intent_id, failure, origin)
    if expanded and expanded.get("status") == "succeeded":
        return (*of_intent(expanded), seen)  # paid a moment before the session says complete
    return (seen,)


def bill_of(session: StripeObject) -> Bill | None:
    """What a session adds up to; one that only saves a card adds up to nothing."""
    details = session.get("total_details")
    if details is None:
        return None
    return Bill(
        before=session["amount_subtotal"] + (details["amount_shipping"] or 0),
        discount=details["amount_discount"],
        tax=details["amount_tax"],
        total=session["amount_total"],
        currency=session["currency"],
    )


def _of_subscribing(session: StripeObject, paid_by: StripeObject | None) -> tuple[Fact, ...]:
    """A session that subscribes, its subscription expanded: its money comes through an invoice."""
    id, origin, paid = session["id"], _origin(session), session["payment_status"]
    if session["status"] == "expired":
        return (LegEnded(id, LegState.EXPIRED, origin=origin),)
    if session["status"] == "open":
        return (LegSeen(id, LegState.OPEN, origin=origin),)
    subscription = session.get("subscription")
    seen: tuple[Fact, ...] = ()
    if isinstance(subscription, dict):
        seen = (of_subscription(subscription, leg_id=id, paid_by=paid_by),)
    intent_id = id_of(paid_by)
    if paid == "unpaid":
        dead = (paid_by or {}).get("status") in ("requires_payment_method", "canceled")
        state = LegState.FAILED if dead else LegState.PROCESSING
        return (LegSeen(id, state, intent_id, _failure(paid_by), origin), *seen)
    ended = LegEnded(id, LegState.COMPLETE, intent_id, _address(session), origin)
    if paid_by is None or paid_by["status"] != "succeeded":
        return (ended, *seen)
    payment = _payment(
        paid_by,
        leg_id=id,
        invoice=id_of(session.get("invoice")),
        subscription=id_of(subscription),
        origin=origin,
    )
    return (payment, ended, *seen)


def of_invoice(
    invoice: StripeObject,
    subscription: StripeObject | None,
    paid_by: StripeObject | None,
    latest_paid_by: StripeObject | None = None,
) -> tuple[Fact, ...]:
    """A subscription's invoice, with what it belongs to and what was or is to pay it. The first
    one is due with the order; later ones renew."""
    id, origin = invoice["id"], _origin_of_invoice(invoice)
    is_first = invoice["billing_reason"] == "subscription_create"
    leg_id = id if is_first else None
    part = _part_of(subscription) if is_first else None
    said: list[Fact] = []
    if invoice["status"] == "paid":
        if paid_by is not None and paid_by["status"] == "succeeded":
            owner = id_of(subscription)
            said.append(
                _payment(
                    paid_by,
                    leg_id=leg_id,
                    invoice=id,
                    subscription=owner,
                    renews=not is_first,
                    part=part,
                    origin=origin,
                )
            )
        if is_first:
            ended = LegEnded(id, LegState.COMPLETE, id_of(paid_by), part=part, origin=origin)
            said.append(ended)
    elif is_first and invoice["status"] in ("void", "uncollectible"):
        said.append(LegEnded(id, LegState.EXPIRED, id_of(paid_by), part=part, origin=origin))
    elif is_first:
        under_way = (paid_by or {}).get("status") == "processing"
        state = LegState.PROCESSING if under_way else LegState.OPEN
        seen = LegSeen(id, state, id_of(paid_by), _failure(paid_by), origin, part)
        said.append(seen)
    if subscription is not None:
        said.append(of_subscription(subscription, leg_id=leg_id, paid_by=latest_paid_by))
    return tuple(said)


def _part_of(subscription: StripeObject | None) -> str | None:
    """The sku of the line that a subscription of ours runs for, as its product says."""
    named = {id for id in products_of(subscription) if id} if subscription else set()
    ours = [id.removeprefix(PRODUCT) for id in named if id.startswith(PRODUCT)]
    return ours[0] if len(ours) == 1 else None


def is_unpaid(invoice: Any) -> bool:
    """Whether an invoice, expanded, was tried and is still to be paid."""
    return isinstance(invoice, dict) and invoice["status"] == "open" and bool(invoice["attempted"])


def of_subscription(
    subscription: StripeObject, leg_id: str | None = None, paid_by: StripeObject | None = None
) -> SubscriptionSeen:
    """A subscription with its latest invoice expanded, and what is to pay that. Its period is on
    its items."""
    items = subscription["items"]["data"]
    ends = items[0].get("current_period_end") if items else None
    leaves = subscription.get("cancel_at")
    if leaves is None and subscription.get("cancel_at_period_end"):
        leaves = ends
    latest = subscription.get("latest_invoice")
    under_way = (paid_by or {}).get("status") == "processing"
    may_pay = isinstance(latest, dict) and is_unpaid(latest) and not under_way
    return SubscriptionSeen(
        subscription_id=subscription["id"],
        status=subscription["status"],
        items=tuple(
            ItemSeen(
                item["id"], item["price"]["id"], item["price"]["unit_amount"], item["quantity"]
            )
            for item in items
        ),
        leg_id=leg_id,
        period_end=time_of(ends),
        trial_end=time_of(subscription.get("trial_end")),
        cancel_at=time_of(leaves),
        ended_at=time_of(subscription.get("ended_at")),
        latest_invoice=id_of(latest),
        pay_url=(latest or {})["hosted_invoice_url"] if may_pay else None,
        origin=_origin(subscription),
    )


def of_setup(setup: StripeObject) -> tuple[Fact, ...]:
    """A setup intent: whether a card is saved, and why not."""
    id, origin = setup["id"], _origin(setup)
    if setup["status"] == "succeeded":
        return (LegEnded(id, LegState.COMPLETE, origin=origin),)
    if setup["status"] == "canceled":
        state = _canceled(setup)
        return (LegEnded(id, state, origin=origin),)
    failure = _code_of(setup.get("last_setup_error"))
    return (LegSeen(id, LegState.OPEN, failure=failure, origin=origin),)


def payer_of_invoice(invoice: StripeObject) -> str | None:
    """The payment intent that paid an invoice or is to pay it, its ``payments`` expanded."""
    payments = (invoice.get("payments") or {}).get("data") or []
    known = [p for p in payments if p["payment"]["type"] == "payment_intent"]
    known.sort(key=lambda payment: payment["status"] == "paid")
    return id_of(known[-1]["payment"]["payment_intent"]) if known else None


def attempt_of(body: StripeObject) -> str | None:
    """The attempt that an object of ours names."""
    return _origin(body).attempt_id


def products_of(subscription: StripeObject) -> set[str | None]:
    return {id_of(item["price"]["product"]) for item in subscription["items"]["data"]}


def attempt_of_invoice(invoice: StripeObject) -> str | None:
    return _origin_of_invoice(invoice).attempt_id


def subscription_of_invoice(invoice: StripeObject) -> str | None:
    return id_of(_subscription_details(invoice).get("subscription"))


def of_intent(intent: StripeObject) -> tuple[Fact, ...]:
    """A payment intent: only what is final about it."""
    if intent["status"] == "succeeded":
        return (_payment(intent, origin=_origin(intent)),)
    if intent["status"] == "canceled":
        state = _canceled(intent)
        return (LegEnded(intent["id"], state, intent["id"], origin=_origin(intent)),)
    return ()


def _payment(intent: StripeObject, **more: Any) -> PaymentSucceeded:
    return PaymentSucceeded(
        payment_intent=intent["id"],
        amount=intent["amount_received"],
        currency=intent["currency"],
        method=_method(_charge_of(intent)),
        charge_id=id_of(intent.get("latest_charge")),
        created=time_of(intent.get("created")),
        **more,
    )


def _canceled(intent: StripeObject) -> LegState:
    """How an intent that is canceled has ended: it ran out, or somebody ended it."""
    ran_out = intent.get("cancellation_reason") in ("abandoned", "automatic", "expired")
    return LegState.EXPIRED if ran_out else LegState.CANCELED


def of_intent_leg(intent: StripeObject) -> tuple[Fact, ...]:
    """A payment intent that is a leg of its own, on a page of ours: its money and how it stands."""
    id, origin = intent["id"], _origin(intent)
    if intent["status"] == "succeeded":
        return (*of_intent(intent), LegEnded(id, LegState.COMPLETE, id, origin=origin))
    if intent["status"] == "canceled":
        return of_intent(intent)
    under_way = intent["status"] in ("processing", "requires_capture")
    state = LegState.PROCESSING if under_way else LegState.OPEN
    return (LegSeen(id, state, id, _failure(intent), origin),)


def of_refund(refund: StripeObject) -> RefundSeen:
    """A refund, with the id of the row of ours that asked for it, if it was ours."""
    return RefundSeen(
        refund_id=refund["id"],
        payment_intent=id_of(refund.get("payment_intent")) or "",
        amount=refund["amount"],
        currency=refund["currency"],
        status=refund.get("status") or "pending",
        our_row=(refund.get("metadata") or {}).get("refund_row"),
    )


def of_dispute(dispute: StripeObject) -> DisputeSeen:
    """A dispute or an inquiry."""
    details = dispute.get("evidence_details") or {}
    return DisputeSeen(
        dispute_id=dispute["id"],
        payment_intent=id_of(dispute.get("payment_intent")) or "",
        amount=dispute["amount"],
        currency=dispute["currency"],
        status=dispute["status"],
        reason=dispute.get("reason") or "general",
        due_by=time_of(details.get("due_by")),
    )


def purchase(session: StripeObject, items: list[StripeObject]) -> Purchase:
    """A session with its intent and shipping rate expanded, and its line items."""
    intent = session.get("payment_intent")
    cost = session.get("shipping_cost") or {}
    rate = cost.get("shipping_rate")
    created, expires_at = time_of(session["created"]), time_of(session["expires_at"])
    assert created is not None
    assert expires_at is not None
    return Purchase(
        session_id=session["id"],
        payment_intent=id_of(intent),
        reference=session.get("client_reference_id"),
        back_to=session.get("success_url") or session.get("return_url") or "",
        lines=tuple(
            PurchaseLine(
                item["description"],
                item["price"]["unit_amount"],
                item["quantity"],
                item["amount_subtotal"],
                _rhythm(item["price"].get("recurring")),
                item["amount_discount"],
                item["amount_tax"],
            )
            for item in items
        ),
        currency=session["currency"],
        subtotal=session["amount_subtotal"],
        shipping=cost.get("amount_subtotal") or 0,
        total=session["amount_total"],
        payer=_payer_of_session(session, intent if isinstance(intent, dict) else {}),
        delivery_label=rate.get("display_name") if isinstance(rate, dict) else None,
        created=created,
        expires_at=expires_at,
        discount=session["total_details"]["amount_discount"],
        code=_code_of_session(session),
        taxes=_taxes(session),
    )


def _code_of_session(session: StripeObject) -> str | None:
    """The discount code that was used in a session, its promotion codes expanded."""
    used = [one["promotion_code"] for one in session.get("discounts") or ()]
    return next((code["code"] for code in used if isinstance(code, dict)), None)


def _taxes(session: StripeObject) -> list[StripeObject] | None:
    if not session["automatic_tax"]["enabled"]:
        return None
    taxes: list[StripeObject] = session["total_details"].get("breakdown", {}).get("taxes", [])
    return taxes


def _rhythm(recurring: StripeObject | None) -> tuple[str, int] | None:
    return (recurring["interval"], recurring["interval_count"]) if recurring else None


def payer(intent: StripeObject) -> Payer:
    """Who paid on a page of ours; the intent's charge expanded."""
    sent_to = intent.get("shipping") or {}
    billed = (_charge_of(intent) or {}).get("billing_details") or {}
    return Payer(
        name=sent_to.get("name") or billed.get("name"),
        email=intent.get("receipt_email") or billed.get("email"),
        phone=sent_to.get("phone") or billed.get("phone"),
        address=_plain_address(sent_to),
    )


def _payer_of_session(session: StripeObject, intent: StripeObject) -> Payer:
    sent_to = intent.get("shipping") or {}
    told = session.get("customer_details") or {}
    return Payer(
        name=sent_to.get("name") or told.get("name"),
        email=told.get("email") or session.get("customer_email"),
        phone=sent_to.get("phone") or told.get("phone"),
        address=_plain_address(sent_to) or _address(session),
    )


def _session_event(event_id: str, kind: str, session: StripeObject) -> News:
    if session.get("mode") == "subscription" and session["status"] == "complete":
        # Its money came through an invoice, which the event does not carry.
        named = _origin(session).attempt_id
        return News(event_id, kind, session["id"], named, reads=("session", session["id"]))
    facts = of_session(session)
    final = tuple(fact for fact in facts if not isinstance(fact, LegSeen))
    return News(
        event_id,
        kind,
        object_id=session["id"],
        attempt_id=_origin(session).attempt_id,
        payment_intent=id_of(session.get("payment_intent")),
        facts=final,
        must_look=not final,
    )


def _intent_event(event_id: str, kind: str, intent: StripeObject) -> News:
    facts = of_intent(intent)
    return News(
        event_id,
        kind,
        object_id=intent["id"],
        attempt_id=_origin(intent).attempt_id,
        payment_intent=intent["id"],
        facts=facts,
        must_look=not facts,
    )


def _charge_event(event_id: str, kind: str, charge: StripeObject) -> News:
    """A captured charge is the payment itself, and the only event that names the card."""
    intent_id = id_of(charge.get("payment_intent"))
    if not intent_id:
        return News(event_id, kind, charge["id"], ignored="a charge without a payment intent")
    if not (charge.get("paid") and charge.get("captured")):
        return News(event_id, kind, charge["id"], ignored="a charge that took no money yet")
    payment = PaymentSucceeded(
        payment_intent=intent_id,
        amount=charge["amount_captured"],
        currency=charge["currency"],
        method=_method(charge),
        charge_id=charge["id"],
        created=time_of(charge.get("created")),
        origin=_origin(charge),
    )
    return News(
        event_id,
        kind,
        charge["id"],
        payment.origin.attempt_id,
        intent_id,
        facts=(payment,),
        # The refunds themselves are read afresh: a charge does not carry them.
        refunds_of=intent_id if kind == "charge.refunded" else None,
    )


def _refund_event(event_id: str, kind: str, refund: StripeObject) -> News:
    """A refund: that it exists is certain, how it stands is read afresh."""
    intent_id = id_of(refund.get("payment_intent"))
    if not intent_id:
        return News(event_id, kind, refund["id"], ignored="a refund without a payment intent")
    return News(event_id, kind, refund["id"], payment_intent=intent_id, refunds_of=intent_id)


def _dispute_event(event_id: str, kind: str, dispute: StripeObject) -> News:
    """A dispute names its payment and nothing of ours; how it stands is read afresh."""
    id, intent_id = dispute["id"], id_of(dispute.get("payment_intent"))
    if not intent_id:
        return News(event_id, kind, id, ignored="a dispute without a payment intent")
    return News(event_id, kind, id, payment_intent=intent_id, reads=("dispute", id))


def _setup_event(event_id: str, kind: str, setup: StripeObject) -> News:
    facts = of_setup(setup)
    final = tuple(fact for fact in facts if not isinstance(fact, LegSeen))
    named = _origin(setup).attempt_id
    return News(event_id, kind, setup["id"], named, facts=final, must_look=not final)


def _subscription_event(event_id: str, kind: str, subscription: StripeObject) -> News:
    named, id = _origin(subscription).attempt_id, subscription["id"]
    return News(event_id, kind, id, named, reads=("subscription", id))


def _invoice_event(event_id: str, kind: str, invoice: StripeObject) -> News:
    """An invoice: who pays it is not in it, and how it stands is read afresh."""
    id = invoice["id"]
    if subscription_of_invoice(invoice) is None:
        return News(event_id, kind, id, ignored="an invoice without a subscription")
    named = _origin_of_invoice(invoice).attempt_id
    return News(event_id, kind, id, named, reads=("invoice", id))


_READERS = {
    "checkout.session.completed": _session_event,
    "checkout.session.async_payment_succeeded": _session_event,
    "checkout.session.async_payment_failed": _session_event,
    "checkout.session.expired": _session_event,
    "payment_intent.succeeded": _intent_event,
    "payment_intent.payment_failed": _intent_event,
    "payment_intent.processing": _intent_event,
    "payment_intent.requires_action": _intent_event,
    "payment_intent.canceled": _intent_event,
    "setup_intent.succeeded": _setup_event,
    "setup_intent.setup_failed": _setup_event,
    "setup_intent.canceled": _setup_event,
    "customer.subscription.created": _subscription_event,
    "customer.subscription.updated": _subscription_event,
    "customer.subscription.deleted": _subscription_event,
    "customer.subscription.paused": _subscription_event,
    "customer.subscription.resumed": _subscription_event,
    "invoice.paid": _invoice_event,
    "invoice.payment_failed": _invoice_event,
    "invoice.payment_action_required": _invoice_event,
    "invoice.voided": _invoice_event,
    "invoice.marked_uncollectible": _invoice_event,
    "charge.succeeded": _charge_event,
    "charge.refunded": _charge_event,
    "refund.created": _refund_event,
    "refund.updated": _refund_event,
    "refund.failed": _refund_event,
    "charge.dispute.created": _dispute_event,
    "charge.dispute.updated": _dispute_event,
    "charge.dispute.funds_withdrawn": _dispute_event,
    "charge.dispute.funds_reinstated": _dispute_event,
    "charge.dispute.closed": _dispute_event,
}

FOLLOWED_TYPES = tuple(_READERS)


def _origin(body: StripeObject) -> Origin:
    reference = body.get("client_reference_id")
    attempt = (body.get("metadata") or {}).get(ATTEMPT_KEY) or reference
    return Origin(attempt or None, id_of(body.get("customer")), by_us=bool(reference))


def _origin_of_invoice(invoice: StripeObject) -> Origin:
    """An invoice shows the metadata of its subscription, as it was when it was finalized."""
    named = (_subscription_details(invoice).get("metadata") or {}).get(ATTEMPT_KEY)
    return Origin(named or None, id_of(invoice.get("customer")))


def _subscription_details(invoice: StripeObject) -> StripeObject:
    return (invoice.get("parent") or {}).get("subscription_details") or {}


def id_of(value: Any) -> str | None:
    if isinstance(value, dict):
        return value.get("id")
    return value or None


def _charge_of(intent: StripeObject | None) -> StripeObject | None:
    charge = (intent or {}).get("latest_charge")
    return charge if isinstance(charge, dict) else None


def _method(charge: StripeObject | None) -> str | None:
    """How it was paid, in words for a receipt: ``Visa ···· 4242``."""
    details = (charge or {}).get("payment_method_details") or {}
    card = details.get("card")
    if card:
        return f"{(card.get('brand') or 'card').replace('_', ' ').title()} ···· {card.get('last4')}"
    kind = details.get("type")
    return kind.replace("_", " ").title() if kind else None


def _failure(intent: StripeObject | None) -> str | None:
    return _code_of((intent or {}).get("last_payment_error"))


def _code_of(error: StripeObject | None) -> str | None:
    told = error or {}
    return told.get("decline_code") or told.get("code")


def _address(session: StripeObject) -> dict[str, str | None] | None:
    collected = session.get("collected_information") or {}
    shipping = collected.get("shipping_details") or {}
    address = _plain_address(shipping)
    return {"name": shipping.get("name"), **address} if address else None


def _plain_address(shipping: StripeObject) -> dict[str, str | None] | None:
    address = shipping.get("address")
    if not address:
        return None
    parts = ("line1", "line2", "city", "postal_code", "state", "country")
    return {part: address.get(part) for part in parts}


def time_of(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
