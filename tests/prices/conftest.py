"""A shop whose Stripe has discount codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stripe

from tests.shop import Shop, TestShops


def stripe_of(shop: Shop) -> Any:
    """Stripe's dashboard, as its API."""
    return stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url}).v1


MakeCode = Callable[..., Any]


@pytest.fixture
def a_code(shop: Shop) -> MakeCode:
    return maker(shop)


def maker(shop: Shop) -> MakeCode:
    """Make a code at Stripe; without anything it takes 10 % off."""

    def make(code: str = "SPRING", *, coupon: dict[str, Any] | None = None, **more: Any) -> Any:
        api = stripe_of(shop)
        made = api.coupons.create({"duration": "once", **(coupon or {"percent_off": 10})})
        promotion = {"type": "coupon", "coupon": made.id}
        return api.promotion_codes.create({"code": code, "promotion": promotion, **more})

    return make


@pytest.fixture
def taxed_shop(shops: TestShops) -> Iterator[Shop]:
    """Prices without tax, which Stripe finds out and the shop adds."""
    with shops.opened(tax="stripe", tax_behavior="exclusive") as opened:
        yield opened
