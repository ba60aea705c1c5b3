"""A shop that tells somebody, who really listens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.plans.buying import sells_plans
from tests.seams.sink import Sink, listening
from tests.shop import Shop, TestShops

SECRET = "signs " * 8


@pytest.fixture
def sink() -> Iterator[Sink]:
    with listening() as opened:
        yield opened


@pytest.fixture
def shop(shops: TestShops, sink: Sink) -> Iterator[Shop]:
    """On either database."""
    told = {"webhook_targets": (f"{sink.url}/orders",), "webhook_signing_secrets": (SECRET,)}
    with shops.opened(**told) as opened:
        sells_plans()
        yield opened


@pytest.fixture
def lite(sqlite_shops: TestShops, sink: Sink) -> Iterator[Shop]:
    """For what does not depend on the database."""
    told = {"webhook_targets": (f"{sink.url}/orders",), "webhook_signing_secrets": (SECRET,)}
    with sqlite_shops.opened(**told) as opened:
        sells_plans()
        yield opened


@pytest.fixture
def any_database(shops: TestShops) -> Iterator[Shop]:
    """One that tells nobody else."""
    with shops.opened() as opened:
        yield opened
