"""A shop that sells coffee by the month, and prints with a trial."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.plans.buying import OwnPage, sells_plans
from tests.shop import Shop, TestShops


@pytest.fixture
def shop(shops: TestShops) -> Iterator[Shop]:
    with shops.opened() as opened:
        sells_plans()
        yield opened


@pytest.fixture(params=["order_first", "pay_first", "dual_track"])
def any_shop(shops: TestShops, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """The same under each strategy."""
    with shops.opened(order_strategy=request.param) as opened:
        sells_plans()
        yield opened


@pytest.fixture
def page(shop: Shop) -> OwnPage:
    return OwnPage(shop)


@pytest.fixture
def any_page(any_shop: Shop) -> OwnPage:
    return OwnPage(any_shop)
