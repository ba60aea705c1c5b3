"""Where two good rules meet badly: what a second reading of checkout, retry and rebuild found."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
from sqlalchemy import event as sql_event
from sqlalchemy import select
from werkzeug.test import TestResponse

from domain.strategies import Moment, Strategy
from extensions import atomic, db
from gateway.facts import FOLLOWED_TYPES
from models import CartItem, Product
from services import attempts, cart, inbox, links, outbox, reconcile, settle, snapshots
from services.causes import SHOPPER
from tests.pages.forms import a_body
from tests.shop import LAMP, MUG, ORIGIN, Checkout, Shop
from tests.strategies.conftest import born_by
from tests.strategies.test_our_own_page import INITIATE, initiate
from tests.strategies.test_rebuild import restore_backup_from_before

DECLINED = "4000000000000002"


def _retry(bought: Checkout) -> TestResponse:
    return bought.shopper.json("POST", f"/api/orders/{bought.order_id}/retry-session")


def _released(shop: Shop, sku: str = MUG) -> Checkout:
    """A checkout that its shopper let go of."""
    bought = shop.shopper().buy(sku)
    bought.shopper.post("/checkout/release", {"order_id": bought.order_id})
    return bought


def _at_stripe(shop: Shop) -> stripe.StripeClient:
    """Somebody at Stripe's dashboard."""
    return stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})


@pytest.mark.accept("V26", "X2")
def test_trying_a_payment_under_way_again_leaves_other_checkouts_alone(shop: Shop) -> None:
    shopper = shop.shopper()
    first = shopper.buy(MUG)
    first.pay("bank_debit")
    shop.deliver_and_work()
    other = shopper.buy(LAMP)

    assert _retry(first).status_code == 409

    assert (other.session["status"], shop.attempt(other.order_id).state) == ("open", "open")


@pytest.mark.accept("V24", "X2")
def test_a_payment_that_the_bank_refused_unheard_can_be_tried_again(shop: Shop) -> None:
    first = shop.shopper().buy(LAMP, 2)
    first.pay("bank_debit_fails")
    shop.deliver_and_work()
    shop.clock.forward(days=4)
    shop.sandbox.tick()

    answer = _retry(first)

    assert answer.status_code == 201
    attempt = shop.attempt(first.order_id)
    assert (attempt.state, attempt.is_processing, shop.product(LAMP).held) == ("open", False, 2)
    assert shop.proves()


@pytest.mark.accept("V24", "X2")
def test_lines_of_a_payment_that_failed_unheard_are_where_the_strategy_has_them(
    shop: Shop, strategy: Strategy
) -> None:
    """The retry itself is the first to hear of it: the attempt was parked, with its lines out."""
    first = shop.shopper().buy(LAMP, 2)
    first.pay("bank_debit_fails")
    shop.deliver_and_work()
    leg = shop.legs(first.order_id)[-1]
    shop.clock.forward(days=4)
    shop.sandbox.tick()

    settle.settle(first.order_id, SHOPPER, replacing=leg.id)

    assert shop.attempt(first.order_id).state == "open"
    at_once = strategy.lines_leave_cart is Moment.START
    assert [item.quantity for item in shop.rows(CartItem)] == ([] if at_once else [2])
    assert shop.proves()


@pytest.mark.accept("V24")
def test_trying_again_after_a_day_leaves_other_checkouts_alone(shop: Shop) -> None:
    shopper = shop.shopper()
    first = shopper.buy(MUG)
    shop.clock.forward(minutes=61)
    reconcile.sync()
    shop.clock.forward(hours=25)
    reconcile.sync()
    other = shopper.buy(LAMP)

    assert _retry(first).status_code == 409

    assert (other.session["status"], shop.attempt(other.order_id).state) == ("open", "open")


@pytest.mark.accept("V24")
@pytest.mark.fault("F1")
def test_a_checkout_that_another_tab_opens_during_a_retry_is_ended_first(
    shop: Shop, strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other tab presses Pay just after this one has looked for other checkouts. If that took
    the lines, there is nothing left to try again."""
    first = _released(shop)
    shopper = first.shopper
    shopper.post("/cart/lines", {"sku": MUG, "quantity": 2})
    second: list[Checkout] = []
    as_usual = settle.settle

    def press_pay_in_another_tab(*args: object, **how: object) -> settle.Settled | None:
        if not second:
            second.append(Checkout(shopper, "", "", ""))
            second[0] = shopper.opened(shopper.check_out(line1="Another street 1"))
        return as_usual(*args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(settle, "settle", press_pay_in_another_tab)

    answer = _retry(first)

    states = [shop.attempt(each.order_id).state for each in (first, second[0])]
    if born_by(strategy, Moment.START):
        assert (answer.status_code, states) == (409, ["closed", "open"])
    else:
        assert (answer.status_code, states) == (201, ["open", "closed"])
        assert second[0].session["status"] == "expired"
    assert shop.proves()


@pytest.mark.accept("V24", "X2")
def test_what_takes_the_place_of_a_refused_payment_is_in_the_shoppers_hands(shop: Shop) -> None:
    """Else two checkouts of one basket are open, and settling one of them fails for good."""
    first = shop.shopper().buy(MUG)
    first.pay("bank_debit_fails")
    shop.deliver_and_work()
    assert shop.attempt(first.order_id).is_processing
    shop.clock.forward(days=4)
    shop.sandbox.tick()

    settle.settle(first.order_id, SHOPPER, replacing=shop.legs(first.order_id)[-1].id)

    assert [leg.state for leg in shop.legs(first.order_id)] == ["failed", "creating"]
    assert not shop.attempt(first.order_id).is_processing


@pytest.mark.accept("V24", "P6")
def test_a_checkout_taken_up_again_this_moment_is_not_purged(postgres_shop: Shop) -> None:
    shop = postgres_shop
    bought = _released(shop)
    shop.clock.forward(hours=24, seconds=1)
    finished = threading.Event()

    def purge() -> None:
        with shop.app.app_context():
            snapshots.purge()
        finished.set()

    purging = threading.Thread(target=purge)
    with atomic():  # a retry, between its lock and its commit
        attempt = attempts.lock(bought.order_id)
        assert attempt
        attempt.state, attempt.closed_at = "open", None
        purging.start()
        finished.wait(2)
    purging.join()

    assert shop.attempt(bought.order_id).email == "maya@example.com"


@pytest.mark.accept("A25", "X23")
@pytest.mark.fault("F21")
def test_a_missing_attempt_that_was_paid_in_an_embedded_page_is_made_anew(shop: Shop) -> None:
    shopper = shop.shopper()
    body = a_body(items=[{"sku": MUG, "quantity": 1}], uiMode="embedded")
    said = shopper.json("POST", "/api/payments/create-checkout-session", body).get_json()
    bought = Checkout(shopper, said["orderId"], said["sessionId"], "")
    bought.pay()
    restore_backup_from_before(shop, bought)

    shop.deliver_and_work()

    assert shop.exceptions() == []
    assert shop.the_order().payment_status == "paid"
    assert shop.proves()


@pytest.mark.accept("D18")
def test_the_id_of_an_intent_is_never_called_a_sessions(shop: Shop) -> None:
    opened = initiate(shop.shopper())
    hosted = opened.shopper.opened(opened.shopper.post(f"/checkout/pay/{opened.order_id}/hosted"))
    read = f"/api/orders/{opened.order_id}"
    said = opened.shopper.json("GET", read).get_json()
    assert (said["sessionId"], said.get("previousSessionId")) == (hosted.session_id, None)

    initiate(opened.shopper)

    said = opened.shopper.json("GET", read).get_json()
    assert (said["sessionId"], said["previousSessionId"]) == (None, hosted.session_id)
    assert said["paymentIntentId"].startswith("pi_")
    retried = opened.shopper.json("POST", f"{read}/retry-session").get_json()
    assert (retried["sessionId"], retried["previousSessionId"]) == (None, None)


@pytest.mark.accept("V13", "X3")
def test_why_a_card_was_declined_is_said_before_there_is_an_order(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay(DECLINED)
    shop.deliver_and_work()

    said = bought.shopper.json("GET", f"/api/orders/{bought.order_id}").get_json()

    assert (said["paymentStatus"], said["failureReason"]) == ("failed", "generic_decline")


@pytest.mark.fault("F25")
@pytest.mark.parametrize("text", ["\0", "\ud800", "x\0y"])
def test_ids_that_no_database_can_read_name_no_order(shop: Shop, text: str) -> None:
    opened = initiate(shop.shopper())
    ids = {"checkoutAttemptId": opened.order_id, "paymentIntentId": opened.intent}

    for name in ids:
        answer = opened.shopper.json("POST", "/api/orders", {**ids, name: text})
        assert answer.status_code in (404, 422)


def test_reading_from_the_beginning_of_time_is_reading_everything(shop: Shop) -> None:
    shop.shopper().buy().pay()

    tally = reconcile.sync(since=datetime(1, 1, 1, tzinfo=UTC))

    assert (tally.synced, tally.failed) == (1, 0)


@pytest.mark.accept("D25", "X23")
@pytest.mark.fault("F38")
@pytest.mark.parametrize("backup", ["before", "after"])
def test_beyond_the_event_list_payments_on_our_own_page_are_read_too(
    shop: Shop, backup: str
) -> None:
    shop.sandbox.chaos.drop_pct = 100
    began = shop.clock.now()
    opened = initiate(shop.shopper())
    opened.confirm()
    if backup == "before":
        restore_backup_from_before(shop, Checkout(opened.shopper, opened.order_id, "", ""))
    shop.clock.forward(days=40)
    shop.sandbox.store.objects["event"].clear()

    reconcile.sync(since=began)

    found = [(e.type, e.stripe_id) for e in shop.exceptions()]
    assert found == ([("unmatched_payment", opened.intent)] if backup == "before" else [])
    assert len(shop.payments()) == (backup == "after")
    assert shop.proves()


@pytest.mark.fault("F38")
def test_a_month_of_missed_events_is_counted(shop: Shop) -> None:
    """More ids than a database takes in one question."""
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    known = [event.id for event in shop.events() if event.attempt_id]

    assert inbox.orders_of([*known, *(f"evt_{n}" for n in range(70_000)), *known]) == 1


@pytest.mark.accept("X12", "X23")
@pytest.mark.fault("F38")
def test_until_quiet_reads_a_long_past_once(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    shop.shopper().buy().pay()
    since = shop.clock.now() - timedelta(days=20)
    shop.sandbox.requests.clear()

    tally = reconcile.until_quiet(since=since)

    assert (tally.synced, tally.failed) == (1, 0)
    asked = [c["params"] for c in shop.sandbox.requests if c["path"] == "/v1/events"]
    far = [call for call in asked if int(call["created"]["gte"]) == int(since.timestamp())]
    types = [kind for call in far for kind in call["types"].values()]
    assert sorted(types) == sorted(FOLLOWED_TYPES)  # so many calls as they take, and each type once
    assert len(asked) > len(far)


@pytest.mark.accept("X13")
def test_whoever_holds_an_orders_token_may_settle_and_retry_it_without_a_page(
    dual_track: Shop,
) -> None:
    """A link opens an order, and so it needs a strategy that has made one before the money."""
    shop = dual_track
    bought = shop.shopper().buy()
    bought.pay(DECLINED)
    bought.shopper.come_back(bought)
    order = shop.order(bought.order_id)
    assert order is not None
    client = shop.app.test_client()
    ids = {"checkoutAttemptId": order.id, "paymentIntentId": order.payment_intent}
    calls = {"/api/orders": 202, f"/api/orders/{order.id}/retry-session": 201}

    for path, status in calls.items():
        for token, answered in ((None, 400), ("forged", 404), (links.token(order), status)):
            header = {"Authorization": f"Bearer {token}"} if token else {}
            answer = client.post(path, json=ids, headers=header, base_url=ORIGIN)
            assert answer.status_code == answered


@pytest.mark.accept("X1")
def test_initiating_what_costs_nothing_says_where_to_go(shop: Shop) -> None:
    with atomic() as session:
        session.scalars(select(Product).where(Product.sku == MUG)).one().prices = {"eur": 0}
    body = a_body(items=[{"sku": MUG, "quantity": 1}])
    body["shipping"] = {**body["shipping"], "delivery": "pickup"}

    said = shop.shopper().json("POST", INITIATE, body).get_json()

    assert set(said) == {"checkoutAttemptId", "orderId", "url"}
    assert said["url"].startswith(shop.sandbox.url)


@pytest.mark.accept("X2")
@pytest.mark.fault("F24")
def test_every_final_no_of_the_bank_is_told(shop: Shop) -> None:
    first = shop.shopper().buy()
    for told in (1, 2):
        shop.pay(shop.legs(first.order_id)[-1].stripe_id or "", "bank_debit_fails")
        shop.deliver_and_work()
        shop.clock.forward(days=4)
        shop.deliver_and_work()
        shop.deliver_and_work()

        assert len(outbox.mails()) == told
        assert shop.attempt(first.order_id).status == "cancelled"
        assert _retry(first).status_code == 201
    ids = {(message.result or {})["message_id"] for message in outbox.mails()}
    assert len(ids) == 2


@pytest.mark.fault("F2")
@pytest.mark.parametrize("ui", ["hosted", "elements"])
def test_pressing_pay_after_the_page_was_closed_at_stripe_opens_a_new_one(
    shop: Shop, ui: str
) -> None:
    shopper = shop.shopper()
    if ui == "hosted":
        bought = shopper.buy()
        _at_stripe(shop).v1.checkout.sessions.expire(bought.session_id)
        again = shopper.opened(shopper.check_out()).order_id
        assert bought.order_id != again
    else:
        opened = initiate(shopper)
        _at_stripe(shop).v1.payment_intents.cancel(opened.intent)
        again = initiate(shopper).order_id
        assert opened.order_id != again

    assert (shop.attempt(again).state, shop.product(MUG).held) == ("open", 1)
    assert shop.proves()


@pytest.mark.accept("X3", "V20")
def test_a_session_that_somebody_else_opened_does_not_hide_a_decline(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay(DECLINED)
    sessions = _at_stripe(shop).v1.checkout.sessions
    price = {"currency": "eur", "unit_amount": 100, "product_data": {"name": "Something"}}
    stray = sessions.create(
        {
            "mode": "payment",
            "success_url": ORIGIN,
            "metadata": {"checkout_attempt_id": bought.order_id},
            "line_items": [{"quantity": 1, "price_data": price}],  # type: ignore[typeddict-item]
        }
    )
    sessions.expire(stray.id)
    shop.deliver_and_work()
    assert [leg.is_ours for leg in shop.legs(bought.order_id)] == [True, False]

    assert "Payment not successful" in bought.shopper.come_back(bought).text

    shop.pay(_retry(bought).get_json()["sessionId"])
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"


@pytest.mark.accept("X9")
def test_late_money_walks_no_finished_checkouts(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    bought = _released(shop)
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM checkout_attempts" in statement:
            asked.append((statement, parameters))

    with atomic() as session:
        attempt = attempts.lock(bought.order_id)
        assert attempt
        sql_event.listen(db.engine, "before_cursor_execute", note)
        attempts.bought_or_out_again(attempt)
        sql_event.remove(db.engine, "before_cursor_execute", note)
        ((statement, parameters),) = asked
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)

        assert not [row for row in plan if "SCAN" in row[3]]


@pytest.mark.accept("V15")
@pytest.mark.fault("F26")
def test_taking_a_line_out_waits_for_lines_that_are_coming_back(postgres_shop: Shop) -> None:
    shop = postgres_shop
    bought = shop.shopper().buy(MUG, 2)
    shopper = bought.shopper
    shopper.put_in_cart(MUG, 1)
    shopper_id = shop.attempt(bought.order_id).shopper_id
    finished = threading.Event()

    def take_out() -> None:
        with shop.app.app_context():
            cart.remove(shopper_id, MUG)
        finished.set()

    other_tab = threading.Thread(target=take_out)
    with atomic() as session:
        attempt = attempts.lock(bought.order_id)
        assert attempt
        with session.no_autoflush:  # as in settle, which writes at its end
            attempts.return_lines(attempt)
            other_tab.start()
            finished.wait(1)
    other_tab.join()

    assert shop.rows(CartItem) == []
