"""The counter at work: money goes back, parcels go out."""

from __future__ import annotations

import pytest

from tests.pages.conftest import admin, signed_in  # noqa: F401 - a fixture
from tests.shop import Shop, Shopper


@pytest.fixture
def ada(shop: Shop) -> Shopper:
    """Somebody at the counter, on either database."""
    return signed_in(shop)
