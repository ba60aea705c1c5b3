"""/v1/coupons and /v1/promotion_codes, and what a session makes of a code."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import discounts
from ..errors import ApiError, bad_parameter, missing, no_such, not_yet
from ..shapes import money
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

COUPON, CODE = "coupon", "promotion_code"
_LETTERS = re.compile(r"[A-Za-z0-9-]{1,500}")


# -- what they are


def create_coupon(box: Sandbox, params: Obj) -> Obj:
    percent, off = params.get("percent_off"), params.get("amount_off")
    if (percent is None) == (off is None):
        raise bad_parameter("You must pass either `percent_off` or `amount_off`.", "percent_off")
    if percent is not None and not 0 < percent <= 100:
        raise bad_parameter(
            "Invalid percent_off: it must be above 0 and at most 100.", "percent_off"
        )
    if off is not None:
        if "currency" not in params:
            raise missing("currency")
        params["currency"] = amounts.check_currency(params["currency"], "currency")
        amounts.check_amount(off, params["currency"], "amount_off", least=1)
    id = params.get("id") or box.store.new_id("", 8)
    if id in box.store.objects[COUPON]:
        raise ApiError("Coupon already exists.", code="resource_already_exists", param="id")
    coupon = box.store.put(money.coupon(id, created=int(box.now()), params=params))
    box.emit("coupon.created", coupon)
    return coupon


def retrieve_coupon(box: Sandbox, params: Obj, id: str) -> Obj:
    return _fresh(box, reading.find(box, COUPON, id))


def list_coupons(box: Sandbox, params: Obj) -> Obj:
    return reading.page(box, COUPON, params, "/v1/coupons")


def update_coupon(box: Sandbox, params: Obj, id: str) -> Obj:
    coupon = reading.find(box, COUPON, id)
    before = {name: coupon[name] for name in ("name",) if name in params}
    coupon |= {name: params[name] for name in before}
    amounts.merge_metadata(coupon, params)
    box.store.put(coupon)
    box.emit("coupon.updated", coupon, before)
    return coupon


def delete_coupon(box: Sandbox, params: Obj, id: str) -> Obj:
    """Its codes take nothing off any more; what was bought with them stays as it is."""
    coupon = reading.find(box, COUPON, id)
    for code in box.store.objects[CODE].values():
        if code["promotion"]["coupon"] == id:
            code["active"] = False
            box.store.put(code)
    box.store.put(coupon, deleted=True)
    box.emit("coupon.deleted", coupon)
    return {"id": id, "object": COUPON, "deleted": True}


def create_code(box: Sandbox, params: Obj) -> Obj:
    promotion = params["promotion"]
    if "coupon" not in promotion:
        raise missing("promotion[coupon]")
    coupon = reading.find(box, COUPON, promotion["coupon"], "promotion[coupon]")
    code = params.get("code") or box.store.new_id("", 8).upper()
    if not _LETTERS.fullmatch(code):
        raise bad_parameter("Codes may only have letters, digits and dashes.", "code")
    if any(c["active"] and _same(c, code) for c in box.store.objects[CODE].values()):
        raise ApiError(
            "An active promotion code with `code: " + code + "` already exists.", param="code"
        )
    if "customer" in params:
        reading.find(box, "customer", params["customer"], "customer")
    if "currency_options" in (params.get("restrictions") or {}):
        raise not_yet("minimum amounts in several currencies", "restrictions[currency_options]")
    made = money.promotion_code(
        box.store.new_id("promo_1"),
        created=int(box.now()),
        code=code,
        coupon=coupon["id"],
        params=params,
    )
    box.store.put(made)
    box.emit("promotion_code.created", made)
    return made


def retrieve_code(box: Sandbox, params: Obj, id: str) -> Obj:
    return _fresh_code(box, reading.find(box, CODE, id))


def list_codes(box: Sandbox, params: Obj) -> Obj:
    for code in list(box.store.objects[CODE].values()):
        _fresh_code(box, code)

    def keep(code: Obj) -> bool:
        if "code" in params and not _same(code, params["code"]):
            return False
        if "coupon" in params and code["promotion"]["coupon"] != params["coupon"]:
            return False
        return all(n not in params or code[n] == params[n] for n in ("active", "customer"))

    return reading.page(box, CODE, params, "/v1/promotion_codes", keep)


def update_code(box: Sandbox, params: Obj, id: str) -> Obj:
    code = reading.find(box, CODE, id)
    if "restrictions" in params:
        raise not_yet("updating a promotion code's restrictions", "restrictions")
    before = {name: code[name] for name in ("active",) if name in params}
    code |= {name: params[name] for name in before}
    amounts.merge_metadata(code, params)
    box.store.put(code)
    box.emit("promotion_code.updated", code, before)
    return code


def _same(code: Obj, typed: str) -> bool:
    """Upper and lower case are one to Stripe."""
    return bool(code["code"].lower() == typed.lower())


def _fresh(box: Sandbox, coupon: Obj) -> Obj:
    valid = discounts.is_valid(coupon, int(box.now()))
    if valid != coupon["valid"]:
        coupon["valid"] = valid
        box.store.put(coupon)
    return coupon


def _fresh_code(box: Sandbox, code: Obj) -> Obj:
    coupon = _fresh(box, box.store.objects[COUPON][code["promotion"]["coupon"]])
    if code["active"] and discounts.why_not(box, code, coupon):
        code["active"] = False
        box.store.put(code)
    return code


# -- what a session makes of them


def check(box: Sandbox, params: Obj, session: Obj, subtotal: int) -> tuple[Obj, Obj] | None:
    """The coupon that a session is to be opened with, and how the session names it. Raises
    ApiError for one that cannot be used for it."""
    given = params.get("discounts") or []
    if not given:
        return None
    if len(given) > 1:
        raise bad_parameter("You can only apply one discount to a Checkout Session.", "discounts")
    if params["mode"] != "payment":
        raise not_yet("discounts on what recurs", "discounts")
    if "allow_promotion_codes" in params:
        raise bad_parameter(
            "You may only specify one of these parameters: allow_promotion_codes, discounts.",
            "discounts",
            "parameters_exclusive",
        )
    named = given[0]
    if ("coupon" in named) == ("promotion_code" in named):
        raise bad_parameter("Pass either `coupon` or `promotion_code`.", "discounts[0]")
    at = "discounts[0][promotion_code]"
    if "coupon" in named:
        coupon, code = reading.find(box, COUPON, named["coupon"], "discounts[0][coupon]"), None
        why = None if discounts.is_valid(coupon, int(box.now())) else "This coupon has expired."
    else:
        code = box.store.objects[CODE].get(named["promotion_code"])
        if code is None:
            raise no_such("promotion code", named["promotion_code"], at)
        coupon = box.store.objects[COUPON][code["promotion"]["coupon"]]
        why = discounts.why_not(box, code, coupon) or _not_here(code, session, subtotal)
    if why is None and discounts.amount_off(coupon, subtotal, session["currency"]) is None:
        why = f"This coupon takes nothing off in {session['currency']}."
    if why:
        raise ApiError(why, param=at)
    return coupon, {"coupon": None if code else coupon["id"], "promotion_code": code and code["id"]}


def _not_here(code: Obj, session: Obj, subtotal: int) -> str | None:
    limits = code["restrictions"]
    if code["customer"] and code["customer"] != session["customer"]:
        return "This promotion code cannot be redeemed by this customer."
    least = limits["minimum_amount"]
    if least and limits["minimum_amount_currency"] != session["currency"]:
        return "The minimum amount of this promotion code is in another currency."
    if least and subtotal < least:
        return f"The subtotal is below this promotion code's minimum of {least}."
    return None


def apply(session: Obj, coupon: Obj, named: Obj, items: list[Obj]) -> None:
    """Take a coupon off the lines that it applies to."""
    products = (coupon.get("applies_to") or {}).get("products")
    weights = [
        item["amount_subtotal"] if not products or item["price"]["product"] in products else 0
        for item in items
    ]
    off = discounts.amount_off(coupon, sum(weights), session["currency"]) or 0
    for item, share in zip(items, discounts.spread(off, weights), strict=True):
        item["amount_discount"] = share
        item["amount_total"] -= share
    session["discounts"] = [named]
    session["total_details"]["amount_discount"] = off


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/coupons": create_coupon,
    "GET /v1/coupons": list_coupons,
    "GET /v1/coupons/{id}": retrieve_coupon,
    "POST /v1/coupons/{id}": update_coupon,
    "DELETE /v1/coupons/{id}": delete_coupon,
    "POST /v1/promotion_codes": create_code,
    "GET /v1/promotion_codes": list_codes,
    "GET /v1/promotion_codes/{id}": retrieve_code,
    "POST /v1/promotion_codes/{id}": update_code,
}
