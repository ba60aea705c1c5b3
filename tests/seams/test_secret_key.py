"""A new SECRET_KEY in front of the old one: nobody notices, until the old one is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask

from app import create_app
from services import links
from tests.pages.conftest import signed_in
from tests.people.letters import leads_to, letters
from tests.shop import ORIGIN, Shop, Shopper, TestShops

OLD, NEW = "o" * 40, "n" * 40


@pytest.fixture
def shop(sqlite_shops: TestShops) -> Iterator[Shop]:
    """One that signs with the old key."""
    with sqlite_shops.opened(secret_keys=(OLD,)) as opened:
        yield opened


def restarted(shop: Shop, *keys: str) -> Flask:
    """The same shop after a deploy with these keys."""
    app = create_app(replace(shop.app.extensions["settings"], secret_keys=keys))
    app.testing = False
    return app


def goes_on(shopper: Shopper, app: Flask) -> Shopper:
    """The same browser, which meets the shop after its restart."""
    cookie = shopper.browser.get_cookie("shop", domain="shop.test")
    assert cookie
    later = Shopper(Shop(app, shopper.shop.sandbox, shopper.shop.clock))
    later.browser.set_cookie("shop", cookie.value, domain="shop.test")
    return later


@pytest.mark.accept("X24")
def test_a_session_lasts_until_the_old_key_is_dropped(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart()

    assert "Enamel mug" in goes_on(shopper, restarted(shop, NEW, OLD)).get("/cart").text
    assert "Enamel mug" not in goes_on(shopper, restarted(shop, NEW)).get("/cart").text


@pytest.mark.accept("X24")
def test_who_came_by_meanwhile_has_a_session_of_the_new_key(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart()
    between = goes_on(shopper, restarted(shop, NEW, OLD))
    between.get("/cart")

    assert "Enamel mug" in goes_on(between, restarted(shop, NEW)).get("/cart").text


@pytest.mark.accept("X24")
def test_whoever_is_signed_in_at_the_counter_stays_so_until_then(shop: Shop) -> None:
    ada = signed_in(shop)

    assert goes_on(ada, restarted(shop, NEW, OLD)).get("/admin/orders").status_code == 200
    assert goes_on(ada, restarted(shop, NEW)).get("/admin/orders").status_code != 200


@pytest.mark.accept("X24")
def test_a_form_that_was_left_open_can_be_sent_until_then(shop: Shop) -> None:
    shopper = shop.shopper()
    form = {"csrf_token": shopper.token(), "sku": "MUG-FOR-35", "quantity": 1}

    def sent_to(app: Flask) -> int:
        browser = goes_on(shopper, app).browser
        return browser.post("/cart/items", data=form, base_url=ORIGIN).status_code

    assert sent_to(restarted(shop, NEW, OLD)) == 303
    assert sent_to(restarted(shop, NEW)) == 400


@pytest.mark.accept("X24")
def test_the_header_of_a_page_that_was_left_open_counts_until_then(shop: Shop) -> None:
    shopper = shop.shopper()
    headers = {"X-CSRFToken": shopper.token()}

    def asked_of(app: Flask) -> int:
        browser = goes_on(shopper, app).browser
        items = {"items": [{"sku": "MUG-FOR-35", "quantity": 1}]}
        return browser.put("/api/cart", json=items, headers=headers, base_url=ORIGIN).status_code

    assert asked_of(restarted(shop, NEW, OLD)) == 200
    assert asked_of(restarted(shop, NEW)) == 400


@pytest.mark.accept("X24")
def test_an_order_link_opens_its_order_until_then(shop: Shop) -> None:
    shop.shopper().buy()
    order = shop.the_order()
    link = links.path(order)

    def opened_at(app: Flask) -> int:
        stranger = app.test_client()
        return stranger.get(link, base_url=ORIGIN).status_code

    assert opened_at(restarted(shop, NEW, OLD)) == 200
    assert opened_at(restarted(shop, NEW)) == 404


@pytest.mark.accept("X24")
def test_a_mailed_link_signs_in_until_then(shop: Shop) -> None:
    shop.shopper().buy()
    shop.shopper().post("/orders/sign-in-links", {"email": "maya@example.com"})
    shop.work()
    (mail,) = letters(shop, "sign_in")
    link = leads_to(mail)

    def opened_at(app: Flask) -> int:
        return app.test_client().get(link, base_url=ORIGIN).status_code

    assert opened_at(restarted(shop, NEW, OLD)) == 200
    assert opened_at(restarted(shop, NEW)) == 404
    stranger = Shopper(Shop(restarted(shop, NEW, OLD), shop.sandbox, shop.clock))
    pressed = stranger.post("/orders/sign-in", {"token": link.partition("token=")[2]})
    assert pressed.status_code == 303
    assert "Sign out everywhere" in stranger.get("/orders").text


@pytest.mark.accept("X24")
def test_who_is_signed_in_by_mail_stays_so_until_then(shop: Shop) -> None:
    shop.shopper().buy()
    maya = shop.shopper()
    maya.post("/orders/sign-in-links", {"email": "maya@example.com"})
    shop.work()
    (mail,) = letters(shop, "sign_in")
    maya.post("/orders/sign-in", {"token": leads_to(mail).partition("token=")[2]})

    later, too_late = restarted(shop, NEW, OLD), restarted(shop, NEW)

    assert "Sign out everywhere" in goes_on(maya, later).get("/orders").text
    assert "Sign out everywhere" not in goes_on(maya, too_late).get("/orders").text


def test_what_is_made_after_the_change_needs_the_new_key_alone(shop: Shop) -> None:
    new_shop = restarted(shop, NEW, OLD)
    shopper = Shopper(Shop(new_shop, shop.sandbox, shop.clock))
    shopper.put_in_cart()
    form = {"csrf_token": shopper.token(), "sku": "MUG-FOR-35", "quantity": 1}

    later = goes_on(shopper, restarted(shop, NEW))

    assert later.browser.post("/cart/items", data=form, base_url=ORIGIN).status_code == 303
    assert later.cart() == [("MUG-FOR-35", 2)]
