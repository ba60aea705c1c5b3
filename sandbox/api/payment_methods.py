"""/v1/payment_methods: made of a card or an account, kept by a customer, taken away again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import cards, methods, shapes
from ..errors import ApiError, bad_parameter, missing, not_yet
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "payment_method"
ACCOUNTS = {"sepa_debit": "iban", "us_bank_account": "account_number", "bacs_debit": "sort_code"}
# Stripe's own account numbers of test mode, besides the IBANs that the ways to pay are known by.
TEST_ACCOUNTS = {
    "DE89370400440532013000": "bank_debit",
    "DE62370400440532013001": "bank_debit_fails",
    "000123456789": "bank_debit",
    "000222222227": "bank_debit_fails",
    "108800": "bank_debit",
}
CURRENCY = {kind: currency for currency, kind in methods.DEBITS.items()}


def create(box: Sandbox, params: Obj) -> Obj:
    if "payment_method" in params or "customer" in params:
        raise not_yet("cloning of PaymentMethods", "payment_method")
    if "type" not in params:
        raise missing("type")
    kind = params["type"]
    if kind not in ("card", *ACCOUNTS):
        raise not_yet(f"PaymentMethods of type {kind}", "type")
    if kind not in params:
        raise missing(kind)
    name = _card(params["card"]) if kind == "card" else _account(kind, params[kind])
    method = methods.new_method(box, name, CURRENCY.get(kind), _who(params))
    amounts.merge_metadata(method, params)
    if "allow_redisplay" in params:
        method["allow_redisplay"] = params["allow_redisplay"]
    return box.store.put(method)


def _card(given: Obj) -> str:
    if "token" in given:
        name = "pm_card_" + given["token"].removeprefix("tok_")
        if name not in cards.TOKENS:
            raise ApiError(
                f"No such token: '{given['token']}'",
                code="resource_missing",
                param="card[token]",
            )
        return cards.TOKENS[name]
    if "number" not in given:
        raise missing("card[number]")
    if not cards.is_card_number(given["number"]):
        raise ApiError(
            "Your card number is incorrect.",
            status=402,
            type="card_error",
            code="incorrect_number",
            param="number",
        )
    number: str = given["number"].replace(" ", "").replace("-", "")
    return number


def _account(kind: str, given: Obj) -> str:
    field = ACCOUNTS[kind]
    if field not in given:
        raise missing(f"{kind}[{field}]")
    account = given[field].replace(" ", "").replace("-", "")
    if account not in TEST_ACCOUNTS:
        raise bad_parameter(
            f"{given[field]} is not a test account of the sandbox. It knows: "
            f"{', '.join(TEST_ACCOUNTS)}.",
            f"{kind}[{field}]",
        )
    return TEST_ACCOUNTS[account]


def _who(params: Obj) -> Obj:
    given = params.get("billing_details") or {}
    return {k: given.get(k) for k in ("address", "email", "name", "phone")}


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, KIND, id)


def list_all(box: Sandbox, params: Obj) -> Obj:
    """Those that a customer keeps; Stripe lists no others."""
    if "customer" not in params:
        raise missing("customer")
    reading.find(box, "customer", params["customer"], "customer")

    def keep(method: Obj) -> bool:
        wanted = ("customer", "type", "allow_redisplay")
        return all(n not in params or method[n] == params[n] for n in wanted)

    return reading.page(box, KIND, params, "/v1/payment_methods", keep)


def update(box: Sandbox, params: Obj, id: str) -> Obj:
    method = reading.find(box, KIND, id)
    if method["customer"] is None:
        raise ApiError(
            "You must save this PaymentMethod to a customer before you can update it.",
            code="payment_method_unexpected_state",
        )
    before: Obj = {"metadata": dict(method["metadata"])}
    given = params.get("billing_details") or {}
    if given:
        before["billing_details"] = dict(method["billing_details"])
        fresh = {**method["billing_details"], **given}
        fresh["address"] = shapes.address(fresh["address"])
        method["billing_details"] = fresh
    dates = {k: v for k, v in (params.get("card") or {}).items() if k.startswith("exp_")}
    if dates:
        method["card"] = {**method["card"], **dates}
    if "allow_redisplay" in params:
        method["allow_redisplay"] = params["allow_redisplay"]
    amounts.merge_metadata(method, params)
    box.store.put(method)
    box.emit("payment_method.updated", method, before)
    return method


def attach(box: Sandbox, params: Obj, id: str) -> Obj:
    """A bank may refuse to have its card saved, as it may refuse a payment."""
    if "customer" not in params:
        raise missing("customer")
    customer = reading.find(box, "customer", params["customer"], "customer")
    method = methods.named(box, id, customer["currency"], "id")
    check_keepable(box, method, customer["id"])
    methods.attach(box, method, customer["id"])
    return method


def check_keepable(box: Sandbox, method: Obj, customer: str | None) -> None:
    """Raises ApiError for a method that is somebody else's, is used up, or is refused."""
    if method["customer"] and method["customer"] != customer:
        raise ApiError(
            "The payment method you provided has already been attached to a customer.",
            code="payment_method_unexpected_state",
        )
    if methods.is_used_up(box, method):
        raise ApiError(
            "This PaymentMethod was previously used without being attached to a Customer or was "
            "detached from a Customer, and may not be used again.",
        )
    why = methods.way_of(box, method)
    if why.cannot_be_saved:
        raise ApiError(
            why.message, status=402, type="card_error", code=why.code, decline_code=why.reason
        )


def detach(box: Sandbox, params: Obj, id: str) -> Obj:
    method = reading.find(box, KIND, id)
    if method["customer"] is None:
        raise ApiError(
            "The payment method you provided is not attached to a customer so detachment is "
            "impossible.",
            code="payment_method_unexpected_state",
        )
    methods.detach(box, method)
    return method


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/payment_methods": create,
    "GET /v1/payment_methods": list_all,
    "GET /v1/payment_methods/{id}": retrieve,
    "POST /v1/payment_methods/{id}": update,
    "POST /v1/payment_methods/{id}/attach": attach,
    "POST /v1/payment_methods/{id}/detach": detach,
}
