"""/v1/payment_intents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import methods, payments, sessions, shapes
from ..errors import ApiError, bad_parameter, missing, not_yet
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "payment_intent"
WAITS_FOR_BUYER = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELABLE = (*WAITS_FOR_BUYER, "requires_capture")
# Taken over as they are when an intent is changed before it is paid.
EDITABLE = (
    "capture_method",
    "customer",
    "description",
    "receipt_email",
    "setup_future_usage",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
)


def create(box: Sandbox, params: Obj) -> Obj:
    _check_supported(params)
    params["currency"] = amounts.check_currency(params["currency"], "currency")
    amounts.check_amount(params["amount"], params["currency"], "amount", least=1)
    amounts.check_minimum(params["amount"], params["currency"], "amount")
    if "customer" in params:
        reading.find(box, "customer", params["customer"], "customer")
    amounts.check_url(params.get("return_url"), "return_url")
    if params.get("confirm") and "payment_method" not in params:
        raise missing("payment_method")
    method = _method(box, params, params["currency"], params.get("customer"))
    intent = payments.new_intent(box, params, return_url=params.get("return_url"))
    calculation = _tax_calculation(params)
    if calculation is not None:
        reading.find(box, "tax.calculation", calculation, "hooks[inputs][tax][calculation]")
        intent["hooks"] = {"inputs": {"tax": {"calculation": calculation}}}
    _offer_methods(intent, params)
    if method is not None:
        _choose(box, intent, method)
    if params.get("confirm"):
        _confirm(box, intent, params)
    return intent


def _check_supported(params: Obj) -> None:
    for name in ("payment_method_data", "confirmation_token", "transfer_data", "on_behalf_of"):
        if name in params:
            raise not_yet(f"PaymentIntents with {name}", name)


def _tax_calculation(params: Obj) -> str | None:
    """The tax calculation that was made for what is paid."""
    given: Obj = (params.get("hooks") or {}).get("inputs") or {}
    return (given.get("tax") or {}).get("calculation")


def _offer_methods(intent: Obj, params: Obj) -> None:
    known: list[str] = intent["payment_method_types"]
    allowed = params.get("allowed_payment_method_types", known)
    excluded: list[str] = params.get("excluded_payment_method_types") or []
    intent["payment_method_types"] = [m for m in known if m in allowed and m not in excluded]


def _method(box: Sandbox, params: Obj, currency: str, customer: str | None) -> Obj | None:
    id = params.get("payment_method")
    if id is None:
        return None
    method = methods.named(box, id, currency)
    methods.check_usable(box, method, customer)
    return method


def _choose(box: Sandbox, intent: Obj, method: Obj) -> None:
    if method["type"] not in intent["payment_method_types"]:
        raise ApiError(
            f"The PaymentMethod provided ({method['type']}) is not allowed for this PaymentIntent. "
            f"It takes: {', '.join(intent['payment_method_types'])}.",
            code="payment_intent_incompatible_payment_method",
            param="payment_method",
        )
    intent["payment_method"] = method["id"]
    if intent["status"] == "requires_payment_method":
        intent["status"] = "requires_confirmation"
    box.store.put(intent)


def _confirm(box: Sandbox, intent: Obj, params: Obj) -> None:
    method = box.store.objects["payment_method"][intent["payment_method"]]
    attended = not params.get("off_session")
    if payments.confirm(box, intent, method, attended=attended) == "declined":
        error = intent["last_payment_error"]
        known = ("code", "decline_code", "charge", "payment_method")
        raise ApiError(
            error["message"],
            status=402,
            type="card_error",
            payment_intent=dict(intent),
            **{k: error[k] for k in known if k in error},
        )


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, KIND, id)


def list_all(box: Sandbox, params: Obj) -> Obj:
    def keep(intent: Obj) -> bool:
        return "customer" not in params or intent["customer"] == params["customer"]

    return reading.page(box, KIND, params, "/v1/payment_intents", keep)


def update(box: Sandbox, params: Obj, id: str) -> Obj:
    intent = reading.find(box, KIND, id)
    _check_supported(params)
    changes_money = {"amount", "currency", "customer", "payment_method"} & params.keys()
    if changes_money and intent["status"] not in WAITS_FOR_BUYER:
        raise _unexpected(intent, "updated", WAITS_FOR_BUYER)
    if changes_money and box.store.aside[id].get("invoice"):
        raise ApiError(
            "You cannot change the money of this PaymentIntent: an invoice created it.",
            code="payment_intent_unexpected_state",
            payment_intent=dict(intent),
        )
    if "amount" in params:
        amounts.check_amount(params["amount"], intent["currency"], "amount", least=1)
        amounts.check_minimum(params["amount"], intent["currency"], "amount")
        intent["amount"] = params["amount"]
    if "currency" in params:
        intent["currency"] = amounts.check_currency(params["currency"], "currency")
    if "customer" in params:
        reading.find(box, "customer", params["customer"], "customer")
    customer = params.get("customer", intent["customer"])
    method = _method(box, params, intent["currency"], customer)
    if method is not None:
        _choose(box, intent, method)
    intent |= {k: params[k] for k in EDITABLE if k in params}
    amounts.merge_metadata(intent, params)
    return box.store.put(intent)


def confirm(box: Sandbox, params: Obj, id: str) -> Obj:
    intent = reading.find(box, KIND, id)
    _check_supported(params)
    if intent["status"] not in WAITS_FOR_BUYER:
        raise _unexpected(intent, "confirmed", WAITS_FOR_BUYER)
    if "return_url" in params:
        amounts.check_url(params["return_url"], "return_url")
        box.store.put(intent, return_url=params["return_url"])
    intent |= {k: params[k] for k in ("receipt_email", "setup_future_usage") if k in params}
    if "shipping" in params:
        intent["shipping"] = shapes.shipping(params["shipping"])
    method = _method(box, params, intent["currency"], intent["customer"])
    if method is not None:
        _choose(box, intent, method)
    if intent["payment_method"] is None:
        raise ApiError(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
            payment_intent=dict(intent),
        )
    _confirm(box, intent, params)
    return intent


def cancel(box: Sandbox, params: Obj, id: str) -> Obj:
    intent = reading.find(box, KIND, id)
    if intent["status"] not in CANCELABLE:
        raise _unexpected(intent, "canceled", CANCELABLE)
    if box.store.aside[id].get("invoice"):
        raise ApiError(
            "You cannot cancel the PaymentIntent of an Invoice. Void the Invoice instead.",
            code="payment_intent_unexpected_state",
            payment_intent=dict(intent),
        )
    session = sessions.session_of(box, intent)
    if session is not None and session["status"] == "open":
        raise ApiError(
            "You cannot cancel the PaymentIntent of a Checkout Session. Expire the Checkout "
            "Session instead.",
            code="payment_intent_unexpected_state",
            payment_intent=dict(intent),
        )
    payments.cancel_intent(box, intent, params.get("cancellation_reason"))
    return intent


def capture(box: Sandbox, params: Obj, id: str) -> Obj:
    intent = reading.find(box, KIND, id)
    if intent["status"] != "requires_capture":
        raise _unexpected(intent, "captured", ("requires_capture",))
    left: int = intent["amount_capturable"]
    amount: int = params.get("amount_to_capture", left)
    if not 1 <= amount <= left:
        raise bad_parameter(
            f"The remaining amount left to capture for this PaymentIntent is {left}.",
            "amount_to_capture",
        )
    amounts.merge_metadata(intent, params)
    payments.capture(box, intent, amount)
    return intent


def _unexpected(intent: Obj, verb: str, allowed: tuple[str, ...]) -> ApiError:
    return ApiError(
        f"This PaymentIntent's status is {intent['status']}, so it cannot be {verb}. Only a "
        f"PaymentIntent with one of the following statuses may be {verb}: {', '.join(allowed)}.",
        code="payment_intent_unexpected_state",
        payment_intent=dict(intent),
    )


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/payment_intents": create,
    "GET /v1/payment_intents": list_all,
    "GET /v1/payment_intents/{id}": retrieve,
    "POST /v1/payment_intents/{id}": update,
    "POST /v1/payment_intents/{id}/confirm": confirm,
    "POST /v1/payment_intents/{id}/cancel": cancel,
    "POST /v1/payment_intents/{id}/capture": capture,
}
