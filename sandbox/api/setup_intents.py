"""/v1/setup_intents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import methods, setups
from ..errors import ApiError, missing, not_yet
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "setup_intent"
UNDECIDED = ("requires_payment_method", "requires_confirmation", "requires_action")


def create(box: Sandbox, params: Obj) -> Obj:
    _check_supported(params)
    if "customer" in params:
        reading.find(box, "customer", params["customer"], "customer")
    amounts.check_url(params.get("return_url"), "return_url")
    if params.get("confirm") and "payment_method" not in params:
        raise missing("payment_method")
    method = _method(box, params, params.get("customer"))
    setup = setups.new_setup(box, params, return_url=params.get("return_url"))
    if method is not None:
        _choose(box, setup, method)
    if params.get("confirm"):
        _confirm(box, setup)
    return setup


def _check_supported(params: Obj) -> None:
    unlike = ("payment_method_data", "confirmation_token", "on_behalf_of", "customer_account")
    for name in (*unlike, "single_use", "attach_to_self", "flow_directions"):
        if name in params:
            raise not_yet(f"SetupIntents with {name}", name)


def _method(box: Sandbox, params: Obj, customer: str | None) -> Obj | None:
    id = params.get("payment_method")
    if id is None:
        return None
    method = methods.named(box, id, None)
    methods.check_usable(box, method, customer)
    return method


def _choose(box: Sandbox, setup: Obj, method: Obj) -> None:
    if method["type"] not in setup["payment_method_types"]:
        raise ApiError(
            f"The PaymentMethod provided ({method['type']}) is not allowed for this SetupIntent. "
            f"It takes: {', '.join(setup['payment_method_types'])}.",
            code="setup_intent_invalid_parameter",
            param="payment_method",
        )
    setup["payment_method"] = method["id"]
    if setup["status"] == "requires_payment_method":
        setup["status"] = "requires_confirmation"
    box.store.put(setup)


def _confirm(box: Sandbox, setup: Obj) -> None:
    method = box.store.objects["payment_method"][setup["payment_method"]]
    if setups.confirm(box, setup, method) == "declined":
        error = setup["last_setup_error"]
        known = ("code", "decline_code", "payment_method")
        raise ApiError(
            error["message"],
            status=402,
            type="card_error",
            setup_intent=dict(setup),
            **{k: error[k] for k in known if k in error},
        )


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, KIND, id)


def list_all(box: Sandbox, params: Obj) -> Obj:
    def keep(setup: Obj) -> bool:
        return all(n not in params or setup[n] == params[n] for n in ("customer", "payment_method"))

    return reading.page(box, KIND, params, "/v1/setup_intents", keep)


def update(box: Sandbox, params: Obj, id: str) -> Obj:
    setup = reading.find(box, KIND, id)
    _check_supported(params)
    if {"payment_method", "customer"} & params.keys() and setup["status"] not in UNDECIDED:
        raise _unexpected(setup, "updated")
    if "customer" in params:
        reading.find(box, "customer", params["customer"], "customer")
        setup["customer"] = params["customer"]
    if "description" in params:
        setup["description"] = params["description"]
    method = _method(box, params, setup["customer"])
    if method is not None:
        _choose(box, setup, method)
    amounts.merge_metadata(setup, params)
    return box.store.put(setup)


def confirm(box: Sandbox, params: Obj, id: str) -> Obj:
    setup = reading.find(box, KIND, id)
    _check_supported(params)
    if setup["status"] not in UNDECIDED:
        raise _unexpected(setup, "confirmed")
    if "return_url" in params:
        amounts.check_url(params["return_url"], "return_url")
        box.store.put(setup, return_url=params["return_url"])
    method = _method(box, params, setup["customer"])
    if method is not None:
        _choose(box, setup, method)
    if setup["payment_method"] is None:
        raise ApiError(
            "You cannot confirm this SetupIntent because it's missing a payment method. Update "
            "the SetupIntent with a payment method and then confirm it again.",
            code="setup_intent_unexpected_state",
            setup_intent=dict(setup),
        )
    _confirm(box, setup)
    return setup


def cancel(box: Sandbox, params: Obj, id: str) -> Obj:
    setup = reading.find(box, KIND, id)
    if setup["status"] not in UNDECIDED:
        raise _unexpected(setup, "canceled")
    if box.store.aside[id]["session"]:
        raise ApiError(
            "You cannot cancel the SetupIntent of a Checkout Session. Expire the Checkout Session "
            "instead.",
            code="setup_intent_unexpected_state",
            setup_intent=dict(setup),
        )
    setups.cancel(box, setup, params.get("cancellation_reason"))
    return setup


def _unexpected(setup: Obj, verb: str) -> ApiError:
    return ApiError(
        f"You cannot perform this action: this SetupIntent has a status of {setup['status']}, and "
        f"only a SetupIntent with one of the following statuses may be {verb}: "
        f"{', '.join(UNDECIDED)}.",
        code="setup_intent_unexpected_state",
        setup_intent=dict(setup),
    )


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/setup_intents": create,
    "GET /v1/setup_intents": list_all,
    "GET /v1/setup_intents/{id}": retrieve,
    "POST /v1/setup_intents/{id}": update,
    "POST /v1/setup_intents/{id}/confirm": confirm,
    "POST /v1/setup_intents/{id}/cancel": cancel,
}
