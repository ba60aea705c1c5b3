"""Whose an order is, at every address of the shop's own map that takes an id."""

from __future__ import annotations

from typing import Any

import pytest

from services import links
from tests.pages.test_doors import address, rules
from tests.people.test_sign_in import signed_in
from tests.shop import COFFEE, LAMP, ORIGIN, Checkout, Shop, Shopper

PERSON = ("Maya", "Lindqvist", "maya@example.com", "Sonnenallee", "12047")
# What a stranger gets: nothing at all, or how it stands without a word about who.
NOTHING, HOW_IT_STANDS = "nothing", "how it stands"
STRANGERS_GET = {
    "GET /api/checkout/success": HOW_IT_STANDS,
    "GET /checkout/success": HOW_IT_STANDS,
    "GET /payment/success": HOW_IT_STANDS,
    "GET /checkout/cancel": NOTHING,
    "GET /api/orders/<order_or_intent>": NOTHING,
    "GET /api/orders/<order_or_intent>/sync-status": NOTHING,
    "GET /api/orders/by-session/<session_id>": NOTHING,
    "POST /api/orders/<order_id>/retry-session": NOTHING,
    "GET /checkout/pay/<attempt_id>": NOTHING,
    "POST /checkout/pay/<attempt_id>/hosted": NOTHING,
    "GET /order-success/<order_id>": NOTHING,
    "GET /orders/<order_id>": NOTHING,
    "GET /orders/<order_id>/invoice": NOTHING,
    "POST /orders/<order_id>/links": NOTHING,
    "POST /orders/<order_id>/receipts": NOTHING,
    "POST /orders/<order_id>/retries": NOTHING,
    "GET /orders/<order_id>/status": HOW_IT_STANDS,
    "POST /orders/<order_id>/subscriptions/<int:row_id>/cancel": NOTHING,
    "POST /orders/<order_id>/subscriptions/<int:row_id>/resume": NOTHING,
}


@pytest.fixture
def bought(sqlite_shop: Shop) -> Checkout:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(COFFEE)
    checkout = shopper.buy()
    checkout.pay()
    sqlite_shop.deliver_and_work()
    return checkout


def about_an_order(shop: Shop, bought: Checkout) -> dict[str, tuple[str, str]]:
    """Every address that leads to one order, but the counter's, which have rules of their own."""
    named = {"order_id", "attempt_id", "order_or_intent", "session_id"}
    asked = ("/checkout/success", "/api/checkout/success", "/payment/success", "/checkout/cancel")
    intent = shop.payments()[0].payment_intent  # a session that subscribes names none
    return {
        f"{method} {rule.rule}": (method, address(rule, bought).replace("=None", f"={intent}"))
        for rule in rules(shop)
        if (named & rule.arguments or rule.rule in asked) and not rule.rule.startswith("/admin")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def ask(person: Shopper, method: str, path: str, **more: Any) -> Any:
    return person.get(path, buffered=True, **more) if method == "GET" else person.post(path, **more)


@pytest.mark.accept("O28", "X13")
def test_a_stranger_learns_nothing_of_an_order_anywhere(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    shop = sqlite_shop
    other = shop.shopper().buy(LAMP, email="ben@example.com", name="Ben Ono", line1="Elsewhere 1")
    order = shop.order(other.order_id)
    assert order
    foreign = {"headers": {"Authorization": f"Bearer {links.token(order)}"}}
    strangers: list[tuple[str, Shopper, dict[str, Any]]] = [
        ("nobody", shop.shopper(), {}),
        ("another shopper", other.shopper, {}),
        ("signed in with another address", signed_in(shop, "ben@example.com"), {}),
        ("with another order's link", shop.shopper(), foreign),
    ]
    places = about_an_order(shop, bought)
    assert set(places) == set(STRANGERS_GET), "a new address needs a line here"
    before = shop.history(bought.order_id)

    for place, (method, path) in places.items():
        for who, person, more in strangers:
            answer = ask(person, method, path, **more)
            expected = 404 if STRANGERS_GET[place] == NOTHING else 200
            assert answer.status_code == expected, (place, who, answer.status_code)
            assert [word for word in PERSON if word in answer.text] == [], (place, who)
    assert len(shop.history(bought.order_id)) == len(before)


@pytest.mark.accept("O28", "X13")
def test_its_browser_its_address_and_its_link_open_it(sqlite_shop: Shop, bought: Checkout) -> None:
    order = sqlite_shop.the_order()
    by_link = sqlite_shop.shopper()
    by_link.get(links.path(order))
    for person in (bought.shopper, signed_in(sqlite_shop), by_link):
        for place, (method, path) in about_an_order(sqlite_shop, bought).items():
            if method == "GET":
                # To pay or to cancel, a paid order leads to its own page.
                assert ask(person, method, path).status_code in (200, 303), place
        assert "Sonnenallee 12" in person.get(f"/orders/{order.id}").text
    program = sqlite_shop.app.test_client()
    headers = {"Authorization": f"Bearer {links.token(order)}"}
    path = f"/api/orders/{order.id}"
    assert program.get(path, headers=headers, base_url=ORIGIN).status_code == 200
