"""/v1/customers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import aftermath, shapes
from ..errors import not_yet
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "customer"
EDITABLE = ("balance", "description", "email", "name", "phone", "preferred_locales")


def create(box: Sandbox, params: Obj) -> Obj:
    for name in ("source", "payment_method", "tax_id_data", "test_clock", "cash_balance"):
        if name in params:
            raise not_yet(f"customers with {name}", name)
    id = aftermath.new_customer(box, params)
    return box.store.objects[KIND][id]


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
    before = {k: customer[k] for k in given}
    customer |= given
    amounts.merge_metadata(customer, params)
    box.store.put(customer)
    box.emit("customer.updated", customer, before)
    return customer


def delete(box: Sandbox, params: Obj, id: str) -> Obj:
    customer = reading.find(box, KIND, id)
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
