"""Trying again: a new page for the same order, and the old one can no longer be paid."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import stripe
from sqlalchemy import select

from domain.errors import ShopError
from domain.facts import LegEnded, LegState, Origin
from domain.strategies import Moment, Strategy
from extensions import atomic, reading
from gateway import current_gateway
from models import CheckoutAttempt, Order, Product, StripeLeg
from services import checkout, reconcile, settle
from services.causes import EXPIRY, SHOPPER
from services.desk import Desk
from tests.shop import LAMP, MUG, ORIGIN, Checkout, Shop, TestShops
from tests.strategies.conftest import born_by


def _retry(bought: Checkout) -> Any:
    return bought.shopper.json("POST", f"/api/orders/{bought.order_id}/retry-session")


def _again(bought: Checkout) -> Checkout:
    answer = _retry(bought)
    assert answer.status_code == 201, answer.text
    said = answer.get_json()
    return Checkout(bought.shopper, bought.order_id, said["sessionId"], said["url"])


@pytest.mark.accept("V24", "V25", "V28")
def test_a_retry_opens_a_new_session_for_the_same_items_and_closes_the_old(
    shop: Shop, strategy: Strategy
) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart(MUG, 2)
    first = shopper.buy(LAMP, 1)
    first.pay("4000000000000002")
    shop.deliver_and_work()
    shop.clock.forward(minutes=20)

    answer = _retry(first)

    assert answer.status_code == 201
    said = answer.get_json()
    assert set(said) == {"sessionId", "previousSessionId", "url"}
    assert said["previousSessionId"] == first.session_id != said["sessionId"]
    sessions = shop.sandbox.store.objects["checkout.session"]
    old, new = first.session, sessions[said["sessionId"]]
    for name in ("metadata", "client_reference_id", "amount_total", "currency", "customer_email"):
        assert new[name] == old[name]
    assert (old["status"], new["status"], new["url"]) == ("expired", "open", said["url"])
    assert new["expires_at"] == int(shop.clock.seconds()) + 3600  # a deadline of its own
    assert shop.pay(first.session_id)["outcome"] == "closed"

    shown = shopper.json("GET", f"/api/orders/{first.order_id}").get_json()
    assert (shown["sessionId"], shown["previousSessionId"]) == (said["sessionId"], first.session_id)
    assert (shown["status"], shown["paymentStatus"]) == ("pending_payment", "pending")
    assert "failureReason" not in shown
    notes = [row.detail for row in shop.history(first.order_id) if row.kind == "note"]
    assert notes == [f"tried again, in place of {first.session_id}"]
    assert (shop.product(LAMP).held, shop.product(MUG).held) == (1, 2)

    shop.pay(said["sessionId"])
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"
    assert shop.proves()


@pytest.mark.accept("V24", "V25", "P5")
@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_an_ended_checkout_is_taken_up_again_within_a_day(
    shop: Shop, strategy: Strategy, end: str
) -> None:
    shopper = shop.shopper()
    first = shopper.buy(LAMP, 2)
    if end == "expired":
        shop.clock.forward(minutes=61)
        reconcile.sync()
    else:
        shopper.post("/checkout/release", {"order_id": first.order_id})
    assert (shop.attempt(first.order_id).status, shop.product(LAMP).free) == (end, 2)
    shop.clock.forward(hours=22)
    reconcile.sync()

    second = _again(first)

    attempt = shop.attempt(first.order_id)
    assert (attempt.state, attempt.status, attempt.hold) == ("open", "pending_payment", "held")
    assert shop.product(LAMP).free == 0
    assert shopper.cart() == ([] if born_by(strategy, Moment.START) else [(LAMP, 2)])
    moves = [
        (row.from_status, row.to_status, row.detail)
        for row in shop.history(first.order_id)
        if row.kind == "transition"
    ]
    assert moves[-1] == (end, "pending_payment", "retried")
    second.pay()
    shop.deliver_and_work()
    assert (shop.the_order().payment_status, shopper.cart()) == ("paid", [])
    assert shop.product(LAMP).sold == 2
    assert shop.proves()


@pytest.mark.accept("V24")
def test_a_day_after_its_end_a_checkout_is_over(shop: Shop) -> None:
    first = shop.shopper().buy()
    shop.clock.forward(minutes=61)
    reconcile.sync()
    shop.clock.forward(hours=24, minutes=1)
    reconcile.sync()

    answer = _retry(first)

    assert (answer.status_code, answer.get_json()["code"]) == (409, "conflict")
    assert len(shop.sandbox.store.objects["checkout.session"]) == 1
    assert first.shopper.cart() == [(MUG, 1)]


@pytest.mark.accept("V26")
@pytest.mark.parametrize("how", ["unseen", "seen", "refunded", "shipped"])
def test_a_paid_order_is_not_paid_again(shop: Shop, how: str) -> None:
    bought = shop.shopper().buy()
    intent = bought.pay()["session"]["payment_intent"]
    if how != "unseen":
        shop.deliver_and_work()
    if how == "refunded":
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})
        client.v1.refunds.create({"payment_intent": intent})
        shop.deliver_and_work()
    if how == "shipped":
        with atomic() as session:
            order = session.scalars(select(Order)).one()
            order.status = "shipped"
            session.get_one(CheckoutAttempt, order.id).status = "shipped"

    answer = _retry(bought)

    assert (answer.status_code, answer.get_json()["code"]) == (409, "conflict")
    assert answer.content_type == "application/problem+json"
    assert len(shop.sandbox.store.objects["checkout.session"]) == 1
    assert shop.the_order().payment_status == ("refunded" if how == "refunded" else "paid")
    page = bought.shopper.post(f"/orders/{bought.order_id}/retries")
    assert page.location == f"/orders/{bought.order_id}"


@pytest.mark.accept("V26")
def test_trying_to_pay_a_paid_order_again_leaves_other_checkouts_alone(shop: Shop) -> None:
    shopper = shop.shopper()
    paid = shopper.buy(LAMP)
    paid.pay()
    shop.deliver_and_work()
    other = shopper.buy(MUG)

    assert _retry(paid).status_code == 409

    assert (other.session["status"], shop.attempt(other.order_id).state) == ("open", "open")


@pytest.mark.accept("V26", "X2")
def test_a_payment_under_way_is_not_replaced(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay("bank_debit")

    assert _retry(bought).status_code == 409

    shop.clock.forward(days=3)
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"


@pytest.mark.accept("V24")
def test_what_another_shopper_has_taken_is_said_and_nothing_is_changed(shop: Shop) -> None:
    shopper = shop.shopper()
    first = shopper.buy(LAMP, 2)
    shopper.post("/checkout/release", {"order_id": first.order_id})
    shop.shopper().buy(LAMP, 1)

    answer = _retry(first)
    page = shopper.post(f"/orders/{first.order_id}/retries")

    assert (answer.status_code, answer.get_json()["code"]) == (409, "out_of_stock")
    assert page.status_code == 409
    assert "Only 1 of Desk lamp left" in page.text
    assert "See my basket" in page.text
    assert (shop.attempt(first.order_id).status, shopper.cart()) == ("cancelled", [(LAMP, 2)])
    assert shop.product(LAMP).held == 1
    assert shop.proves()


@pytest.mark.accept("V24")
def test_lines_that_are_no_longer_in_the_basket_are_named(shop: Shop) -> None:
    shopper = shop.shopper()
    first = shopper.buy(MUG, 2)
    shopper.post("/checkout/release", {"order_id": first.order_id})
    shopper.post("/cart/lines", {"sku": MUG, "quantity": 1})

    answer = _retry(first)

    assert answer.status_code == 409
    assert "Enamel mug: no longer in your basket as it was then" in answer.get_json()["detail"]
    assert (shopper.cart(), shop.product(MUG).held) == ([(MUG, 1)], 0)
    assert shop.proves()


def test_a_product_that_was_withdrawn_is_not_sold_by_a_retry(shop: Shop) -> None:
    shopper = shop.shopper()
    first = shopper.buy(MUG)
    shopper.post("/checkout/release", {"order_id": first.order_id})
    with atomic() as session:
        session.scalars(select(Product).where(Product.sku == MUG)).one().active = False

    assert _retry(first).get_json()["code"] == "product_unavailable"
    assert shop.product(MUG).held == 0


def test_a_retry_ends_another_checkout_of_the_same_basket_first(shop: Shop) -> None:
    shopper = shop.shopper()
    first = shopper.buy(MUG, 2)
    shopper.post("/checkout/release", {"order_id": first.order_id})
    second = shopper.opened(shopper.check_out(line1="Another street 1"))

    third = _again(first)

    assert second.session["status"] == "expired"
    assert shop.attempt(second.order_id).state == "closed"
    assert (shop.product(MUG).held, third.session["status"]) == (2, "open")
    assert shop.proves()


@pytest.mark.accept("V19", "V24")
@pytest.mark.fault("F25")
def test_somebody_elses_order_is_not_there_to_be_retried(shop: Shop) -> None:
    bought = shop.shopper().buy()
    stranger = shop.shopper()

    for order_id in (bought.order_id, "nope", "0" * 4000, bought.session_id):
        answer = stranger.json("POST", f"/api/orders/{order_id}/retry-session")
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    bare = shop.app.test_client().post(
        f"/api/orders/{bought.order_id}/retry-session", base_url=ORIGIN
    )
    assert bare.status_code == 400  # no token of the page
    assert bought.session["status"] == "open"


@pytest.mark.fault("F4", "F5")
@pytest.mark.parametrize("step", ["expire", "create"])
def test_a_retry_that_stripe_does_not_answer_can_be_made_again(shop: Shop, step: str) -> None:
    first = shop.shopper().buy(LAMP, 2)
    path = "/v1/checkout/sessions/*/expire" if step == "expire" else "/v1/checkout/sessions"
    shop.sandbox.chaos.effect_then_cut = {"next": 9, "only": f"POST {path}"}

    answer = _retry(first)
    assert (answer.status_code, answer.get_json()["code"]) == (502, "stripe_unavailable")
    assert shop.product(LAMP).free == 0  # unknown is no refusal: the hold stays

    shop.sandbox.chaos.clear()
    second = _again(first)
    sessions = shop.sandbox.store.objects["checkout.session"].values()
    assert [s["status"] for s in sessions].count("open") == 1
    second.pay()
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"
    assert shop.proves()


@pytest.mark.fault("F16")
def test_an_expiry_that_was_decided_before_a_retry_spares_the_new_page(shop: Shop) -> None:
    """The clock chose this order because its time was up; then its shopper tried again."""
    first = shop.shopper().buy()
    shop.clock.forward(minutes=61)
    second = _again(first)

    settle.settle(first.order_id, EXPIRY, look=True, end=True)

    assert second.session["status"] == "open"
    assert shop.attempt(first.order_id).state == "open"


# -- at the same moment, with real threads on a database that lets them


@pytest.fixture
def postgres_shop_of(postgres_shops: TestShops, strategy: Strategy) -> Any:
    with postgres_shops.opened(order_strategy=strategy.name) as opened:
        yield opened


def _at_once(shop: Shop, *acts: Any) -> list[Any]:
    """What each returned, or the shop's refusal."""
    gate, results = threading.Barrier(len(acts)), [None] * len(acts)

    def run(place: int, act: Any) -> None:
        with shop.app.app_context():
            gate.wait()
            try:
                results[place] = act()
            except ShopError as error:
                results[place] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _of(bought: Checkout) -> tuple[str, str]:
    attempt = bought.shopper.shop.attempt(bought.order_id)
    return attempt.id, attempt.shopper_id


@pytest.mark.accept("V24", "V28")
@pytest.mark.fault("F1")
def test_a_double_click_on_try_again_opens_one_page(postgres_shop_of: Shop) -> None:
    shop = postgres_shop_of
    for _ in range(5):
        bought = shop.shopper().buy()
        retry = lambda bought=bought: checkout.retry(*_of(bought))  # noqa: E731

        pages = _at_once(shop, retry, retry, retry)

        open_ = [leg for leg in shop.legs(bought.order_id) if leg.state in ("creating", "open")]
        assert len(open_) == 1
        urls = {page.url for page in pages if isinstance(page, checkout.PayPage)}
        assert open_[0].url in urls
        live = [
            s["id"]
            for s in shop.sandbox.store.objects["checkout.session"].values()
            if s["status"] == "open" and s["client_reference_id"] == bought.order_id
        ]
        assert live == [open_[0].stripe_id]
    assert shop.proves()


@pytest.mark.accept("V26", "V28")
@pytest.mark.fault("F16", "F17")
def test_a_retry_races_the_payment_and_one_of_them_wins(postgres_shop_of: Shop) -> None:
    """In another tab the old page is being paid at this moment, and the clock expires the order."""
    shop = postgres_shop_of
    for round_ in range(8):
        bought = shop.shopper().buy()

        paid, *_ = _at_once(
            shop,
            lambda bought=bought: shop.pay(bought.session_id)["outcome"],
            lambda bought=bought: checkout.retry(*_of(bought)),
            lambda bought=bought: settle.settle(bought.order_id, EXPIRY, look=True, end=True),
            lambda bought=bought: checkout.ask(bought.order_id),
        )
        shop.deliver_and_work()
        reconcile.sync(due_only=False)

        legs = shop.legs(bought.order_id)
        if paid == "paid":
            assert shop.order(bought.order_id).payment_status == "paid"  # type: ignore[union-attr]
            assert {leg.state for leg in legs} <= {"complete", "expired"}
        else:
            assert paid == "closed"
            assert sum(leg.state == "open" for leg in legs) == 1
        assert shop.product(MUG).held + shop.product(MUG).sold == round_ + 1
    assert shop.exceptions() == []
    orders = shop.rows(Order, Order.payment_status == "paid")
    assert len(shop.receipts()) == len(orders) == shop.product(MUG).sold
    assert shop.proves()


def test_twin_a_page_left_payable_is_paid_beside_the_new_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: the new page opens, and the old one was never closed at Stripe."""
    bought = shop.shopper().buy()

    def replace_without_closing(
        attempt_id: str, seen: settle.Look, *, replacing: int | None = None, **_: Any
    ) -> None:
        for leg in shop.legs(attempt_id):
            if replacing:
                seen.versions = {leg.id: leg.version}
                origin = Origin(attempt_id)
                seen.facts.append(LegEnded(leg.stripe_id or "", LegState.EXPIRED, origin=origin))

    with monkeypatch.context() as patch:
        patch.setattr(settle, "_look", replace_without_closing)
        second = _again(bought)
    bought.pay()
    second.pay()
    shop.deliver_and_work()

    assert [e.type for e in shop.exceptions()] == ["duplicate_payment"]  # the shopper paid twice


@pytest.mark.fault("F1")
def test_a_click_that_saw_the_old_page_replaces_nothing(shop: Shop) -> None:
    """It waited for the lock while another click opened the new page."""
    first = shop.shopper().buy()
    seen = shop.legs(first.order_id)[-1].id
    second = _again(first)

    settle.settle(first.order_id, SHOPPER, replacing=seen)

    assert len(shop.legs(first.order_id)) == 2
    assert second.session["status"] == "open"


def test_twin_without_the_check_under_the_lock_a_second_click_opens_a_second_page(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: whoever holds the lock replaces what is newest by then, not what was seen."""
    bought = shop.shopper().buy()
    seen = shop.legs(bought.order_id)[-1].id
    _again(bought)
    real = Desk.replace
    monkeypatch.setattr(Desk, "replace", lambda desk, leg_id, way: real(desk, desk.legs[-1].id))
    monkeypatch.setattr(settle, "_look", _closes_everything)

    settle.settle(bought.order_id, EXPIRY, replacing=seen)

    assert len(shop.legs(bought.order_id)) == 3


def _closes_everything(attempt_id: str, look: settle.Look, **_: Any) -> None:
    with reading() as session:
        live = session.scalars(
            select(StripeLeg).where(StripeLeg.attempt_id == attempt_id, StripeLeg.state == "open")
        ).all()
        look.versions = {leg.id: leg.version for leg in live}
    for leg in live:
        look.facts += current_gateway().expire_session(leg.stripe_id or "")
