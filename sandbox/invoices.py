"""Invoices: drafted, finalized, paid or not, voided; and the intents that are to pay them.

A subscription hears of its invoices through ``Sandbox.follow``: ``paid``, ``failed`` (and is
tried again), ``exhausted`` (it is not), ``void``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import methods, payments
from .cards import WAYS, way
from .shapes import billing

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

DAY_S = 86_400
SAYS_NO = WAYS["4000000000009995"]


@dataclass(frozen=True)
class Charge:
    """One line to be: ``amount`` in minor units for ``period``; ``item`` if it recurs."""

    price: Obj
    quantity: int
    amount: int
    description: str
    period: tuple[int, int]
    item: str | None
    metadata: Obj


def draft(
    box: Sandbox,
    subscription: Obj,
    charges: list[Charge],
    reason: str,
    period: tuple[int, int] | None = None,
) -> Obj:
    """Write an invoice that can still be changed; it becomes the subscription's latest."""
    invoice = compose(box, subscription, charges, reason, box.store.new_id("in_1"))
    if period is not None:
        invoice["period_start"], invoice["period_end"] = period
    box.store.put(
        invoice,
        subscription=subscription["id"],
        intent=None,
        payment=None,
        secret=box.store.new_id("", 32),
    )
    box.store.aside[subscription["id"]]["invoices"].append(invoice["id"])
    box.emit("invoice.created", invoice)
    return invoice


def compose(box: Sandbox, subscription: Obj, charges: list[Charge], reason: str, id: str) -> Obj:
    """What an invoice over ``charges`` looks like, whether or not it is ever sent."""
    lines = [
        billing.line(
            box.store.new_id("il_1"),
            invoice=id,
            price=charge.price,
            quantity=charge.quantity,
            amount=charge.amount,
            description=charge.description,
            period=charge.period,
            subscription=subscription,
            item=charge.item,
            metadata=charge.metadata,
        )
        for charge in charges
    ]
    return billing.invoice(
        id,
        created=int(box.now()),
        subscription=subscription,
        customer=box.store.objects["customer"][subscription["customer"]],
        reason=reason,
        lines=lines,
    )


def finalize(box: Sandbox, invoice: Obj, paid_by: Obj | None = None) -> None:
    """From now on it is owed, unless nothing is due: then it is paid at once.

    ``paid_by`` is an intent that was confirmed before there was an invoice, as in Checkout.
    """
    now, store = int(box.now()), box.store
    box.unplan(invoice["id"])
    customer = store.objects["customer"][invoice["customer"]]
    invoice |= {
        "status": "open",
        "number": f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}",
        "automatically_finalizes_at": None,
        "effective_at": now,
        "hosted_invoice_url": page_of(box, invoice),
        "status_transitions": {**invoice["status_transitions"], "finalized_at": now},
    }
    customer["next_invoice_sequence"] += 1
    store.put(customer)
    store.put(invoice)
    box.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        _pay(box, invoice)
        return
    intent = paid_by or _new_intent(box, invoice)
    payment = billing.invoice_payment(
        store.new_id("inpay_1"), created=now, invoice=invoice, intent=intent["id"]
    )
    store.put(payment)
    store.put(invoice, intent=intent["id"], payment=payment["id"])
    store.put(intent, invoice=invoice["id"], tried_by="buyer")


def page_of(box: Sandbox, invoice: Obj) -> str:
    return f"{box.url}/c/invoice/{invoice['id']}/{box.store.aside[invoice['id']]['secret']}"


def _new_intent(box: Sandbox, invoice: Obj) -> Obj:
    """An intent without metadata: Stripe hands it nothing of the subscription's."""
    first = invoice["billing_reason"] == "subscription_create"
    subscription = box.store.objects["subscription"][box.store.aside[invoice["id"]]["subscription"]]
    wanted = subscription["payment_settings"]["save_default_payment_method"] == "on_subscription"
    intent = payments.new_intent(
        box,
        {
            "amount": invoice["amount_due"],
            "currency": invoice["currency"],
            "customer": invoice["customer"],
            "description": "Subscription creation" if first else "Subscription update",
            "receipt_email": invoice["customer_email"],
            "setup_future_usage": "off_session" if first or wanted else None,
        },
    )
    intent["automatic_payment_methods"] = None
    allowed = subscription["payment_settings"]["payment_method_types"]
    if allowed:
        known = intent["payment_method_types"]
        intent["payment_method_types"] = [kind for kind in known if kind in allowed]
    return box.store.put(intent)


def intent_of(box: Sandbox, invoice: Obj) -> Obj | None:
    return box.store.objects["payment_intent"].get(box.store.aside[invoice["id"]]["intent"])


def payments_of(box: Sandbox, invoice: Obj) -> list[Obj]:
    payment = box.store.objects["invoice_payment"].get(box.store.aside[invoice["id"]]["payment"])
    return [] if payment is None else [payment]


def method_for(box: Sandbox, subscription: Obj) -> Obj | None:
    """What pays when nobody says otherwise: the subscription's method, or the customer's."""
    customer = box.store.objects["customer"][subscription["customer"]]
    id = (
        subscription["default_payment_method"]
        or customer["invoice_settings"]["default_payment_method"]
    )
    return box.store.objects["payment_method"].get(id)


def attempt(
    box: Sandbox,
    invoice: Obj,
    method: Obj | None = None,
    *,
    attended: bool = False,
    by: str = "schedule",
) -> str:
    """Try to collect an open invoice; the words are those of ``payments.confirm``.

    ``by`` is who tries: the ``schedule`` or the ``shop``. A debit that is already under way is
    left to arrive.
    """
    intent, store = intent_of(box, invoice), box.store
    assert intent is not None
    if intent["status"] == "processing":
        return "processing"
    subscription = store.objects["subscription"][store.aside[invoice["id"]]["subscription"]]
    method = method or method_for(box, subscription)
    if method is None:
        _fail(box, invoice, by)
        return "declined"
    renews = invoice["billing_reason"] == "subscription_cycle" and by == "schedule"
    instead = SAYS_NO if renews and box.chaos.declines_renewal() else None
    store.put(intent, tried_by=by)
    word = payments.confirm(box, intent, method, attended=attended, instead=instead)
    store.put(intent, tried_by="buyer")
    return word


def hear(box: Sandbox, id: str, intent: Obj, word: str) -> None:
    """The invoice's intent did what ``word`` says."""
    invoice = box.store.objects["invoice"][id]
    by: str = box.store.aside[intent["id"]]["tried_by"]
    if invoice["status"] != "open":
        return
    if word == "paid":
        _pay(box, invoice, by)
    elif word == "settled":
        _pay(box, invoice, "bank")
    elif word == "processing":
        before = _count(invoice, by)
        box.store.put(invoice)
        box.emit("invoice.updated", invoice, before)
    elif word == "declined":
        _fail(box, invoice, by)
    elif word == "bounced":
        _fail(box, invoice, "bank")
    elif word == "asks" and by != "buyer":
        _fail(box, invoice, by, asks=True)


def _count(invoice: Obj, by: str) -> Obj:
    """Any first try counts, later only those of the schedule; returns what was before.

    What the ``bank`` says of a debit, days later, is no new try.
    """
    before = {name: invoice[name] for name in ("attempt_count", "attempted")}
    if by == "schedule" or (by != "bank" and invoice["attempt_count"] == 0):
        invoice["attempt_count"] += 1
    invoice["attempted"] = True
    return before


def _fail(box: Sandbox, invoice: Obj, by: str, *, asks: bool = False) -> None:
    before = {**_count(invoice, by), "next_payment_attempt": invoice["next_payment_attempt"]}
    word = "failed"
    collects = invoice["auto_advance"] and invoice["billing_reason"] != "subscription_create"
    if collects and by in ("schedule", "bank"):
        word = _plan_retry(box, invoice)
    box.store.put(invoice)
    box.emit("invoice.updated", invoice, before)
    box.emit("invoice.payment_failed", invoice)
    if asks:
        box.emit("invoice.payment_action_required", invoice)
    box.follow(invoice, word)


def _plan_retry(box: Sandbox, invoice: Obj) -> str:
    """When it is tried again; ``exhausted`` if never."""
    done, waits = invoice["attempt_count"], box.retry_days
    box.unplan(invoice["id"])
    if done > len(waits):
        invoice["next_payment_attempt"] = None
        return "exhausted"
    invoice["next_payment_attempt"] = int(box.now()) + waits[done - 1] * DAY_S
    box.plan_at(invoice["next_payment_attempt"], "retry_invoice", invoice["id"])
    return "failed"


def _pay(box: Sandbox, invoice: Obj, by: str = "bank", *, out_of_band: bool = False) -> None:
    now = int(box.now())
    names = ("status", "amount_paid", "amount_remaining", "next_payment_attempt")
    before = {name: invoice[name] for name in names}
    if invoice["amount_due"]:
        before |= _count(invoice, by)
    invoice |= {
        "status": "paid",
        "amount_paid": invoice["amount_due"],
        "amount_remaining": 0,
        "attempted": True,
        "next_payment_attempt": None,
        "ending_balance": 0,
        "status_transitions": {**invoice["status_transitions"], "paid_at": now},
    }
    if out_of_band:
        invoice["amount_paid_off_stripe"] = invoice["amount_due"]
    box.unplan(invoice["id"])
    box.store.put(invoice)
    if invoice["amount_due"]:
        box.emit("invoice.updated", invoice, before)
    box.emit("invoice.paid", invoice)
    if not out_of_band:
        box.emit("invoice.payment_succeeded", invoice)
    for payment in payments_of(box, invoice):
        if out_of_band:
            _cancel_payment(box, payment)
            continue
        payment |= {"status": "paid", "amount_paid": payment["amount_requested"]}
        payment["status_transitions"] = {"canceled_at": None, "paid_at": now}
        box.store.put(payment)
        box.emit("invoice_payment.paid", payment)
    box.follow(invoice, "paid")


def pay_out_of_band(box: Sandbox, invoice: Obj) -> None:
    """The customer paid in some way that Stripe has not seen."""
    _drop_intent(box, invoice, "void_invoice")
    _pay(box, invoice, out_of_band=True)


def void(box: Sandbox, invoice: Obj) -> None:
    """It is no longer owed, and cannot be paid any more."""
    invoice |= {
        "status": "void",
        "auto_advance": False,
        "next_payment_attempt": None,
        "status_transitions": {**invoice["status_transitions"], "voided_at": int(box.now())},
    }
    box.unplan(invoice["id"])
    _drop_intent(box, invoice, "void_invoice")
    for payment in payments_of(box, invoice):
        _cancel_payment(box, payment)
    box.store.put(invoice)
    box.emit("invoice.voided", invoice)
    box.follow(invoice, "void")


def _drop_intent(box: Sandbox, invoice: Obj, reason: str) -> None:
    intent = intent_of(box, invoice)
    if intent is not None and intent["status"] not in ("canceled", "succeeded"):
        payments.cancel_intent(box, intent, reason)


def _cancel_payment(box: Sandbox, payment: Obj) -> None:
    payment["status"] = "canceled"
    payment["status_transitions"] = {"canceled_at": int(box.now()), "paid_at": None}
    box.store.put(payment)


def stop_collecting(box: Sandbox, invoice: Obj) -> None:
    """Nobody tries to collect it any more; who has its link can still pay it."""
    if invoice["status"] in ("draft", "open"):
        invoice |= {"auto_advance": False, "next_payment_attempt": None}
        invoice["automatically_finalizes_at"] = None
        box.unplan(invoice["id"])
        box.store.put(invoice)


def confirm_by_buyer(box: Sandbox, invoice: Obj, name: str, buyer: Obj | None = None) -> str:
    """Pay on the invoice's own page; what pays is kept, and pays the subscription from now on.

    The words are those of ``payments.confirm``, or ``closed``, or ``not_offered``.
    """
    intent = intent_of(box, invoice)
    if intent is None or invoice["status"] != "open" or intent["status"] == "processing":
        return "closed"
    chosen = way(name)
    if chosen.short_by or not methods.is_offered(intent, chosen, invoice["currency"]):
        return "not_offered"
    method = methods.new_method(box, name, invoice["currency"], buyer)
    intent["setup_future_usage"] = "off_session"
    box.store.put(intent, becomes_default=True, return_url=None)
    return payments.confirm(box, intent, method)
