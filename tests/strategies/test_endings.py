"""Every way a payment can go ends right, under each strategy."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from domain.facts import LegEnded, LegState, News, Origin
from domain.strategies import Moment, Strategy
from extensions import atomic
from models import CheckoutAttempt, Order, Product
from services import outbox, reconcile, settings, settle
from services.causes import EXPIRY
from tests.shop import LAMP, MUG, Shop, TestShops
from tests.strategies.conftest import born_by, has_order

DECLINED = "4000000000000002"


@pytest.mark.accept("X3", "V13", "D7")
def test_a_declined_try_is_not_the_end(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(LAMP, 2)
    bought.pay(DECLINED)
    shop.deliver_and_work()

    said = shopper.json("GET", f"/api/orders/{bought.order_id}").get_json()
    assert (said["status"], said["paymentStatus"]) == ("pending_payment", "failed")
    assert shop.product(LAMP).free == 0
    page = shopper.come_back(bought)
    assert "Payment not successful" in page.text
    assert "You were not charged" in page.text

    bought.pay()
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"
    assert shop.proves()


@pytest.mark.accept("O33", "V14", "V15", "P16")
def test_a_checkout_that_runs_out_gives_everything_back(shop: Shop, strategy: Strategy) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(LAMP, 2)

    shop.clock.forward(minutes=61)
    reconcile.sync()

    assert shop.attempt(bought.order_id).status == "expired"
    assert has_order(shop, bought) == born_by(strategy, Moment.START)
    assert (shop.product(LAMP).free, shopper.cart()) == (2, [(LAMP, 2)])
    ended = [row for row in shop.history(bought.order_id) if row.to_status == "expired"]
    assert [row.detail for row in ended] == ["expired"]
    assert "This checkout has expired" in shopper.come_back(bought).text
    assert shop.proves()


@pytest.mark.accept("V15", "P16", "V23")
def test_leaving_the_payment_page_keeps_all_and_letting_go_gives_all_back(
    shop: Shop, strategy: Strategy
) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(LAMP, 2)

    page = shopper.get(f"/checkout/cancel?attempt={bought.order_id}")
    for words in ("You left before paying", "Desk lamp", "qty 2", "€70.90", "Try again"):
        assert words in page.text
    assert has_order(shop, bought) == born_by(strategy, Moment.START)

    shopper.post("/checkout/release", {"order_id": bought.order_id})

    assert shop.attempt(bought.order_id).status == "cancelled"
    assert (shop.product(LAMP).free, shopper.cart()) == (2, [(LAMP, 2)])
    assert bought.session["status"] == "expired"
    assert shop.proves()


@pytest.mark.accept("X2")
@pytest.mark.fault("F24")
@pytest.mark.parametrize("ending", ["succeeds", "fails"])
def test_a_bank_debit_is_decided_days_later(shop: Shop, ending: str) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(LAMP, 2)
    bought.pay("bank_debit" if ending == "succeeds" else "bank_debit_fails")
    shop.deliver_and_work()
    said = shopper.json("GET", f"/api/orders/{bought.order_id}").get_json()
    assert (said["status"], said["paymentStatus"]) == ("pending_payment", "processing")
    assert (shop.product(LAMP).free, shopper.cart()) == (0, [])

    shop.clock.forward(days=3)
    shop.deliver_and_work()

    lamp = shop.product(LAMP)
    if ending == "succeeds":
        assert shop.the_order().payment_status == "paid"
        assert (lamp.sold, lamp.held, shopper.cart()) == (2, 0, [])
    else:
        assert shop.attempt(bought.order_id).status == "cancelled"
        assert (lamp.free, shopper.cart()) == (2, [(LAMP, 2)])
        mails = [m["subject"] for m in _mails(shop)]
        assert len(mails) == 1
        assert "did not go through" in mails[0]
    assert shop.proves()


def _mails(shop: Shop) -> list[dict[str, str]]:
    return [message.result or {} for message in outbox.mails()]


@pytest.mark.accept("X1", "P12")
def test_what_costs_nothing_is_paid_without_a_payment(shop: Shop) -> None:
    with atomic() as session:
        mug = session.scalars(select(Product).where(Product.sku == MUG)).one()
        mug.prices = {"eur": 0}
    shopper = shop.shopper()
    bought = shopper.buy(MUG, 1, delivery="pickup")
    told = bought.pay()
    assert told["session"]["payment_status"] == "no_payment_required"

    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.status, order.payment_status, order.total) == ("payment_confirmed", "paid", 0)
    assert (shop.payments(), shop.sandbox.ledger()["payments"]) == ([], [])
    assert len(shop.receipts()) == 1
    assert (shop.product(MUG).sold, shopper.cart()) == (1, [])
    assert "all set" in shopper.come_back(bought).text
    assert shop.proves()


@pytest.mark.accept("X7")
@pytest.mark.fault("F20")
@pytest.mark.parametrize(("currency", "prices"), [("eur", 1800), ("jpy", 2900)])
def test_another_amount_is_never_paid(shop: Shop, currency: str, prices: int) -> None:
    shopper = shop.shopper()
    shopper.post("/currency", {"currency": currency})
    bought = shopper.buy()
    assert shop.attempt(bought.order_id).currency == currency
    bought.pay("wrong_amount")

    shop.deliver_and_work()

    attempt = shop.attempt(bought.order_id)
    assert (attempt.status, attempt.state) == ("pending_payment", "open")
    assert [e.type for e in shop.exceptions()] == ["amount_mismatch"]
    assert shop.receipts() == []
    assert shop.product(MUG).held == 1
    assert "one question" in shopper.come_back(bought).text
    assert shop.proves()


@pytest.mark.accept("X8")
@pytest.mark.fault("F17")
def test_a_second_payment_goes_back_exactly_once(shop: Shop) -> None:
    bought = shop.shopper().buy()
    total = shop.attempt(bought.order_id).total
    bought.pay()
    second = shop.pay_elsewhere(bought.order_id, total)

    for _ in range(3):
        shop.deliver_and_work()
        settle.settle(bought.order_id, EXPIRY, look=True)

    assert shop.the_order().payment_status == "paid"
    back = shop.sandbox.ledger()["refunds"]
    assert [(r["amount"], r["status"]) for r in back] == [(total, "succeeded")]
    surplus = next(p for p in shop.payments() if p.role == "surplus")
    assert back[0]["payment_intent"] == surplus.payment_intent
    assert second in {p.payment_intent for p in shop.payments()}
    assert [e.type for e in shop.exceptions()] == ["duplicate_payment"]
    assert shop.proves()


@pytest.mark.accept("X9")
@pytest.mark.fault("F11", "F16")
def test_late_money_gets_its_order_while_the_goods_are_there(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(LAMP, 1)
    bought.pay()
    _end_here_only(shop, bought.order_id)
    shop.clock.forward(days=3, hours=1)

    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
    assert (shop.product(LAMP).sold, shopper.cart()) == (1, [])
    assert shop.proves()


@pytest.mark.accept("X9")
@pytest.mark.fault("F19")
@pytest.mark.parametrize("policy", ["hold", "refund"])
def test_late_money_without_goods_is_held_or_refunded(
    shops: TestShops, strategy: Strategy, policy: str
) -> None:
    with shops.opened(order_strategy=strategy.name, late_payment=policy) as shop:
        bought = shop.shopper().buy(LAMP, 2)
        bought.pay()
        _end_here_only(shop, bought.order_id)
        shop.shopper().buy(LAMP, 2)

        for _ in range(2):
            shop.deliver_and_work()

        assert [e.type for e in shop.exceptions()] == ["late_payment"]
        refunded = sum(r["amount"] for r in shop.sandbox.ledger()["refunds"])
        assert refunded == (0 if policy == "hold" else shop.attempt(bought.order_id).total)
        assert shop.product(LAMP).free == 0
        page = bought.shopper.come_back(bought).text
        head = "We sent your money back" if policy == "refund" else "one question"
        assert head in page
        assert shop.proves()


@pytest.mark.accept("X9")
def test_late_money_does_not_buy_what_the_same_shopper_has_bought_since(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy(MUG, 2)
    bought.pay()
    _end_here_only(shop, bought.order_id)
    again = shopper.opened(shopper.check_out())
    again.pay()

    shop.deliver_and_work()

    paid = [o.id for o in shop.rows(Order) if o.payment_status == "paid"]
    late = [e.type for e in shop.exceptions()]
    assert (len(paid), late) == (1, ["late_payment"])
    assert shop.product(MUG).sold == 2
    assert shop.proves()


def _end_here_only(shop: Shop, order_id: str) -> None:
    """As after a restored backup: our side ended the checkout, Stripe's did not."""
    session_id = shop.legs(order_id)[0].stripe_id
    ended = LegEnded(session_id, LegState.EXPIRED, origin=Origin(order_id))
    news = News("evt_x", "checkout.session.expired", attempt_id=order_id, facts=(ended,))
    settle.settle(order_id, EXPIRY, news=news)
    assert shop.attempt(order_id).status == "expired"


@pytest.mark.accept("D24", "D35", "D14")
@pytest.mark.parametrize("lane", ["webhook", "landing", "sync"])
def test_each_lane_alone_settles_an_order(shop: Shop, lane: str) -> None:
    """Webhooks only (look-up and reconciler switched off), return only, or reconciler only."""
    shopper = shop.shopper()
    bought = shopper.buy()
    if lane == "webhook":
        settings.change("ada", "webhooks only", landing_lookup=False, background_sync=False)
    else:
        shop.sandbox.chaos.drop_pct = 100
    bought.pay()

    if lane == "webhook":
        assert "Confirming your payment" in shopper.come_back(bought).text
        reconcile.by_clock()
        assert shop.payments() == []
        shop.deliver_and_work()
    elif lane == "landing":
        shopper.come_back(bought)
    else:
        shop.clock.forward(seconds=200)
        reconcile.by_clock()

    order = shop.the_order()
    assert (order.payment_status, order.paid_lane) == ("paid", lane)
    assert "Thank you, Maya" in shopper.get(f"/orders/{order.id}").text
    shop.work()
    assert shop.proves()


@pytest.mark.accept("D33", "D34")
def test_the_clock_rests_while_its_flag_is_off_and_a_person_may_still_sync(shop: Shop) -> None:
    shop.sandbox.chaos.drop_pct = 100
    bought = shop.shopper().buy()
    bought.pay()
    shop.clock.forward(minutes=10)
    shop.sandbox.chaos.outage = "503"
    settle_failed = reconcile.sync_order(bought.order_id, EXPIRY)
    assert settle_failed.failed == 1  # due for another look soon
    shop.sandbox.chaos.outage = ""
    settings.change("ada", "a diagnosis", background_sync=False)
    shop.clock.forward(minutes=10)

    assert reconcile.by_clock() is None
    reconcile.sweep()
    assert shop.payments() == []

    assert reconcile.sync().synced == 1
    settings.change("ada", "done", background_sync=True)
    assert reconcile.by_clock() is not None
    assert shop.the_order().payment_status == "paid"


@pytest.mark.accept("D14", "P21", "O25")
@pytest.mark.fault("F9")
def test_news_told_ten_times_over_counts_once(shop: Shop) -> None:
    shop.sandbox.chaos.duplicate = 9
    shop.sandbox.chaos.reorder = True
    bought = shop.shopper().buy()
    bought.pay()

    shop.deliver_and_work()
    bought.shopper.come_back(bought)

    assert shop.count(Order) == len(shop.payments()) == len(shop.receipts()) == 1
    assert shop.product(MUG).sold == 1
    assert len({event.id for event in shop.events()}) == len(shop.events())
    assert shop.proves()


@pytest.mark.accept("D5", "O33")
def test_ended_attempts_are_never_looked_at_again(shop: Shop) -> None:
    """The reconciler starts from what is live; about finished orders it asks nothing."""
    for _ in range(3):
        shop.shopper().buy().pay()
    shop.deliver_and_work()
    shop.shopper().buy()
    shop.clock.forward(minutes=61)
    reconcile.sync()
    assert {a.state for a in shop.rows(CheckoutAttempt)} == {"settled", "closed"}
    shop.sandbox.requests.clear()
    shop.clock.forward(hours=3)

    tally = reconcile.sync(due_only=False)

    assert tally.as_dict() == {"synced": 0, "failed": 0, "skipped": 0}
    paths = {call["path"] for call in shop.sandbox.requests}
    assert paths == {"/v1/events"}
