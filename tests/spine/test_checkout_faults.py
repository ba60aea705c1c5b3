"""Checkout when Stripe, the database or the shopper's own second click gets in the way."""

from __future__ import annotations

import threading
from contextvars import Context

import pytest
from sqlalchemy import select

from extensions import atomic, reading
from models import CartItem, CheckoutAttempt, Order, OrderItem, StripeLeg
from services import cart, checkout, legs, reconcile, stock
from tests.shop import ADDRESS, LAMP, MUG, Shop, Shopper

CREATE = "POST /v1/checkout/sessions"


def _nothing_written(shop: Shop) -> None:
    assert shop.count(Order) == shop.count(OrderItem) == shop.count(CheckoutAttempt) == 0
    assert all(product.held == 0 for product in shop.rows(type(shop.product(MUG))))


@pytest.mark.accept("O9")
@pytest.mark.parametrize(
    "step",
    [
        "services.snapshots.save",
        "services.legs.opening",
        "services.attempts.ensure_order",
        "services.attempts.take_lines",
        "services.stock.hold",
        "services.history.moved",
    ],
)
def test_an_error_of_ours_at_any_step_leaves_nothing_behind(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(MUG, 2)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        assert shopper.check_out().status_code == 500

    _nothing_written(shop)
    assert shopper.cart() == [(MUG, 2)]
    assert shop.sandbox.ledger()["payments"] == []
    shopper.opened(shopper.check_out())


@pytest.mark.accept("O1", "O2", "O3", "O9")
def test_order_lines_and_hold_are_written_together(shop: Shop) -> None:
    bought = shop.shopper().buy(MUG, 3)

    order, lines = shop.the_order(), shop.rows(OrderItem)
    assert (order.id, order.status) == (bought.order_id, "pending_payment")
    assert [(line.sku, line.quantity, line.unit_amount) for line in lines] == [(MUG, 3, 1800)]
    assert (order.subtotal, order.shipping, order.total) == (5400, 490, 5890)
    assert shop.product(MUG).held == 3


@pytest.mark.accept("O9")
def test_a_definite_refusal_gives_stock_and_lines_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(MUG, 2)
    with monkeypatch.context() as patch:
        patch.setattr("gateway.parameters.session", lambda **_: {"mode": "no such mode"})
        answer = shopper.check_out()

    assert answer.status_code == 502
    assert "Nothing was charged" in answer.text
    assert shop.the_order().status == "cancelled"
    assert shop.product(MUG).held == 0
    assert shopper.cart() == [(MUG, 2)]
    assert shop.proves()


@pytest.mark.accept("O9")
@pytest.mark.fault("F4")
@pytest.mark.parametrize("fault", ["effect_then_cut", "error_500", "rate_429", "outage"])
def test_an_unknown_outcome_keeps_the_hold_and_the_next_press_finds_the_same_session(
    sqlite_shop: Shop, fault: str
) -> None:
    shop = sqlite_shop
    shopper = shop.shopper()
    shopper.put_in_cart(LAMP, 2)
    chaos = shop.sandbox.chaos
    setattr(chaos, fault, "503" if fault == "outage" else {"next": 9, "only": CREATE})

    answer = shopper.check_out()
    assert answer.status_code == 502
    assert "Nothing was charged" in answer.text
    assert shop.product(LAMP).free == 0  # still set aside for this shopper
    assert shopper.cart() == [(LAMP, 2)]

    setattr(chaos, fault, "" if fault == "outage" else 0)
    again = shopper.opened(shopper.check_out())
    assert shop.count(Order) == 1
    sessions = shop.sandbox.store.objects["checkout.session"]
    assert list(sessions) == [again.session_id]


@pytest.mark.fault("F5")
def test_a_stored_500_is_searched_before_a_new_key_is_used(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shopper = shop.shopper()
    shopper.put_in_cart()
    shop.sandbox.chaos.stored_500 = {"next": 1, "only": CREATE}

    bought = shopper.opened(shopper.check_out())

    keys = [call["idempotency_key"] for call in shop.sandbox.requests if call["method"] == "POST"]
    assert keys[-1] == f"{bought.order_id}:leg1:g2"
    asked = [(call["method"], call["path"]) for call in shop.sandbox.requests]
    assert asked.index(("GET", "/v1/checkout/sessions")) == len(asked) - 2
    assert len(shop.sandbox.store.objects["checkout.session"]) == 1


@pytest.mark.fault("F4", "F6")
def test_a_key_that_stripe_has_forgotten_is_not_used_before_a_search(sqlite_shop: Shop) -> None:
    """The answer was lost and the leg is older than Stripe keeps keys: one session, no second."""
    shop = sqlite_shop
    bought = shop.shopper().buy()
    with atomic() as session:
        leg = session.scalars(select(StripeLeg)).one()
        leg.stripe_id, leg.url, leg.state = None, None, "creating"
    shop.clock.forward(hours=25)

    with reading() as session:
        leg = session.scalars(select(StripeLeg)).one()
    found = legs.resolve(leg)

    assert found is not None
    assert found.stripe_id == bought.session_id
    assert len(shop.sandbox.store.objects["checkout.session"]) == 1


@pytest.mark.fault("F3")
def test_a_crash_before_stripe_is_called_ends_with_the_stock_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(LAMP, 2)

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("services.legs.resolve", kill)
        with pytest.raises(Killed):
            shopper.check_out()
    assert shop.product(LAMP).free == 0

    shop.clock.forward(minutes=61)
    reconcile.sync()

    assert shop.the_order().status in ("expired", "cancelled")
    assert shop.product(LAMP).free == 2
    assert shopper.cart() == [(LAMP, 2)]
    assert shop.proves()


@pytest.mark.fault("F1")
def test_twenty_presses_at_once_open_one_session(postgres_shop: Shop) -> None:
    shop = postgres_shop
    shopper = shop.shopper()
    shopper.put_in_cart()

    urls = _press_at_once(shopper, 20)

    assert len(set(urls)) == 1
    assert shop.count(Order) == 1
    assert len(shop.sandbox.store.objects["checkout.session"]) == 1
    assert shop.product(MUG).held == 1


def test_twin_without_the_fingerprint_every_press_opens_its_own(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: no press recognises the checkout that is already open."""
    shop = postgres_shop
    numbers = iter(range(1000))
    monkeypatch.setattr(checkout, "_fingerprint", lambda *_: f"press {next(numbers)}")
    shopper = shop.shopper()
    shopper.put_in_cart()

    for _ in range(3):
        shopper.check_out()

    assert len(shop.sandbox.store.objects["checkout.session"]) == 3


def _press_at_once(shopper: Shopper, times: int) -> list[str]:
    token = shopper.token()
    cookie = shopper.browser.get_cookie("shop", domain="shop.test")
    assert cookie is not None
    urls: list[str] = []
    gate = threading.Barrier(times)

    def press() -> None:
        browser = shopper.shop.app.test_client()
        browser.set_cookie("shop", cookie.value, domain="shop.test")
        gate.wait()
        answer = Context().run(
            browser.post,
            "/checkout",
            data={**ADDRESS, "csrf_token": token},
            base_url="http://shop.test",
        )
        urls.append(answer.location)

    threads = [threading.Thread(target=press) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return urls


@pytest.mark.fault("F2")
def test_an_edited_basket_closes_the_old_session_first(shop: Shop) -> None:
    shopper = shop.shopper()
    first = shopper.buy(MUG, 1)

    shopper.put_in_cart(LAMP, 1)
    second = shopper.opened(shopper.check_out())

    assert first.session["status"] == "expired"
    assert second.order_id != first.order_id
    assert {
        (i.sku, i.quantity) for i in shop.rows(OrderItem, OrderItem.order_id == second.order_id)
    } == {
        (MUG, 1),
        (LAMP, 1),
    }
    assert shop.order(first.order_id).status == "cancelled"  # type: ignore[union-attr]
    assert (shop.product(MUG).held, shop.product(LAMP).held) == (1, 1)


@pytest.mark.fault("F2")
def test_an_edited_basket_shows_the_order_that_was_paid_meanwhile(shop: Shop) -> None:
    shopper = shop.shopper()
    first = shopper.buy(MUG, 1)
    first.pay()  # in another tab; no news of it has reached the shop

    shopper.put_in_cart(LAMP, 1)
    answer = shopper.check_out()

    assert answer.status_code == 303
    assert answer.location.endswith(f"/orders/{first.order_id}")
    assert shop.the_order().payment_status == "paid"
    assert shopper.cart() == [(LAMP, 1)]


@pytest.mark.accept("O8")
@pytest.mark.fault("F19")
def test_nobody_pays_for_what_another_shopper_already_took(shop: Shop) -> None:
    early, late = shop.shopper(), shop.shopper()
    late.put_in_cart(LAMP, 1)
    early.buy(LAMP, 2)

    answer = late.check_out()

    assert answer.status_code == 409
    assert "sold out" in answer.text.lower()
    assert shop.count(Order) == 1
    assert late.cart() == [(LAMP, 1)]


def _buyers(shop: Shop, buyers: int) -> list[str | None]:
    """So many shoppers press Pay for one lamp each, at once; who got an order?"""
    ids = [f"00000000-0000-4000-8000-{n:012d}" for n in range(buyers)]
    for shopper_id in ids:
        cart.add(shopper_id, LAMP, 1, "eur")
    won: list[str | None] = []
    gate = threading.Barrier(buyers)

    def press(shopper_id: str) -> None:
        with shop.app.app_context():
            gate.wait()
            try:
                page = checkout.start(
                    shopper_id,
                    checkout.Contact("A", "a@example.com"),
                    checkout.Address("1", "Berlin", "12047", "DE"),
                    "pickup",
                )
                won.append(page.attempt_id)
            except checkout.ShopError:
                won.append(None)

    threads = [threading.Thread(target=press, args=(i,)) for i in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


@pytest.mark.accept("O26")
def test_two_lamps_go_to_two_of_sixteen_buyers(postgres_shop: Shop) -> None:
    won = _buyers(postgres_shop, 16)

    assert sum(order is not None for order in won) == 2
    lamp = postgres_shop.product(LAMP)
    assert (lamp.on_hand, lamp.held) == (2, 2)
    assert postgres_shop.proves()


def test_twin_without_the_condition_everybody_wins(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: stock is looked at first and taken later; the CHECK is all that is left."""
    shop = postgres_shop
    everybody_looked = threading.Barrier(4)

    def look_then_take(lines: list[stock.Line]) -> None:
        from extensions import db
        from models import Product

        for line in lines:
            product = db.session.get(Product, line["product_id"])
            assert product is not None
            if product.free < line["quantity"]:
                raise stock.OutOfStock(line["sku"], line["title"], product.free)
            everybody_looked.wait(timeout=5)
            product.held = product.held + line["quantity"]

    monkeypatch.setattr(stock, "hold", look_then_take)
    won = _buyers(shop, 4)

    held = shop.product(LAMP).held
    assert sum(order is not None for order in won) > held  # more promises than goods


@pytest.mark.accept("O4", "V15")
def test_lines_leave_the_cart_at_once_and_come_back_when_let_go(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(MUG, 2)
    assert shopper.cart() == []

    shopper.put_in_cart(MUG, 1)
    assert shopper.post("/checkout/release", {"order_id": bought.order_id}).status_code == 303

    assert shopper.cart() == [(MUG, 3)]
    assert shop.rows(CartItem)[0].quantity == 3
    assert shop.product(MUG).held == 0
    assert bought.session["status"] == "expired"
    assert shop.the_order().status == "cancelled"


@pytest.mark.accept("X7")
@pytest.mark.fault("F20")
def test_a_shopper_whose_payment_did_not_match_can_buy_something_else(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.buy(MUG).pay("wrong_amount")
    shop.deliver_and_work()
    assert [e.type for e in shop.exceptions()] == ["amount_mismatch"]

    shopper.buy(LAMP).pay()
    shop.deliver_and_work()

    assert sorted(order.payment_status for order in shop.rows(Order)) == ["paid", "pending"]
    assert shop.product(MUG).held == 1  # until a person has decided
    assert shop.proves()


@pytest.mark.fault("F2")
def test_pressing_pay_again_after_an_unseen_payment_shows_the_order(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy()
    bought.pay()

    answer = shopper.check_out()

    assert answer.location == f"/orders/{bought.order_id}"
    assert shop.the_order().payment_status == "paid"
