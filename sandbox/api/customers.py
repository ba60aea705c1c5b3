"""/v1/customers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import aftermath, billing, methods, shapes
from ..errors import ApiError, not_yet
from . import amounts, payment_methods, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "customer"
EDITABLE = ("balance", "description", "email", "name", "phone", "preferred_locales")


def create(box: Sandbox, params: Obj) -> Obj:
    for name in ("source", "tax_id_data", "test_clock", "cash_balance"):
        if name in params:
            raise not_yet(f"customers with {name}", name)
    wanted = (params.get("invoice_settings") or {}).get("default_payment_method")
    named = params.get("payment_method")
    if wanted is not None and wanted != named:
        raise _not_theirs(wanted)
    method = methods.named(box, named, None) if named else None
    if method is not None:
        payment_methods.check_keepable(box, method, None)
    customer = box.store.objects[KIND][aftermath.new_customer(box, params)]
    if method is not None:
        methods.attach(box, method, customer["id"])
    if wanted is not None and method is not None:
        customer["invoice_settings"]["default_payment_method"] = method["id"]
    return box.store.put(customer)


def _not_theirs(id: str) -> ApiError:
    return ApiError(
        f"The customer does not have a payment method with the ID {id}. The payment method must be "
        "attached to the customer.",
        code="resource_missing",
        param="invoice_settings[default_payment_method]",
    )


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    """One that was deleted is still known by its id."""
    known = box.store.objects[KIND].get(id)
    if known is not None and reading.is_deleted(box, known):
        return {"id": id, "object": KIND, "deleted": True}
    return reading.find(box, KIND, id)


def list_all(box: Sandbox, params: Obj) -> Obj:
    def keep(customer: Obj) -> bool:
        if reading.is_deleted(box, customer):
            return False
        return "email" not in params or customer["email"] == params["email"]

    return reading.page(box, KIND, params, "/v1/customers", keep)


def update(box: Sandbox, params: Obj, id: str) -> Obj:
    customer = reading.find(box, KIND, id)
    given = {k: params[k] for k in EDITABLE if k in params}
    if "address" in params:
        given["address"] = shapes.address(params["address"])
    if "shipping" in params:
        given["shipping"] = shapes.shipping(params["shipping"])
    settings = params.get("invoice_settings") or {}
    if settings:
        given["invoice_settings"] = _settings(box, customer, settings)
    before = {k: customer[k] for k in given}
    customer |= given
    amounts.merge_metadata(customer, params)
    box.store.put(customer)
    box.emit("customer.updated", customer, before)
    return customer


def _settings(box: Sandbox, customer: Obj, given: Obj) -> Obj:
    """What invoices of this customer are paid with and say, changed as ``given``."""
    id = given.get("default_payment_method")
    if id is not None:
        method = box.store.objects["payment_method"].get(id)
        if method is None or method["customer"] != customer["id"]:
            raise _not_theirs(id)
    return {**customer["invoice_settings"], **given}


def delete(box: Sandbox, params: Obj, id: str) -> Obj:
    customer = reading.find(box, KIND, id)
    billing.end_all_of(box, id)
    box.store.put(customer, deleted=True)
    box.emit("customer.deleted", customer)
    return {"id": id, "object": KIND, "deleted": True}


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/customers": create,
    "GET /v1/customers": list_all,
    "GET /v1/customers/{id}": retrieve,
    "POST /v1/customers/{id}": update,
    "DELETE /v1/customers/{id}": delete,
}
