"""Pressing Pay: what is written, what Stripe is told, and what happens when it goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from domain.errors import EmptyCart, PriceChanged
from extensions import atomic
from models import CartItem, CheckoutAttempt, Order, OrderEvent, OrderItem, Product, StripeLeg
from services import cart, checkout
from services.checkout import Address, Contact
from tests.pages.forms import a_body
from tests.shop import KETTLE, LAMP, MUG, ORIGIN, Shop, TestShops, query

CREATE = "POST", "/v1/checkout/sessions"
CONTACT = Contact("Maya Lindqvist", "maya@example.com")
HOME = Address("Sonnenallee 12", "Berlin", "12047", "DE")


def asked(shop: Shop, method: str, path: str) -> list[dict[str, Any]]:
    """The requests of this kind that reached Stripe."""
    calls = [call for call in shop.sandbox.requests if call["method"] == method]
    return [call for call in calls if call["path"].startswith(path)]


def sessions(shop: Shop) -> list[dict[str, Any]]:
    return list(shop.sandbox.store.objects["checkout.session"].values())


def nothing_written(shop: Shop) -> bool:
    held = sum(product.held for product in shop.rows(Product))
    kinds = (CheckoutAttempt, Order, OrderItem, OrderEvent, StripeLeg)
    return held == 0 and not any(shop.count(kind) for kind in kinds) and not sessions(shop)


@pytest.mark.accept("O2", "O21", "V1", "V2")
def test_the_order_is_there_before_the_payment_with_its_lines_and_its_session(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(LAMP)
    checkout = shopper.buy(MUG, 2)

    order = shop.the_order()
    assert (order.status, order.payment_status) == ("pending_payment", "pending")
    assert [(i.sku, i.title, i.unit_amount, i.quantity) for i in shop.rows(OrderItem)] == [
        (MUG, "Enamel mug", 1800, 2),
        (LAMP, "Desk lamp", 3300, 1),
    ]
    assert (order.subtotal, order.shipping, order.total) == (6900, 490, 7390)
    assert order.created_at == shop.clock.now()
    assert [leg.stripe_id for leg in shop.legs(order.id)] == [checkout.session_id]
    assert [session["id"] for session in sessions(shop)] == [checkout.session_id]


@pytest.mark.accept("O3")
def test_what_is_being_paid_is_not_offered_to_others(shop: Shop) -> None:
    shop.shopper().buy(LAMP, 2)

    assert (shop.product(LAMP).on_hand, shop.product(LAMP).free) == (2, 0)
    other = shop.shopper()
    assert "Sold out" in other.get("/products/desk-lamp").text
    assert other.put_in_cart(LAMP).status_code == 409


@pytest.mark.accept("O4")
def test_the_basket_is_empty_at_once(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(LAMP)
    shopper.buy()

    assert shopper.cart() == []
    assert shop.count(CartItem) == 0
    page = shopper.get("/cart").text
    assert "A payment is waiting for you" in page
    assert "In your basket" not in page


@pytest.mark.accept("O5", "V17")
def test_stripe_is_told_the_order_id_and_nothing_about_the_person(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()

    (call,) = asked(sqlite_shop, *CREATE)
    link = {"checkout_attempt_id": checkout.order_id}
    assert call["params"]["metadata"] == link
    assert call["params"]["payment_intent_data"]["metadata"] == link
    assert call["params"]["client_reference_id"] == checkout.order_id
    assert checkout.order_id in call["idempotency_key"]
    success = f"{ORIGIN}/checkout/success?session_id={{CHECKOUT_SESSION_ID}}"
    assert call["params"]["success_url"] == success
    assert call["params"]["cancel_url"] == f"{ORIGIN}/checkout/cancel?attempt={checkout.order_id}"


@pytest.mark.accept("V18")
def test_the_public_origin_is_a_setting(sqlite_shops: TestShops) -> None:
    with sqlite_shops.opened(public_origin="https://shop.example.com") as shop:
        browser = shop.app.test_client()
        there = {"base_url": "https://shop.example.com"}
        page = browser.get("/", **there).text
        token = page.split('name="csrf-token" content="')[1].split('"')[0]
        headers = {"X-CSRFToken": token}
        body = a_body(items=[{"sku": MUG, "quantity": 1}])
        answer = browser.post(
            "/api/payments/create-checkout-session", json=body, headers=headers, **there
        )
        assert answer.status_code == 201

        (call,) = asked(shop, *CREATE)
        assert call["params"]["success_url"].startswith("https://shop.example.com/checkout/success")
        cookie = browser.get("/", **there)
        assert "Strict-Transport-Security" in cookie.headers


@pytest.mark.accept("O7")
def test_an_empty_basket_cannot_be_paid(shop: Shop) -> None:
    newcomer, undecided = shop.shopper(), shop.shopper()
    undecided.put_in_cart()
    undecided.post("/cart/lines/remove", {"sku": MUG})

    for shopper in (newcomer, undecided):
        answer = shopper.check_out()
        assert answer.status_code == 409
        assert "Your basket is empty" in answer.text
    assert nothing_written(shop)


@pytest.mark.accept("O7")
def test_an_unknown_product_cannot_be_paid(shop: Shop) -> None:
    shopper = shop.shopper()
    items = [{"sku": MUG, "quantity": 1}, {"sku": "NO-SUCH", "quantity": 1}]
    answer = shopper.json("POST", "/api/payments/create-checkout-session", a_body(items=items))

    assert answer.status_code == 422
    assert answer.get_json()["code"] == "product_unknown"
    assert nothing_written(shop)
    assert shopper.cart() == []


@pytest.mark.accept("O7")
def test_a_product_that_left_the_shop_cannot_be_paid(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart()
    change(MUG, active=False)

    answer = shopper.check_out()

    assert answer.status_code == 409
    assert "Enamel mug is no longer for sale" in answer.text
    assert nothing_written(shop)
    assert "No longer for sale" in shopper.get("/cart").text


@pytest.mark.accept("O7")
@pytest.mark.fault("F18")
def test_a_changed_price_is_shown_and_accepted_before_anything_is_paid(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(MUG, 2)
    change(MUG, prices={"eur": 1900, "usd": 2100, "jpy": 3000})

    refused = shopper.check_out()

    assert refused.status_code == 409
    assert "The price of Enamel mug has changed" in refused.text
    assert nothing_written(shop)
    page = shopper.get("/cart").text
    assert "Accept the new price" in page
    assert "€18.00" in page and "€19.00" in page

    assert shopper.post("/cart/prices").status_code == 303
    assert "Accept the new price" not in shopper.get("/cart").text
    shopper.opened(shopper.check_out())
    assert shop.the_order().subtotal == 3800


@pytest.mark.accept("O8")
def test_more_than_there_is_cannot_be_paid(shop: Shop) -> None:
    early, late = shop.shopper(), shop.shopper()
    late.put_in_cart(LAMP, 2)
    early.buy(LAMP, 1)
    rows = shop.count(CheckoutAttempt), shop.count(Order), shop.count(StripeLeg)

    answer = late.check_out()

    assert answer.status_code == 409
    assert "Only 1 of Desk lamp left" in answer.text
    assert (shop.count(CheckoutAttempt), shop.count(Order), shop.count(StripeLeg)) == rows
    assert shop.product(LAMP).held == 1
    assert late.cart() == [(LAMP, 2)]
    assert "Only 1 left." in late.get("/cart").text


@pytest.mark.accept("O8")
def test_what_is_sold_out_cannot_be_put_in_the_basket(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    page = shopper.get("/products/pour-over-kettle").text

    assert "Sold out for now" in page
    assert 'action="/cart/items"' not in page
    assert shopper.put_in_cart(KETTLE).status_code == 409
    assert shopper.cart() == []


@pytest.mark.accept("O9")
def test_a_checkout_that_breaks_half_way_leaves_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(LAMP)

    def broken(_lines: object) -> None:
        raise RuntimeError("the last step of the transaction fails")

    monkeypatch.setattr("services.stock.hold", broken)
    answer = shopper.check_out()

    assert answer.status_code == 500
    assert nothing_written(shop)
    assert shopper.cart() == [(LAMP, 1)]


@pytest.mark.accept("V3")
def test_prices_from_the_browser_are_ignored(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    names = ("price", "unit_amount", "amount", "subtotal", "shipping", "total", "currency")
    tampered = {**dict.fromkeys(names, "1"), "currency": "jpy"}
    shopper.post("/cart/items", {"sku": MUG, "quantity": 1, **tampered})
    shopper.opened(shopper.check_out(**tampered))

    order = sqlite_shop.the_order()
    assert (order.subtotal, order.shipping, order.total) == (1800, 490, 2290)
    assert order.currency == "eur"


@pytest.mark.accept("V3")
def test_prices_in_an_api_body_are_ignored(sqlite_shop: Shop) -> None:
    cheap = {"price": 1, "unitAmount": 1, "amount": 1, "currency": "jpy", "total": 1}
    shopper = sqlite_shop.shopper()
    body = a_body(items=[{"sku": MUG, "quantity": 1, **cheap}], **cheap)
    body["shipping"] = {**body["shipping"], "amount": 0, "price": 0}
    answer = shopper.json("POST", "/api/payments/create-checkout-session", body)

    assert answer.status_code == 201
    (call,) = asked(sqlite_shop, *CREATE)
    assert call["params"]["line_items"]["0"]["price_data"]["unit_amount"] == "1800"
    assert sqlite_shop.the_order().total == 2290
    assert sessions(sqlite_shop)[0]["amount_total"] == 2290


@pytest.mark.accept("V30")
def test_a_checkout_needs_no_page(sqlite_shop: Shop) -> None:
    cart.add("a-shopper", MUG, 1, "eur")
    page = checkout.start("a-shopper", CONTACT, HOME, "standard")

    assert page.attempt_id == sqlite_shop.the_order().id
    assert page.url.startswith(sqlite_shop.sandbox.url)
    with pytest.raises(EmptyCart):
        checkout.start("nobody", CONTACT, HOME, "standard")
    cart.add("another", MUG, 1, "eur")
    change(MUG, prices={"eur": 1})
    with pytest.raises(PriceChanged):
        checkout.start("another", CONTACT, HOME, "standard")


@pytest.mark.fault("F1")
def test_pressing_pay_twice_leads_to_one_payment_page(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart()
    first, second = shopper.check_out(), shopper.check_out()

    assert first.status_code == second.status_code == 303
    assert first.location == second.location
    assert len(sessions(shop)) == shop.count(Order) == shop.count(CheckoutAttempt) == 1


@pytest.mark.fault("F1")
def test_the_same_items_by_api_twice_lead_to_one_payment_page(shop: Shop) -> None:
    shopper, body = shop.shopper(), a_body(items=[{"sku": MUG, "quantity": 2}])
    first = shopper.json("POST", "/api/payments/create-checkout-session", body)
    second = shopper.json("POST", "/api/payments/create-checkout-session", body)

    assert first.get_json() == second.get_json()
    assert len(sessions(shop)) == 1
    assert shop.the_order().subtotal == 3600


@pytest.mark.fault("F2")
def test_a_basket_changed_after_pay_gets_a_page_of_its_own_and_the_old_one_closes(
    shop: Shop,
) -> None:
    shopper = shop.shopper()
    old = shopper.buy(LAMP)
    shopper.put_in_cart(MUG)
    new = shopper.opened(shopper.check_out())

    assert old.session["status"] == "expired"
    assert old.pay()["outcome"] == "closed"
    assert new.order_id != old.order_id
    assert [o.status for o in shop.rows(Order, Order.id == old.order_id)] == ["cancelled"]
    assert new.session["amount_total"] == 3300 + 1800 + 490
    assert (shop.product(LAMP).held, shop.product(MUG).held) == (1, 1)


@pytest.mark.fault("F2")
def test_other_items_by_api_replace_those_that_were_waiting_to_be_paid(shop: Shop) -> None:
    shopper = shop.shopper()
    old = shopper.buy(LAMP, 2)
    body = a_body(items=[{"sku": LAMP, "quantity": 1}])
    answer = shopper.json("POST", "/api/payments/create-checkout-session", body)

    assert answer.status_code == 201
    assert old.session["status"] == "expired"
    assert shop.order(answer.get_json()["orderId"]).subtotal == 3300
    assert shop.product(LAMP).held == 1
    assert shop.proves()


@pytest.mark.fault("F2")
def test_another_basket_by_api_ends_the_checkout_that_was_open(shop: Shop) -> None:
    shopper = shop.shopper()
    old = shopper.buy(LAMP, 2)
    answer = shopper.json("PUT", "/api/cart", {"items": [{"sku": LAMP, "quantity": 2}]})
    assert answer.get_json()["items"][0]["quantity"] == 2
    assert old.session["status"] == "open"

    answer = shopper.json("PUT", "/api/cart", {"items": [{"sku": MUG, "quantity": 1}]})

    assert [(i["sku"], i["quantity"]) for i in answer.get_json()["items"]] == [(MUG, 1)]
    assert old.session["status"] == "expired"
    assert shop.product(LAMP).held == 0
    assert shopper.cart() == [(MUG, 1)]


@pytest.mark.fault("F2")
def test_a_wrong_new_basket_leaves_the_open_checkout_alone(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    old = shopper.buy(LAMP)
    for items in ([{"sku": "NO-SUCH", "quantity": 1}], [{"sku": MUG, "quantity": 0}]):
        assert shopper.json("PUT", "/api/cart", {"items": items}).status_code == 422

    assert old.session["status"] == "open"


@pytest.mark.fault("F2")
def test_a_changed_basket_after_an_unseen_payment_leads_to_the_paid_order(shop: Shop) -> None:
    shopper = shop.shopper()
    old = shopper.buy(LAMP)
    old.pay()
    shopper.put_in_cart(MUG)

    answer = shopper.check_out()

    assert answer.status_code == 303
    assert answer.location == f"/orders/{old.order_id}"
    assert shop.order(old.order_id).status == "payment_confirmed"
    assert shop.count(Order) == 1
    assert shopper.cart() == [(MUG, 1)]
    assert shop.proves()


def test_the_summary_shows_all_that_the_next_press_of_pay_buys(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.buy(LAMP)
    shopper.put_in_cart(MUG)

    page = shopper.get("/checkout").text

    assert "Desk lamp" in page and "Enamel mug" in page
    assert "Pay €55.90" in page
    assert shopper.opened(shopper.check_out()).session["amount_total"] == 5590


def test_another_currency_prices_an_open_checkout_anew(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    old = shopper.buy(LAMP)
    shopper.put_in_cart(MUG)
    shopper.post("/currency", {"currency": "jpy"})

    assert "Pay ¥9,100" in shopper.get("/checkout").text  # 5,400 + 2,900 + 800
    new = shopper.opened(shopper.check_out())
    assert (new.session["amount_total"], new.session["currency"]) == (9100, "jpy")
    assert old.session["status"] == "expired"


# -- Stripe does not answer


def server_error(shop: Shop) -> None:
    shop.sandbox.chaos.error_500 = {"next": 9, "only": "POST /v1/checkout/sessions"}


def cut_line(shop: Shop) -> None:
    shop.sandbox.chaos.effect_then_cut = {"next": 9, "only": "POST /v1/checkout/sessions"}


def too_many(shop: Shop) -> None:
    shop.sandbox.chaos.rate_429 = {"next": 9, "only": "POST /v1/checkout/sessions"}


def outage(shop: Shop) -> None:
    shop.sandbox.chaos.outage = "refused"


TROUBLES = [server_error, cut_line, too_many, outage]


@pytest.mark.accept("O9")
@pytest.mark.fault("F4", "F5")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_while_stripe_does_not_answer_nothing_is_charged_and_nothing_is_lost(
    sqlite_shop: Shop, trouble: Callable[[Shop], None]
) -> None:
    shop, shopper = sqlite_shop, sqlite_shop.shopper()
    shopper.put_in_cart(LAMP)
    shopper.put_in_cart(MUG, 2)
    trouble(shop)

    refused = shopper.check_out()

    assert refused.status_code == 502
    assert "Nothing was charged, and your basket is kept" in refused.text
    assert "Desk lamp" in refused.text and "Pay €73.90" in refused.text
    assert 'value="Sonnenallee 12"' in refused.text
    assert sorted(shopper.cart()) == [(LAMP, 1), (MUG, 2)]
    assert shop.product(LAMP).held == 1  # an unknown outcome is not a refusal
    page = shopper.get("/cart").text
    assert "The payment page did not open" in page
    assert "Continue to payment" in page and "Change basket" in page

    shop.sandbox.chaos.clear()
    opened = shopper.opened(shopper.check_out())
    assert len(sessions(shop)) == shop.count(Order) == 1
    assert opened.session["amount_total"] == 7390
    opened.pay()
    shop.deliver_and_work()
    assert shop.the_order().status == "payment_confirmed"
    assert shop.proves()


@pytest.mark.fault("F5")
def test_a_failure_that_stripe_keeps_repeating_is_passed_by_with_another_key(shop: Shop) -> None:
    shop.sandbox.chaos.stored_500 = {"next": 1, "only": "POST /v1/checkout/sessions"}
    checkout = shop.shopper().buy(LAMP)

    assert len(sessions(shop)) == shop.count(Order) == 1
    keys = {call["idempotency_key"] for call in asked(shop, *CREATE)}
    assert keys == {f"{checkout.order_id}:leg1:g1", f"{checkout.order_id}:leg1:g2"}


@pytest.mark.fault("F5")
def test_the_api_says_502_and_keeps_the_basket(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    sqlite_shop.sandbox.chaos.outage = "refused"
    body = a_body(items=[{"sku": MUG, "quantity": 1}])
    answer = shopper.json("POST", "/api/payments/create-checkout-session", body)

    assert answer.status_code == 502
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["code"] == "stripe_unavailable"
    assert "Nothing was charged" in answer.get_json()["detail"]
    assert shopper.cart() == [(MUG, 1)]

    sqlite_shop.sandbox.chaos.clear()
    again = shopper.json("POST", "/api/payments/create-checkout-session", body)
    assert again.status_code == 201
    assert len(sessions(sqlite_shop)) == 1


@pytest.mark.accept("O9")
def test_a_definite_refusal_gives_everything_back(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(LAMP)
    change(LAMP, prices={"eur": 3300}, title="")  # Stripe takes no product without a name

    answer = shopper.check_out()

    assert answer.status_code == 502
    assert "Nothing was charged, and your basket is kept" in answer.text
    assert sqlite_shop.the_order().status == "cancelled"
    assert sqlite_shop.product(LAMP).held == 0
    assert shopper.cart() == [(LAMP, 1)]
    assert sqlite_shop.proves()


def test_changing_the_basket_after_an_open_payment_page_brings_the_lines_back(shop: Shop) -> None:
    shopper = shop.shopper()
    checkout = shopper.buy(LAMP)

    answer = shopper.post("/checkout/release", {"order_id": checkout.order_id})

    assert (answer.status_code, answer.location) == (303, "/cart")
    assert shopper.cart() == [(LAMP, 1)]
    assert checkout.session["status"] == "expired"
    assert shop.product(LAMP).held == 0


def test_continuing_leads_to_the_same_payment_page(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()

    answer = shopper.post("/checkout/again", {"order_id": checkout.order_id})

    assert (answer.status_code, answer.location) == (303, checkout.pay_url)
    assert query(answer.location) == query(checkout.pay_url)


def test_only_stripes_own_address_is_followed(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    with atomic() as session:
        session.execute(update(StripeLeg).values(url="https://evil.example/c/pay/cs_test_1"))

    answer = shopper.post("/checkout/again", {"order_id": checkout.order_id})

    assert answer.status_code == 502
    assert "evil.example" not in answer.headers.get("Location", "") + answer.text


def change(sku: str, **values: Any) -> None:
    """The shop changes a product."""
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == sku).values(**values))
