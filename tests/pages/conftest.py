"""The shop's pages and its API, as a shopper, an admin and an attacker meet them."""

from __future__ import annotations

import pytest

from services import auth
from tests.shop import Shop, Shopper


@pytest.fixture
def admin(sqlite_shop: Shop) -> Shopper:
    """Somebody at the counter, signed in by a one-time link."""
    return signed_in(sqlite_shop)


def signed_in(shop: Shop) -> Shopper:
    link = auth.create_link("ada@example.com")
    person = shop.shopper()
    answer = person.post("/admin/login", {"token": link.rpartition("=")[2]})
    assert answer.status_code == 303
    return person
