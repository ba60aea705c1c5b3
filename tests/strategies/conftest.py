"""The same shop under each strategy, on both databases: what must hold in every one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from domain.strategies import STRATEGIES, Moment, Strategy
from tests.shop import Checkout, Shop, TestShops


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return STRATEGIES[request.param]


@pytest.fixture
def shop(shops: TestShops, strategy: Strategy) -> Iterator[Shop]:
    with shops.opened(order_strategy=strategy.name) as opened:
        yield opened


@pytest.fixture
def dual_track(shops: TestShops) -> Iterator[Shop]:
    with shops.opened(order_strategy="dual_track") as opened:
        yield opened


@pytest.fixture
def pay_first(shops: TestShops) -> Iterator[Shop]:
    with shops.opened(order_strategy="pay_first") as opened:
        yield opened


def has_order(shop: Shop, bought: Checkout) -> bool:
    return shop.order(bought.order_id) is not None


def born_by(strategy: Strategy, moment: Moment) -> bool:
    """Whether its order is there once this moment has come."""
    return strategy.order_born <= moment
