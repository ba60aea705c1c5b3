"""What every read has in common: lists page by page, ids expanded into objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .. import invoices
from ..errors import ApiError, bad_parameter, no_such
from ..store import KIND_OF_PREFIX

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

DEPTH = 4
# Fields that hold an id and may be asked for as the object itself.
EXPANDABLE = frozenset(
    "balance_transaction charge customer default_payment_method default_price "
    "coupon failure_balance_transaction invoice latest_charge latest_invoice payment_intent "
    "payment_method pending_setup_intent price product promotion_code setup_intent shipping_rate "
    "source subscription".split()
)


def find(box: Sandbox, kind: str, id: str, param: str = "id") -> Obj:
    """Get an object or raise the 404 that Stripe gives."""
    obj = box.store.objects[kind].get(id)
    if obj is None or is_deleted(box, obj):
        raise no_such(kind, id, param)
    return obj


def is_deleted(box: Sandbox, obj: Obj) -> bool:
    """Customers are kept, and shown as deleted, because payments still name them."""
    return bool(box.store.aside.get(obj["id"], {}).get("deleted"))


def page(
    box: Sandbox,
    kind: str,
    params: Obj,
    url: str,
    keep: Callable[[Obj], bool] = lambda obj: True,
    show: Callable[[Obj], Obj] | None = None,
) -> Obj:
    """Newest first, filtered by ``keep`` and ``created``; cursors as Stripe's."""
    group = box.store.objects[kind]
    oldest, matches = _oldest(params.get("created")), within(params.get("created"))
    after, before = params.get("starting_after"), params.get("ending_before")
    for cursor, param in ((after, "starting_after"), (before, "ending_before")):
        if cursor is not None and cursor not in group:
            raise no_such(kind, cursor, param)

    def newest_first() -> Iterator[Obj]:
        for obj in reversed(group.values()):
            if obj["created"] < oldest:
                return  # they are kept in the order of their making
            if matches(obj["created"]) and keep(obj):
                yield obj

    limit = read_limit(params)
    found = _slice(newest_first(), limit, after, before)
    data = [show(obj) if show else box.view(obj) for obj in found[:limit]]
    return {"object": "list", "data": data, "has_more": len(found) > limit, "url": url}


def slice_list(box: Sandbox, items: list[Obj], params: Obj, url: str) -> Obj:
    """A page of a list that belongs to one object, in its own order."""
    limit = read_limit(params)
    found = _slice(items, limit, params.get("starting_after"), params.get("ending_before"))
    return {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": url}


def read_limit(params: Obj) -> int:
    limit: int = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise bad_parameter(
            f"This value must be between 1 and 100 (it currently is '{limit}').",
            "limit",
            "parameter_invalid_integer",
        )
    return limit


def _slice(items: Iterable[Obj], limit: int, after: str | None, before: str | None) -> list[Obj]:
    """One more than ``limit``, so that the caller sees whether there is more."""
    found: list[Obj] = []
    if before is not None:
        for obj in items:
            if obj["id"] == before:
                break
            found.append(obj)
        tail = found[-limit:]
        return [*tail, tail[-1]] if len(found) > limit else tail
    skipping = after is not None
    for obj in items:
        if skipping:
            skipping = obj["id"] != after
            continue
        found.append(obj)
        if len(found) > limit:
            break
    return found


def within(given: Any) -> Callable[[int], bool]:
    """Whether a moment is the one that was asked for, or lies in the range."""
    if given is None:
        return lambda at: True
    if isinstance(given, int):
        return lambda at: at == given
    return lambda at: (
        ("gt" not in given or at > given["gt"])
        and ("gte" not in given or at >= given["gte"])
        and ("lt" not in given or at < given["lt"])
        and ("lte" not in given or at <= given["lte"])
    )


def _oldest(given: Any) -> float:
    """The oldest moment that can be in the range."""
    if given is None:
        return float("-inf")
    if isinstance(given, int):
        return given
    return max(given.get("gte", float("-inf")), given.get("gt", float("-inf")))


def expand(box: Sandbox, obj: Obj, paths: Iterable[str]) -> Obj:
    """Return ``obj`` with the named fields replaced by objects; ``obj`` itself stays as it is."""
    for path in paths:
        steps = path.split(".")
        if len(steps) > DEPTH:
            raise bad_parameter(
                f"You cannot expand more than {DEPTH} levels of a property. Property: {path}",
                "expand",
            )
        obj = _expand(box, obj, steps, path)
    return obj


def _expand(box: Sandbox, node: Any, steps: list[str], path: str) -> Any:
    if not steps or node is None:
        return node
    if isinstance(node, list):
        return [_expand(box, item, steps, path) for item in node]
    if isinstance(node, str):
        node = _lookup(box, node)
        return _expand(box, node, steps, path)
    head, *rest = steps
    value = node.get(head) if isinstance(node, dict) else None
    if head == "total_details" and rest == ["breakdown"] and isinstance(value, dict):
        return {**node, head: {**value, "breakdown": _breakdown(box, node)}}
    if isinstance(node, dict) and head in _included(node):
        value = value or _included(node)[head](box, node)
    elif head in EXPANDABLE and isinstance(node, dict) and head in node:
        value = _lookup(box, value, head) if isinstance(value, str) else value
    elif rest and head in node and value is None:
        return node  # there is nothing in it to expand, which is no error
    elif not (rest and isinstance(value, dict | list)):
        raise ApiError(f"This property cannot be expanded ({path}).", param="expand", begun=False)
    return {**node, head: _expand(box, value, rest, path)}


def _lookup(box: Sandbox, id: str, field: str = "") -> Any:
    """The object of an id; what kind it is its prefix says, or the field that it is in."""
    kind = KIND_OF_PREFIX.get(id.partition("_")[0], field)
    obj = box.store.objects[kind].get(id) if kind else None
    return id if obj is None else box.view(obj)


def _included(node: Obj) -> dict[str, Callable[[Sandbox, Obj], Obj | None]]:
    """Lists that are shown only when asked for."""
    return INCLUDED.get(node.get("object", ""), {})


def line_items(box: Sandbox, session: Obj) -> Obj:
    items = box.store.aside[session["id"]]["items"]
    return slice_list(box, items, {}, f"/v1/checkout/sessions/{session['id']}/line_items")


def _calculated_lines(box: Sandbox, made: Obj) -> Obj:
    items = box.store.aside[made["id"]]["items"]
    return slice_list(box, items, {"limit": 100}, f"/v1/tax/calculations/{made['id']}/line_items")


def _breakdown(box: Sandbox, session: Obj) -> Obj:
    """What a session's discount and taxes are made of."""
    off = session["total_details"]["amount_discount"]
    taken = {"id": f"di_{session['id'][-14:]}", "object": "discount"}
    return {
        "discounts": [{"amount": off, "discount": taken}] if session["discounts"] else [],
        "taxes": box.store.aside[session["id"]].get("taxes", []),
    }


def _refunds(box: Sandbox, charge: Obj) -> Obj:
    mine = [r for r in box.store.objects["refund"].values() if r["charge"] == charge["id"]]
    return slice_list(box, mine[::-1], {}, f"/v1/charges/{charge['id']}/refunds")


def _payments(box: Sandbox, invoice: Obj) -> Obj:
    mine = invoices.payments_of(box, invoice)
    return slice_list(box, mine, {}, f"/v1/invoice_payments?invoice={invoice['id']}")


def _confirmation_secret(box: Sandbox, invoice: Obj) -> Obj | None:
    """What a page needs to have an open invoice paid."""
    intent = invoices.intent_of(box, invoice)
    if intent is None or invoice["status"] != "open":
        return None
    return {"client_secret": intent["client_secret"], "type": "payment_intent"}


INCLUDED: dict[str, dict[str, Callable[[Sandbox, Obj], Obj | None]]] = {
    "checkout.session": {"line_items": line_items},
    "charge": {"refunds": _refunds},
    "tax.calculation": {"line_items": _calculated_lines},
    "invoice": {"payments": _payments, "confirmation_secret": _confirmation_secret},
}
