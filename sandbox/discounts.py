"""Coupons and the promotion codes that lead to them: what they take off, and how often."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

THREE_DECIMALS = frozenset("bhd jod kwd omr tnd".split())
WITHOUT_CENTS = frozenset({"isk", "ugx"})


def smallest_step(currency: str) -> int:
    """What every amount that can be charged is a multiple of."""
    if currency in THREE_DECIMALS:
        return 10
    return 100 if currency in WITHOUT_CENTS else 1


def amount_off(coupon: Obj, subtotal: int, currency: str) -> int | None:
    """What a coupon takes off in this currency, minor units; None if it knows none of it."""
    if coupon["percent_off"] is not None:
        step = smallest_step(currency)
        share = Decimal(subtotal) * Decimal(str(coupon["percent_off"])) / 100 / step
        return min(int(share.quantize(Decimal(1), ROUND_HALF_UP)) * step, subtotal)
    if coupon["currency"] == currency:
        return min(int(coupon["amount_off"]), subtotal)
    other = coupon.get("currency_options", {}).get(currency)
    return min(int(other["amount_off"]), subtotal) if other else None


def spread(amount: int, weights: list[int]) -> list[int]:
    """``amount`` in whole minor units over lines, in proportion to what they cost."""
    whole = sum(weights)
    if not whole:
        return [0 for _ in weights]
    shares = [amount * weight // whole for weight in weights]
    rest = sorted(range(len(weights)), key=lambda i: (-(amount * weights[i] % whole), i))
    for place in rest[: amount - sum(shares)]:
        shares[place] += 1
    return shares


def why_not(box: Sandbox, code: Obj, coupon: Obj) -> str | None:
    """Why a promotion code cannot be used now, whatever is bought."""
    now = int(box.now())
    if not code["active"]:
        return "This promotion code is not active."
    if code["expires_at"] and code["expires_at"] <= now:
        return "This promotion code has expired."
    if not is_valid(coupon, now):
        return "The coupon of this promotion code is no longer valid."
    return None


def is_valid(coupon: Obj, now: int) -> bool:
    used_up = coupon["max_redemptions"] and coupon["times_redeemed"] >= coupon["max_redemptions"]
    return not (used_up or (coupon["redeem_by"] and coupon["redeem_by"] <= now))


def redeem(box: Sandbox, session: Obj) -> None:
    """A session with a code is complete: one use less of what the code may still be used."""
    for used in session["discounts"]:
        code = box.store.objects["promotion_code"].get(used["promotion_code"] or "")
        coupon = box.store.objects["coupon"][
            code["promotion"]["coupon"] if code else used["coupon"]
        ]
        coupon["times_redeemed"] += 1
        coupon["valid"] = is_valid(coupon, int(box.now()))
        box.store.put(coupon)
        box.emit("coupon.updated", coupon, {"times_redeemed": coupon["times_redeemed"] - 1})
        if code is None:
            continue
        before = {"times_redeemed": code["times_redeemed"]}
        code["times_redeemed"] += 1
        most = code["max_redemptions"]
        if not coupon["valid"] or (most and code["times_redeemed"] >= most):
            code["active"] = False
            before["active"] = True
        box.store.put(code)
        box.emit("promotion_code.updated", code, before)
