"""/v1/refunds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import aftermath
from ..errors import ApiError, bad_parameter, missing, not_yet
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "refund"


def create(box: Sandbox, params: Obj) -> Obj:
    """Without an amount, all that is left goes back."""
    if "origin" in params:
        raise not_yet("refunds from a customer balance", "origin")
    charge = _charge(box, params)
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        raise ApiError(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    if charge["disputed"]:
        raise ApiError(
            f"Charge {charge['id']} has been charged back; cannot issue a refund.",
            code="charge_disputed",
        )
    amount = params.get("amount", left)
    if amount < 1:
        raise bad_parameter(
            "This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer"
        )
    if amount > left:
        raise ApiError(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            param="amount",
        )
    return aftermath.new_refund(box, charge, amount, params)


def _charge(box: Sandbox, params: Obj) -> Obj:
    if "charge" not in params and "payment_intent" not in params:
        raise missing("payment_intent")
    if "payment_intent" in params:
        intent = reading.find(box, "payment_intent", params["payment_intent"], "payment_intent")
        if intent["status"] != "succeeded":
            raise ApiError(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
            )
        id = intent["latest_charge"]
    else:
        id = params["charge"]
    charge = reading.find(box, "charge", id, "charge")
    if charge["status"] != "succeeded" or not charge["captured"]:
        raise ApiError(f"Charge {id} cannot be refunded.", code="charge_not_refundable")
    return charge


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, KIND, id)


def list_all(box: Sandbox, params: Obj) -> Obj:
    def keep(refund: Obj) -> bool:
        return all(n not in params or refund[n] == params[n] for n in ("payment_intent", "charge"))

    return reading.page(box, KIND, params, "/v1/refunds", keep)


def update(box: Sandbox, params: Obj, id: str) -> Obj:
    refund = reading.find(box, KIND, id)
    before = {"metadata": dict(refund["metadata"])}
    amounts.merge_metadata(refund, params)
    box.store.put(refund)
    box.emit("refund.updated", refund, before)
    return refund


def cancel(box: Sandbox, params: Obj, id: str) -> Obj:
    refund = reading.find(box, KIND, id)
    if refund["status"] != "requires_action":
        raise ApiError(
            f"Refund {id} has a status of {refund['status']}; only refunds with a status of "
            "requires_action can be canceled."
        )
    aftermath.cancel_refund(box, refund)
    return refund


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/refunds": create,
    "GET /v1/refunds": list_all,
    "GET /v1/refunds/{id}": retrieve,
    "POST /v1/refunds/{id}": update,
    "POST /v1/refunds/{id}/cancel": cancel,
}
