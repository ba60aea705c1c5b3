"""/v1/invoices and /v1/invoice_payments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import invoices, methods
from ..errors import ApiError, not_yet
from . import reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "invoice"
PAYMENT = "invoice_payment"


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, KIND, id)


def list_all(box: Sandbox, params: Obj) -> Obj:
    due = reading.within(params.get("due_date"))

    def keep(invoice: Obj) -> bool:
        wanted = ("customer", "status", "collection_method")
        if any(n in params and invoice[n] != params[n] for n in wanted):
            return False
        if "due_date" in params and not (invoice["due_date"] and due(invoice["due_date"])):
            return False
        asked = params.get("subscription")
        return asked is None or box.store.aside[invoice["id"]]["subscription"] == asked

    return reading.page(box, KIND, params, "/v1/invoices", keep)


def pay(box: Sandbox, params: Obj, id: str) -> Obj:
    """Try to collect it now. A decline is an error, and the invoice stays open."""
    invoice = reading.find(box, KIND, id)
    for name in ("source", "forgive", "mandate"):
        if name in params:
            raise not_yet(f"paying with {name}", name)
    if invoice["status"] == "paid":
        raise ApiError("Invoice is already paid")
    if invoice["status"] not in ("draft", "open"):
        raise ApiError(
            f"Invoices with a status of {invoice['status']} can no longer be paid.",
            code="invoice_not_editable",
        )
    method = _method(box, invoice, params)
    if invoice["status"] == "draft":
        invoices.finalize(box, invoice)
    if params.get("paid_out_of_band"):
        invoices.pay_out_of_band(box, invoice)
    elif invoice["status"] == "open":
        _collect(box, invoice, method, attended=not params.get("off_session", True))
    return invoice


def _method(box: Sandbox, invoice: Obj, params: Obj) -> Obj | None:
    id = params.get("payment_method")
    if id is None:
        return None
    method = methods.named(box, id, invoice["currency"])
    methods.check_usable(box, method, invoice["customer"])
    return method


def _collect(box: Sandbox, invoice: Obj, method: Obj | None, *, attended: bool) -> None:
    word = invoices.attempt(box, invoice, method, attended=attended, by="shop")
    intent = invoices.intent_of(box, invoice)
    assert intent is not None
    if word == "asks":
        raise ApiError(
            "This invoice's payment requires additional user action before it can be completed.",
            status=402,
            type="card_error",
            code="invoice_payment_intent_requires_action",
        )
    if word != "declined":
        return
    error = intent["last_payment_error"]
    if error is None:
        raise ApiError(
            "There is no default payment method set on this Customer or Subscription, so this "
            "invoice cannot be paid.",
            code="resource_missing",
        )
    known = ("code", "decline_code", "charge", "payment_method")
    raise ApiError(
        error["message"],
        status=402,
        type="card_error",
        payment_intent=dict(intent),
        **{k: error[k] for k in known if k in error},
    )


def finalize(box: Sandbox, params: Obj, id: str) -> Obj:
    """What is finalized by hand is still collected by itself, within the hour."""
    invoice = reading.find(box, KIND, id)
    if invoice["status"] != "draft":
        raise ApiError(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            code="invoice_not_editable",
        )
    if "auto_advance" in params:
        invoice["auto_advance"] = params["auto_advance"]
    invoices.finalize(box, invoice)
    if invoice["status"] == "open" and invoice["auto_advance"]:
        box.plan(box.finalize_s, "retry_invoice", id)
    return invoice


def void(box: Sandbox, params: Obj, id: str) -> Obj:
    invoice = reading.find(box, KIND, id)
    if invoice["status"] not in ("open", "uncollectible"):
        raise ApiError(
            "You can only void an open or uncollectible invoice. This invoice is "
            f"{invoice['status']}.",
            code="invoice_not_editable",
        )
    intent = invoices.intent_of(box, invoice)
    if intent is not None and intent["status"] == "processing":
        raise ApiError("You cannot void an invoice while its payment is under way.")
    invoices.void(box, invoice)
    return invoice


def retrieve_payment(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, PAYMENT, id)


def list_payments(box: Sandbox, params: Obj) -> Obj:
    given = params.get("payment") or {}
    intent = given.get("payment_intent")

    def keep(payment: Obj) -> bool:
        if any(n in params and payment[n] != params[n] for n in ("invoice", "status")):
            return False
        kind = given.get("type", payment["payment"]["type"])
        if payment["payment"]["type"] != kind:
            return False
        return intent is None or payment["payment"].get("payment_intent") == intent

    return reading.page(box, PAYMENT, params, "/v1/invoice_payments", keep)


ROUTES: dict[str, Callable[..., Any]] = {
    "GET /v1/invoices": list_all,
    "GET /v1/invoices/{id}": retrieve,
    "POST /v1/invoices/{id}/pay": pay,
    "POST /v1/invoices/{id}/finalize": finalize,
    "POST /v1/invoices/{id}/void": void,
    "GET /v1/invoice_payments": list_payments,
    "GET /v1/invoice_payments/{id}": retrieve_payment,
}
