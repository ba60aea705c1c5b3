"""When an order comes to be, and when its lines leave the cart."""

from __future__ import annotations

import pytest

from domain.strategies import Moment, Strategy
from models import Order
from services import checkout, reconcile, settings
from tests.shop import LAMP, MUG, Shop, TestShops
from tests.strategies.conftest import born_by, has_order


@pytest.mark.accept("P1", "P2", "P10", "O1", "O3", "O4", "D1")
def test_pressing_pay_holds_the_stock_and_begins_what_the_strategy_says(
    shop: Shop, strategy: Strategy
) -> None:
    shopper = shop.shopper()

    bought = shopper.buy(LAMP, 2)

    at_once = born_by(strategy, Moment.START)
    assert has_order(shop, bought) == at_once
    assert shopper.cart() == ([] if at_once else [(LAMP, 2)])
    assert shop.product(LAMP).free == 0
    attempt = shop.attempt(bought.order_id)
    assert (attempt.strategy_name, attempt.state, attempt.hold) == (strategy.name, "open", "held")
    assert attempt.snapshot["contact"]["email"] == "maya@example.com"


@pytest.mark.accept("D1", "D4", "P12", "O19")
def test_coming_back_unpaid_begins_what_the_strategy_says(shop: Shop, strategy: Strategy) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(MUG, 2)

    page = shopper.come_back(bought)

    returned = born_by(strategy, Moment.RETURN)
    assert has_order(shop, bought) == returned
    assert shopper.cart() == ([] if returned else [(MUG, 2)])
    for words in ("Confirming your payment", "Enamel mug", "€40.90"):
        assert words in page.text
    assert ("<h2>Order " in page.text) == returned, "a number is shown once there is one"


@pytest.mark.accept("P13", "P25", "D12", "D13", "O13", "A28")
def test_paying_ends_in_one_order_equal_to_what_was_submitted(
    shop: Shop, strategy: Strategy
) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(LAMP, 1)
    bought = shopper.buy(MUG, 2, phone="+49 30 1234567")
    bought.pay()

    shop.deliver_and_work()

    order = shop.the_order()
    assert order.id == bought.order_id
    assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
    assert (order.name, order.email, order.phone) == (
        "Maya Lindqvist",
        "maya@example.com",
        "+49 30 1234567",
    )
    assert order.address == {
        "line1": "Sonnenallee 12",
        "line2": None,
        "city": "Berlin",
        "postal_code": "12047",
        "state": None,
        "country": "DE",
    }
    assert sorted((i.sku, i.quantity, i.unit_amount) for i in order.items) == [
        (LAMP, 1, 3300),
        (MUG, 2, 1800),
    ]
    assert (order.subtotal, order.shipping, order.total) == (6900, 490, 7390)
    assert not order.is_provisional
    assert shopper.cart() == []
    assert shop.proves()


@pytest.mark.accept("D1", "D2", "D3", "D4")
@pytest.mark.fault("F8")
def test_a_provisional_order_is_shown_whole_while_nobody_answers(dual_track: Shop) -> None:
    """No webhook comes, and Stripe does not answer: the order is there all the same."""
    shop = dual_track
    shop.sandbox.chaos.drop_pct = 100
    shopper = shop.shopper()
    bought = shopper.buy(MUG, 2)
    bought.pay()
    shop.sandbox.chaos.outage = "503"

    page = shopper.come_back(bought)

    order = shop.the_order()
    assert (order.status, order.payment_status) == ("pending_payment", "pending")
    assert (order.is_provisional, order.provisional_created_at) == (True, shop.clock.now())
    assert (order.sync_status, order.sync_attempts, order.last_sync_attempt) == ("syncing", 0, None)
    assert (order.email, [(i.sku, i.quantity) for i in order.items]) == (
        "maya@example.com",
        [(MUG, 2)],
    )
    number = f"NL-{order.number}"
    for words in (number, "Enamel mug", "€40.90", "Sonnenallee 12", "don’t pay again"):
        assert words in page.text
    said = shopper.json("GET", f"/api/orders/{bought.order_id}").get_json()
    assert (said["isProvisional"], said["syncStatus"]) == (True, "syncing")


@pytest.mark.accept("D3", "D18")
def test_a_provisional_order_knows_its_payment_as_soon_as_stripe_names_it(dual_track: Shop) -> None:
    shopper = dual_track.shopper()
    bought = shopper.buy()
    intent = bought.pay("bank_debit")["session"]["payment_intent"]

    shopper.come_back(bought)

    order = dual_track.the_order()
    assert (order.is_provisional, order.payment_status) == (True, "processing")
    assert order.payment_intent == intent
    assert shopper.json("GET", f"/api/orders/{intent}").get_json()["id"] == order.id


@pytest.mark.accept("D12")
@pytest.mark.parametrize("news", ["webhook", "sync"])
def test_a_provisional_order_is_confirmed_by_whatever_news_comes(
    dual_track: Shop, news: str
) -> None:
    shop = dual_track
    shopper = shop.shopper()
    bought = shopper.buy()
    bought.pay()
    shop.sandbox.chaos.outage = "503"
    shopper.come_back(bought)
    updated_at = shop.the_order().updated_at
    shop.sandbox.chaos.clear()
    shop.clock.forward(seconds=200)

    if news == "webhook":
        shop.deliver_and_work()
    else:
        reconcile.sync()

    order = shop.the_order()
    assert (order.status, order.is_provisional, order.sync_status) == (
        "payment_confirmed",
        False,
        "synced",
    )
    assert order.updated_at > updated_at
    assert order.paid_lane == news
    assert shop.proves()


@pytest.mark.accept("D1", "P11")
def test_a_strangers_return_gives_birth_to_nothing(dual_track: Shop) -> None:
    bought = dual_track.shopper().buy()

    page = dual_track.shopper().come_back(bought)

    assert page.status_code == 200
    assert "Maya" not in page.text
    assert dual_track.count(Order) == 0


@pytest.mark.fault("F36")
def test_a_provisional_order_that_is_never_paid_ends_with_its_attempt(dual_track: Shop) -> None:
    shop = dual_track
    shopper = shop.shopper()
    bought = shopper.buy(LAMP, 2)
    shopper.come_back(bought)
    assert shopper.cart() == []
    shop.clock.forward(minutes=3)
    reconcile.sync()
    assert "Confirming your payment" in shopper.get(f"/orders/{bought.order_id}").text

    shop.clock.forward(minutes=61)
    reconcile.sync()

    order = shop.the_order()
    assert (order.status, order.payment_status, order.is_provisional) == (
        "expired",
        "cancelled",
        False,
    )
    assert order.sync_attempts == 1
    assert shop.product(LAMP).free == 2
    assert shopper.cart() == [(LAMP, 2)]
    assert "expired" in shopper.get(f"/orders/{order.id}").text
    assert shop.proves()


@pytest.mark.accept("O22", "O29", "D36")
@pytest.mark.fault("F37")
def test_switching_the_strategy_leaves_running_checkouts_as_they_are(shops: TestShops) -> None:
    """One database, no schema change: forward and back again with a checkout of each under way."""
    with shops.opened() as shop:
        first = shop.shopper().buy()
        settings.change("ada", "try it", order_strategy="pay_first")
        second = shop.shopper().buy()
        settings.change("ada", "and the third", order_strategy="dual_track")
        third = shop.shopper().buy()
        settings.change("ada", "back again", order_strategy="order_first")
        began = (first, second, third)

        assert [has_order(shop, bought) for bought in began] == [True, False, False]
        for bought in began:
            bought.shopper.come_back(bought)
        assert [has_order(shop, bought) for bought in began] == [True, False, True]
        for bought in began:
            bought.pay()
        shop.deliver_and_work()

        assert {order.payment_status for order in shop.rows(Order)} == {"paid"}
        assert [shop.attempt(bought.order_id).strategy_name for bought in began] == [
            "order_first",
            "pay_first",
            "dual_track",
        ]
        for path in ("/order-success/{}", "/orders/{}"):  # addresses of every strategy answer
            for bought in began:
                page = bought.shopper.get(path.format(bought.order_id))
                assert "Thank you, Maya" in page.text
        assert shop.proves()


@pytest.mark.accept("O31", "D36")
@pytest.mark.parametrize(("percent", "born"), [(0, 10), (100, 0)])
def test_a_rollout_moves_all_of_its_shoppers_or_none(
    sqlite_shops: TestShops, percent: int, born: int
) -> None:
    with sqlite_shops.opened(strategy_rollout=("pay_first", percent)) as shop:
        for n in range(10):
            shop.shopper().buy(email=f"shopper{n}@example.com")

        assert shop.count(Order) == born


@pytest.mark.accept("P5", "D1")
def test_the_moments_are_safe_to_reach_again(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(MUG, 2)
    for _ in range(3):
        shopper.come_back(bought)
    bought.pay()
    for _ in range(3):
        shopper.come_back(bought)
    checkout.welcome_back(bought.order_id, shop.attempt(bought.order_id).shopper_id)

    assert shop.count(Order) == 1
    assert len(shop.receipts()) == 1
    assert shopper.cart() == []


@pytest.mark.accept("P1")
def test_lines_that_stay_in_the_cart_count_once_against_the_shelf(pay_first: Shop) -> None:
    """Both lamps are held for this shopper's own payment page: to them they are not sold out."""
    shopper = pay_first.shopper()
    bought = shopper.buy(LAMP, 2)

    page = shopper.get("/cart")
    assert "Sold out" not in page.text
    assert "A payment is waiting for you" in page.text
    again = shopper.opened(shopper.check_out())
    assert again.session_id == bought.session_id

    shopper.post("/cart/lines", {"sku": LAMP, "quantity": 1})
    other = shopper.opened(shopper.check_out())
    assert bought.session["status"] == "expired"
    assert (other.order_id != bought.order_id, pay_first.product(LAMP).free) == (True, 1)
    items = {"items": [{"sku": LAMP, "quantity": 2}]}
    assert shopper.json("PUT", "/api/cart", items).status_code == 200
    assert pay_first.product(LAMP).free == 2  # the API's other items closed the open attempt
    assert pay_first.proves()


@pytest.mark.accept("P10", "X2")
@pytest.mark.fault("F24")
def test_lines_of_a_payment_under_way_are_not_bought_twice(pay_first: Shop) -> None:
    """A bank debit takes days. No order yet, but its lines are out: the cart is free for more."""
    shop = pay_first
    shopper = shop.shopper()
    bought = shopper.buy(LAMP, 2)
    bought.pay("bank_debit")
    page = shopper.come_back(bought)
    assert "Your bank is taking its time" in page.text
    assert (shop.count(Order), shopper.cart()) == (0, [])

    other = shopper.buy(MUG)
    other.pay()
    shop.clock.forward(days=3)
    shop.deliver_and_work()

    assert sorted(o.id for o in shop.rows(Order)) == sorted([bought.order_id, other.order_id])
    assert (shop.product(LAMP).sold, shop.product(MUG).sold) == (2, 1)
    assert shop.proves()
