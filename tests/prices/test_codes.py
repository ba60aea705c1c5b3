"""Discount codes: typed here, kept and counted by Stripe, the total checked to the cent (X19)."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from typing import Any

import pytest

from domain.codes import Code
from domain.transitions import PaymentStatus, Status
from gateway import StripeGateway
from models import CheckoutAttempt, OrderItem
from services import check, checkout, refunds
from tests.prices.conftest import MakeCode, maker, stripe_of
from tests.shop import ADDRESS, COFFEE, LAMP, MUG, Shop, TestShops


@pytest.mark.accept("X19")
def test_an_order_with_a_code_from_basket_to_receipt_and_back(shop: Shop, a_code: MakeCode) -> None:
    code = a_code("SPRING-10")
    maya = shop.shopper()
    maya.put_in_cart(MUG, 2)
    maya.put_in_cart(LAMP, 1)

    checkout = maya.opened(maya.check_out(code="spring-10"))

    order = shop.the_order()
    sums = (order.subtotal, order.discount, order.shipping, order.tax, order.total)
    assert sums == (6900, 690, 490, 0, 6900 - 690 + 490)
    assert order.code == "SPRING-10"
    items = shop.rows(OrderItem)
    assert [(item.sku, item.discount, item.paid) for item in items] == [
        (MUG, 360, 3240),
        (LAMP, 330, 2970),
    ]
    assert checkout.session["amount_total"] == order.total

    checkout.pay()
    shop.deliver_and_work()

    paid = shop.the_order()
    assert (paid.status, paid.payment_status) == (Status.PAYMENT_CONFIRMED, PaymentStatus.PAID)
    assert stripe_of(shop).promotion_codes.retrieve(code.id).times_redeemed == 1
    page = maya.come_back(checkout).text
    assert "Discount, SPRING-10" in page
    assert "€6.90" in page
    answer = maya.json("GET", f"/api/orders/{order.id}").get_json()
    assert (answer["discount"], answer["discountCode"]) == (690, "SPRING-10")
    assert [item["discount"] for item in answer["items"]] == [360, 330]
    assert shop.receipts()[0].state == "done"

    refunds.ask(order.id, None, {}, reason="Goodwill", actor="boss", key="k" * 12)
    shop.work()
    shop.deliver_and_work()
    assert shop.the_order().refunded == order.total
    assert shop.proves()


# -- codes that cannot be used

IN_A_MINUTE = 60


def refusals(a_code: MakeCode, shop: Shop) -> dict[str, str]:
    """What is typed, and what is said of it; a basket of one mug, €18.00."""
    now = int(shop.clock.seconds())
    a_code("OLD", expires_at=now + IN_A_MINUTE)
    a_code("DOLLARS", coupon={"amount_off": 500, "currency": "usd"})
    a_code("BIG", restrictions={"minimum_amount": 5000, "minimum_amount_currency": "eur"})
    a_code("BIG-US", restrictions={"minimum_amount": 10, "minimum_amount_currency": "usd"})
    a_code("OFF", active=False)
    a_code("LATE", coupon={"percent_off": 5, "redeem_by": now + IN_A_MINUTE})
    somebody = stripe_of(shop).customers.create({"name": "Somebody else"})
    a_code("HERS", customer=somebody.id)
    lamp = stripe_of(shop).products.create({"name": "Lamp"})
    a_code("LAMPS", coupon={"percent_off": 5, "applies_to": {"products": [lamp.id]}})
    used = a_code("USED", max_redemptions=1)
    session = shop.shopper().buy(code="USED")
    session.pay()
    assert stripe_of(shop).promotion_codes.retrieve(used.id).active is False
    shop.deliver_and_work()
    shop.clock.forward(minutes=2)
    return {
        "NOTHING": "There is no code “NOTHING”",
        "OLD": "has expired",
        "LATE": "has expired",
        "USED": "has been used up",
        "OFF": "is no longer valid",
        "DOLLARS": "is for USD, and this basket is in EUR",
        "BIG": "is for orders of €50.00 or more",
        "BIG-US": "is for USD",
        "HERS": "was made for one customer",
        "LAMPS": "is for goods that are not in this basket",
        "ÜBER": "There is no code “ÜBER”",
        "DROP TABLE": "There is no code “DROP TABLE”",
        "x" * 10_000: "There is no code “xxxxxxxxxxxxxxxxxxxx…”",
    }


@pytest.mark.accept("X19")
def test_a_code_that_cannot_be_used_is_refused_with_the_reason(shop: Shop) -> None:
    said = refusals(maker(shop), shop)
    held = shop.product(MUG).held

    maya = shop.shopper()
    maya.put_in_cart(MUG)
    for code, reason in said.items():
        for address in ("/checkout/code", "/checkout"):
            page = maya.post(address, {**ADDRESS, "code": code, "line1": "Kept Street 7"})
            assert page.status_code == 422, code
            assert reason in unescape(page.text), code
            assert "Kept Street 7" in page.text
            assert 'aria-invalid="true"' in page.text
    answer = maya.json("POST", "/api/payments/create-checkout-session", body_with(code="USED"))
    assert (answer.status_code, answer.get_json()["code"]) == (422, "discount_code_refused")
    assert (
        maya.json("POST", "/api/payments/create-checkout-session", body_with(code=7)).status_code
        == 422
    )

    assert shop.product(MUG).held == held
    assert maya.cart() == [(MUG, 1)]
    assert len(shop.rows(CheckoutAttempt)) == 1  # the one that used the code up


@pytest.mark.parametrize("typed", ["", "   ", "\t"])
def test_a_blank_code_is_none(sqlite_shop: Shop, typed: str) -> None:
    order = sqlite_shop.order(sqlite_shop.shopper().buy(code=typed).order_id)

    assert order is not None
    assert (order.discount, order.code) == (0, None)


def test_applying_shows_what_it_takes_off_and_keeps_what_was_typed(sqlite_shop: Shop) -> None:
    maker(sqlite_shop)("TAKE-5", coupon={"amount_off": 500, "currency": "eur"})
    maya = sqlite_shop.shopper()
    maya.put_in_cart(MUG)

    page = maya.post("/checkout/code", {"code": " take-5 ", "name": "Maya", "email": "not yet"})

    assert page.status_code == 200
    text = unescape(re.sub(r"<[^>]+>", "", page.text))
    assert "TAKE-5 takes €5.00 off." in text
    assert "Pay €17.90" in text  # 18.00 − 5.00 + 4.90
    assert 'value="Maya"' in page.text
    assert 'value="not yet"' in page.text
    assert sqlite_shop.rows(CheckoutAttempt) == []
    summary = maya.post("/checkout/quote", {"code": "TAKE-5", "delivery": "express"}).text
    assert "€25.90" in unescape(summary)


def test_a_code_for_a_first_order_is_for_no_second(sqlite_shop: Shop) -> None:
    maker(sqlite_shop)("HELLO", restrictions={"first_time_transaction": True})
    maya = sqlite_shop.shopper()
    maya.buy(code="HELLO").pay()
    sqlite_shop.deliver_and_work()

    maya.put_in_cart(MUG)
    again = maya.check_out(code="HELLO", email="MAYA@example.com")

    assert again.status_code == 422
    assert "is for a first order" in unescape(again.text)


def test_a_code_goes_with_no_subscription(sqlite_shop: Shop) -> None:
    maker(sqlite_shop)()
    maya = sqlite_shop.shopper()
    maya.put_in_cart(COFFEE)

    refused = maya.check_out(code="SPRING")

    assert refused.status_code == 422
    assert "while a subscription is in the basket" in refused.text
    assert "Discount code" not in maya.get("/checkout").text


@pytest.mark.accept("X1", "X19")
def test_a_code_that_takes_everything_off_leaves_nothing_to_pay(shop: Shop) -> None:
    maker(shop)("FREE", coupon={"percent_off": 100})
    bought = shop.shopper().buy(code="FREE", delivery="pickup")

    bought.pay()
    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.total, order.discount, order.payment_status) == (0, 1800, "paid")
    assert shop.payments() == []
    assert shop.proves()


def test_more_off_than_it_costs_takes_off_what_it_costs(sqlite_shop: Shop) -> None:
    maker(sqlite_shop)("HUGE", coupon={"amount_off": 99_000, "currency": "eur"})

    order = sqlite_shop.order(sqlite_shop.shopper().buy(code="HUGE").order_id)

    assert order is not None
    assert (order.discount, order.total) == (1800, 490)


def test_too_little_left_for_stripe_gives_goods_and_basket_back(sqlite_shop: Shop) -> None:
    """Stripe takes no payment of one cent; nobody is left with half an order."""
    maker(sqlite_shop)("ALMOST", coupon={"amount_off": 1799, "currency": "eur"})
    maya = sqlite_shop.shopper()
    maya.put_in_cart(MUG)

    refused = maya.check_out(code="ALMOST", delivery="pickup")

    assert refused.status_code == 422
    assert "does not take the code ALMOST for this order" in refused.text
    assert (sqlite_shop.product(MUG).held, maya.cart()) == (0, [(MUG, 1)])


# -- between basket and payment


@pytest.mark.accept("X19")
def test_a_code_revoked_at_the_last_moment_opens_no_page(shop: Shop) -> None:
    """Between our question and the session Stripe says no: goods free, basket and text kept."""
    code = maker(shop)()
    maya = shop.shopper()
    maya.put_in_cart(MUG, 2)
    find = StripeGateway.find_code

    def found_and_revoked(gateway: StripeGateway, text: str) -> Code | None:
        known = find(gateway, text)
        stripe_of(shop).promotion_codes.update(code.id, {"active": False})
        return known

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StripeGateway, "find_code", found_and_revoked)
        refused = maya.check_out(code="SPRING", line1="Kept Street 7")

    assert refused.status_code == 422
    assert "does not take the code SPRING for this order" in unescape(refused.text)
    assert "Kept Street 7" in refused.text
    assert maya.cart() == [(MUG, 2)]
    assert shop.product(MUG).held == 0
    assert shop.the_order().status == Status.CANCELLED
    assert maya.check_out().status_code == 303  # without it the order goes through
    assert shop.proves()


@pytest.mark.accept("X19")
def test_a_bill_that_is_not_ours_is_never_shown(shop: Shop) -> None:
    """Stripe takes off one cent more than we do: no page, no goods held, and a person is told."""
    maker(shop)()
    maya = shop.shopper()
    maya.put_in_cart(MUG, 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sandbox.discounts.amount_off", lambda *_: 361)
        refused = maya.check_out(code="SPRING")

    assert refused.status_code == 502
    assert "adds this order up differently" in refused.text
    (problem,) = shop.exceptions()
    assert problem.type == "bill_differs"
    assert "discount: 360 here, 361 there" in problem.detail
    (session,) = shop.sandbox.store.objects["checkout.session"].values()
    assert session["status"] == "expired"
    assert (shop.product(MUG).held, maya.cart()) == (0, [(MUG, 2)])
    assert all(leg.url is None for leg in shop.legs(shop.the_order().id))
    shop.deliver_and_work()
    assert shop.proves()


def test_a_bill_that_is_not_ours_stays_hidden_from_whoever_asks_again(shop: Shop) -> None:
    """The process died between Stripe's answer and the refusal; the reconciler found the page."""
    maker(shop)()
    maya = shop.shopper()
    maya.put_in_cart(MUG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sandbox.discounts.amount_off", lambda *_: 1)
        patch.setattr(checkout, "_is_withheld", lambda door: False)
        assert maya.check_out(code="SPRING").status_code == 409

    assert maya.check_out(code="SPRING").status_code == 502
    assert maya.check_out(code="SPRING").status_code == 303


@pytest.mark.accept("X19")
def test_parts_that_differ_in_a_paid_bill_call_a_person(shop: Shop) -> None:
    maker(shop)()
    bought = shop.shopper().buy(code="SPRING")
    bought.session["total_details"]["amount_discount"] += 10  # the total is what it was

    bought.pay()
    shop.deliver_and_work()

    assert shop.the_order().payment_status == "paid"
    assert [problem.type for problem in shop.exceptions()] == ["bill_differs"]
    assert [one.invariant for one in check.run().violations] == ["bills"]


@pytest.mark.accept("X7", "X19")
def test_a_total_that_was_changed_at_stripe_is_not_paid(shop: Shop) -> None:
    maker(shop)()
    bought = shop.shopper().buy(code="SPRING")

    bought.pay("wrong_amount")
    shop.deliver_and_work()

    assert shop.the_order().payment_status != "paid"
    assert [problem.type for problem in shop.exceptions()] == ["amount_mismatch"]
    assert shop.proves(), "what a person was called for is no new finding"


def test_the_same_code_twice_at_once_is_one_order(postgres_shop: Shop) -> None:
    maker(postgres_shop)()
    maya = postgres_shop.shopper()
    maya.put_in_cart(MUG)
    maya.token()

    with ThreadPoolExecutor(2) as both:
        pressed = [both.submit(maya.check_out, code=typed) for typed in ("SPRING", "spring")]
        codes = sorted(answer.result().status_code for answer in pressed)

    assert codes[0] == 303
    assert len(postgres_shop.rows(CheckoutAttempt)) == 1
    assert postgres_shop.the_order().discount == 180


def test_another_code_is_another_checkout_and_the_old_page_is_closed(shop: Shop) -> None:
    maker(shop)()
    maker(shop)("TAKE-5", coupon={"amount_off": 500, "currency": "eur"})
    maya = shop.shopper()
    first = maya.buy(code="SPRING")

    second = maya.opened(maya.check_out(code="TAKE-5"))

    assert first.session["status"] == "expired"
    assert shop.attempt(second.order_id).discount == 500
    assert [line["discount"] for line in shop.attempt(second.order_id).lines] == [500]
    third = maya.opened(maya.check_out())
    assert shop.attempt(third.order_id).discount == 0
    assert shop.attempt(third.order_id).code is None
    assert shop.product(MUG).held == 1


def test_a_retry_has_the_same_discount(shop: Shop) -> None:
    maker(shop)()
    maya = shop.shopper()
    bought = maya.buy(code="SPRING")
    shop.clock.forward(minutes=61)
    shop.sandbox.tick()
    shop.deliver_and_work()

    again = maya.json("POST", f"/api/orders/{bought.order_id}/retry-session").get_json()
    shop.pay(again["sessionId"])
    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.discount, order.payment_status) == (180, "paid")
    assert shop.proves()


def test_a_shop_with_a_page_of_its_own_sends_codes_to_stripes(sqlite_shops: TestShops) -> None:
    with sqlite_shops.opened(payment_ui="elements") as shop:
        maker(shop)()
        bought = shop.shopper().buy(code="SPRING")
        assert shop.attempt(bought.order_id).payment_ui == "hosted"
        body = body_with(code="SPRING")
        answer = bought.shopper.json("POST", "/api/stripe/initiate-checkout", body)
        assert answer.status_code == 201
        assert "url" in answer.get_json()
        assert bought.session["total_details"]["amount_discount"] == 180


def body_with(**more: Any) -> dict[str, Any]:
    names = {"postal_code": "postalCode"}
    parts = ("line1", "city", "postal_code", "country")
    return {
        "contact": {"name": ADDRESS["name"], "email": ADDRESS["email"]},
        "shipping": {names.get(part, part): ADDRESS[part] for part in parts},
        **more,
    }
