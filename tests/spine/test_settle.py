"""Settling: whoever brings the news, in whatever order, the end is the same."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
import stripe
from sqlalchemy import delete, event, select

from domain.facts import LegSeen, LegState, News, Origin, RefundSeen
from extensions import atomic, db, reading
from models import Cart, CheckoutAttempt, Order, OrderItem, Refund, StripeLeg, User
from services import attempts, checkout, inbox, refunds, settle
from services.causes import SYNC, Cause
from tests.shop import LAMP, MUG, Checkout, Shop
from tests.spine.stripe_says import event as stripe_event
from tests.spine.stripe_says import paid_intent, paid_session, post


@pytest.mark.accept("V11", "O16")
def test_a_paid_session_brings_its_payment_facts(shop: Shop) -> None:
    bought = shop.shopper().buy(MUG, 2)
    before = shop.the_order().updated_at
    shop.clock.forward(seconds=30)
    bought.pay()
    shop.deliver_type("checkout.session.completed")
    shop.work()

    order, payment = shop.the_order(), shop.payments()[0]
    assert order.payment_intent == payment.payment_intent == bought.session["payment_intent"]
    assert (payment.amount, payment.currency) == (order.total, "eur")
    assert payment.role == "settles"
    assert order.updated_at > before
    assert shop.legs(order.id)[0].stripe_id == bought.session_id


@pytest.mark.accept("X26", "O25")
@pytest.mark.fault("F7", "F10")
@pytest.mark.parametrize(
    "lanes",
    list(
        itertools.permutations(
            ["checkout.session.completed", "payment_intent.succeeded", "landing", "sync"]
        )
    ),
    ids="-".join,
)
def test_every_order_of_news_ends_the_same(sqlite_shop: Shop, lanes: tuple[str, ...]) -> None:
    """A session and its intent are one payment; all 24 orders of four messengers."""
    shop = sqlite_shop
    shopper = shop.shopper()
    bought = shopper.buy()
    bought.pay()

    for lane in lanes:
        if lane == "landing":
            assert shopper.come_back(bought).status_code == 200
        elif lane == "sync":
            settle.settle(bought.order_id, SYNC, look=True)
        else:
            shop.deliver_type(lane)
            shop.work()
    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
    assert len(shop.payments()) == len(shop.receipts()) == 1
    assert shop.product(MUG).sold == 1
    assert [leg.state for leg in shop.legs(order.id)] == ["complete"]
    assert shop.proves()


@pytest.mark.accept("X26")
@pytest.mark.parametrize("first", ["session", "intent"])
def test_a_payment_told_twice_is_one_payment_on_both_databases(shop: Shop, first: str) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    types = ["checkout.session.completed", "payment_intent.succeeded"]

    for type_ in types if first == "session" else reversed(types):
        shop.deliver_type(type_)
        shop.work()

    assert [payment.role for payment in shop.payments()] == ["settles"]
    assert shop.exceptions() == []
    told_twice = [row for row in shop.history(bought.order_id) if row.kind == "ignored"]
    assert "one payment, told twice" in told_twice[0].detail


def _all_at_once(shop: Shop, *lanes: Callable[[], object]) -> None:
    gate = threading.Barrier(len(lanes))
    failures: list[BaseException] = []

    def run(lane: Callable[[], object]) -> None:
        with shop.app.app_context():
            gate.wait()
            try:
                lane()
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=run, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _race(shop: Shop) -> Checkout:
    """Webhook, landing page, reconciler and admin settle the same order at the same moment."""
    shopper = shop.shopper()
    bought = shopper.buy()
    bought.pay()
    shop.deliver()
    _all_at_once(
        shop,
        inbox.drain,
        inbox.drain,
        lambda: checkout.ask(bought.order_id),
        lambda: settle.settle(bought.order_id, SYNC, look=True),
        lambda: settle.settle(bought.order_id, Cause("admin", actor="ada"), look=True),
        lambda: settle.settle(bought.order_id, Cause("expiry"), end=True),
    )
    return bought


@pytest.mark.accept("V12")
@pytest.mark.fault("F7", "F35")
def test_all_lanes_at_once_make_one_order_one_receipt_one_sale(postgres_shop: Shop) -> None:
    shop = postgres_shop
    for round_ in range(1, 6):
        bought = _race(shop)
        shop.work()

        moves = [row.to_status for row in shop.history(bought.order_id) if row.kind == "transition"]
        assert moves == ["pending_payment", "payment_confirmed"]
        assert len(shop.payments()) == len(shop.receipts()) == round_
        assert shop.product(MUG).sold == round_
    assert shop.proves()


@pytest.mark.fault("F7")
def test_twin_without_the_lock_the_lanes_trip_over_each_other(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: nobody waits, so several lanes decide on the same old rows."""
    shop = postgres_shop
    together = threading.Barrier(2)

    def read_without_lock(attempt_id: str) -> CheckoutAttempt | None:
        found = db.session.scalar(select(CheckoutAttempt).where(CheckoutAttempt.id == attempt_id))
        together.wait(timeout=5)
        return found

    bought = shop.shopper().buy()
    bought.pay()
    monkeypatch.setattr(attempts, "lock", read_without_lock)
    lane = lambda: settle.settle(bought.order_id, SYNC, look=True)  # noqa: E731

    with pytest.raises(Exception, match=r"unique|add up|Broken"):
        _all_at_once(shop, lane, lane)


@pytest.mark.accept("X26")
def test_a_stale_look_never_overwrites_a_newer_row(shop: Shop) -> None:
    bought = shop.shopper().buy()
    stale = _stale_look(bought)
    _decline_meanwhile(shop, bought)

    with pytest.raises(settle.Overtaken):
        settle._apply(bought.order_id, SYNC, stale, None, cancelling=False)

    assert shop.legs(bought.order_id)[0].failure == "generic_decline"


def test_twin_without_the_version_a_stale_look_wins(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = shop.shopper().buy()
    stale = _stale_look(bought)
    _decline_meanwhile(shop, bought)
    monkeypatch.setattr(settle.Desk, "is_overtaken", lambda self, *versions: False)

    settle._apply(bought.order_id, SYNC, stale, None, cancelling=False)

    assert shop.legs(bought.order_id)[0].failure is None  # the decline is forgotten


def _stale_look(bought: Checkout) -> settle.Look:
    """A look at Stripe from before anybody tried to pay."""
    look = settle.Look()
    settle._look(bought.order_id, look, end=False, quick=False)
    return look


def _decline_meanwhile(shop: Shop, bought: Checkout) -> None:
    bought.pay("4000000000000002")
    settle.settle(bought.order_id, SYNC, look=True)
    assert shop.legs(bought.order_id)[0].failure == "generic_decline"


@pytest.mark.accept("O10", "O32")
def test_a_webhook_needs_no_cart(shop: Shop) -> None:
    bought = shop.shopper().buy()
    with atomic() as session:
        session.execute(
            CheckoutAttempt.__table__.update().values(cart_id=None)  # type: ignore[attr-defined]
        )
        session.execute(delete(Cart))
    bought.pay()

    shop.deliver_and_work()

    assert shop.count(Order) == 1
    assert shop.the_order().payment_status == "paid"


@pytest.mark.accept("O32")
def test_settling_a_paid_session_takes_few_statements(shop: Shop) -> None:
    first = shop.shopper().buy()
    first.pay()
    shop.deliver_and_work()
    bought = shop.shopper().buy()
    body = stripe_event(
        "checkout.session.completed",
        paid_session(bought.session_id, "pi_1", bought.session["amount_total"], bought.order_id),
    )
    post(shop, body)
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    event.listen(db.engine, "before_cursor_execute", count)
    inbox.drain()
    event.remove(db.engine, "before_cursor_execute", count)

    order = shop.order(bought.order_id)
    assert order is not None and order.payment_status == "paid"
    assert len(statements) <= 17, "\n".join(statements)
    assert not any(
        "cart" in statement.split("WHERE")[0].lower() and "carts" in statement
        for statement in statements
    )


@pytest.mark.accept("O11")
@pytest.mark.fault("F25")
def test_another_customers_payment_changes_nothing_and_calls_a_person(shop: Shop) -> None:
    bought = shop.shopper().buy()
    with atomic() as session:
        owner = User(email="maya@example.com", stripe_customer_id="cus_maya")
        session.add(owner)
        session.flush()
        attempt = session.scalars(select(CheckoutAttempt)).one()
        attempt.user_id = owner.id
    total = shop.the_order().total

    foreign = paid_intent("pi_x", total, bought.order_id, customer="cus_somebody_else")
    post(shop, stripe_event("payment_intent.succeeded", foreign))
    shop.work()

    assert shop.the_order().payment_status == "pending"
    assert shop.payments() == []
    assert [e.type for e in shop.exceptions()] == ["owner_mismatch"]

    own = paid_intent("pi_y", total, bought.order_id, customer="cus_maya")
    post(shop, stripe_event("payment_intent.succeeded", own, id_="evt_2"))
    shop.work()
    assert shop.the_order().payment_status == "paid"


@pytest.mark.accept("O11")
@pytest.mark.fault("F25")
def test_a_session_that_names_another_order_changes_neither(shop: Shop) -> None:
    mine, theirs = shop.shopper().buy(), shop.shopper().buy()
    total = shop.attempt(mine.order_id).total

    body = stripe_event(
        "checkout.session.completed",
        paid_session(mine.session_id, "pi_x", total, theirs.order_id),
    )
    post(shop, body)
    shop.work()

    assert {order.payment_status for order in shop.rows(Order)} == {"pending"}
    assert [e.type for e in shop.exceptions()] == ["owner_mismatch"]


@pytest.mark.accept("X7")
@pytest.mark.fault("F20")
@pytest.mark.parametrize(
    ("change", "currency"), [(-1, "eur"), (1, "eur"), (0, "usd"), (-2290, "eur")]
)
def test_another_amount_or_currency_is_never_paid(
    sqlite_shop: Shop, change: int, currency: str
) -> None:
    shop = sqlite_shop
    bought = shop.shopper().buy()
    amount = shop.the_order().total + change

    wrong = paid_intent("pi_x", amount, bought.order_id, currency)
    post(shop, stripe_event("payment_intent.succeeded", wrong))
    shop.work()

    order = shop.the_order()
    assert (order.status, order.payment_status) == ("pending_payment", "pending")
    assert [p.role for p in shop.payments()] == ["mismatch"]
    assert [(e.type, e.amount) for e in shop.exceptions()] == [("amount_mismatch", amount)]
    assert shop.receipts() == []
    assert shop.product(MUG).held == 1


@pytest.mark.accept("X8")
@pytest.mark.fault("F17")
def test_a_second_payment_is_refunded_exactly_once(shop: Shop) -> None:
    """A session somebody opened beside ours, with our metadata, is paid as well."""
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    order = shop.the_order()
    second = shop.pay_elsewhere(order.id, order.total)

    for _ in range(3):  # told by its webhook, by a replay and by a sync
        shop.deliver_and_work()
        settle.settle(order.id, SYNC, look=True)
        shop.work()

    assert {p.payment_intent: p.role for p in shop.payments()} == {
        order.payment_intent: "settles",
        second: "surplus",
    }
    refunded = [r for r in shop.sandbox.ledger()["refunds"] if r["payment_intent"] == second]
    assert [(r["amount"], r["status"]) for r in refunded] == [(order.total, "succeeded")]
    assert [e.type for e in shop.exceptions()] == ["duplicate_payment"]
    assert shop.the_order().payment_status == "paid"
    assert shop.proves()


@pytest.mark.accept("O14")
def test_an_address_that_stripe_collected_is_added_to_an_order_without_one(shop: Shop) -> None:
    bought = shop.shopper().buy()
    with atomic() as session:
        session.scalars(select(Order)).one().address = None
    collected = {
        "shipping_details": {
            "name": "Maya Lindqvist",
            "address": {
                "line1": "Bergmannstr. 5",
                "city": "Berlin",
                "postal_code": "10961",
                "country": "DE",
                "line2": None,
                "state": None,
            },
        }
    }
    session_ = paid_session(
        bought.session_id,
        "pi_1",
        shop.the_order().total,
        bought.order_id,
        collected_information=collected,
    )

    post(shop, stripe_event("checkout.session.completed", session_))
    shop.work()

    address = shop.the_order().address
    assert address is not None
    assert address["line1"] == "Bergmannstr. 5"


@pytest.mark.accept("O15")
def test_a_paid_order_is_locked_with_the_lines_that_were_bought(shop: Shop) -> None:
    bought = shop.shopper().buy(MUG, 2)
    with atomic() as session:
        session.scalars(select(OrderItem)).one()
        product = shop.product(MUG)
        session.merge(product).prices = {"eur": 9900}
    bought.pay()
    shop.deliver_and_work()

    order = shop.the_order()
    items = shop.rows(OrderItem)
    assert order.locked_at == order.paid_at
    assert [(i.sku, i.quantity, i.unit_amount) for i in items] == [(MUG, 2, 1800)]


@pytest.mark.accept("O30")
def test_an_order_from_before_the_upgrade_is_still_confirmed(shop: Shop) -> None:
    """Its leg has none of the newer columns filled in, only what the first version wrote."""
    bought = shop.shopper().buy()
    with atomic() as session:
        leg = session.scalars(select(StripeLeg)).one()
        leg.url = leg.parameters = leg.idempotency_key = leg.payment_intent = None
        attempt = session.scalars(select(CheckoutAttempt)).one()
        attempt.next_look_at = None
    bought.pay()

    shop.deliver_and_work()

    assert shop.the_order().payment_status == "paid"


@pytest.mark.accept("O23")
def test_settling_what_is_not_there_is_no_error(shop: Shop) -> None:
    assert settle.settle("no-such-attempt", SYNC, look=True) is None


@pytest.mark.accept("V30")
def test_the_spine_runs_without_http(shop: Shop) -> None:
    """Checkout, payment and settlement by the services alone."""
    from services import cart

    shopper_id = "5f0b4ae0-0000-4000-8000-000000000001"
    cart.add(shopper_id, MUG, 1, "eur")
    page = checkout.start(
        shopper_id,
        checkout.Contact("Maya", "maya@example.com"),
        checkout.Address("Sonnenallee 12", "Berlin", "12047", "DE"),
        "pickup",
    )
    assert page.session_id is not None
    shop.pay(page.session_id)

    settled = settle.settle(page.attempt_id, SYNC, look=True)

    assert settled is not None
    assert (settled.status, settled.payment_status) == ("payment_confirmed", "paid")


@pytest.mark.fault("F10")
def test_an_expiry_that_comes_after_the_payment_is_named_and_ignored(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    late = paid_session(bought.session_id, "pi_1", 1, bought.order_id, status="expired")

    post(shop, stripe_event("checkout.session.expired", late, id_="evt_late"))
    shop.work()

    assert shop.the_order().status == "payment_confirmed"
    why = [row.detail for row in shop.history(bought.order_id) if row.kind == "ignored"]
    assert any("has already ended as complete" in detail for detail in why)


@pytest.mark.accept("X2")
@pytest.mark.fault("F24")
@pytest.mark.parametrize("ending", ["succeeds", "fails"])
def test_a_delayed_payment_keeps_the_stock_until_it_is_decided(shop: Shop, ending: str) -> None:
    bought = shop.shopper().buy(LAMP, 2)
    shop.sandbox.pay(
        bought.session_id, "bank_debit" if ending == "succeeds" else "bank_debit_fails"
    )
    shop.deliver_and_work()
    order = shop.the_order()
    assert (order.status, order.payment_status) == ("pending_payment", "processing")
    assert shop.product(LAMP).free == 0

    shop.clock.forward(days=3)
    shop.deliver_and_work()

    order, lamp = shop.the_order(), shop.product(LAMP)
    if ending == "succeeds":
        assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
        assert (lamp.sold, lamp.held) == (2, 0)
    else:
        assert (order.status, order.payment_status) == ("cancelled", "failed")
        assert (lamp.sold, lamp.free) == (0, 2)
        assert bought.shopper.cart() == [(LAMP, 2)]
    assert shop.proves()


@pytest.mark.accept("X3", "V13")
def test_one_declined_try_is_not_the_end(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay("4000000000000002")
    shop.deliver_and_work()
    order = shop.the_order()
    assert (order.status, order.payment_status) == ("pending_payment", "failed")
    assert order.failure_reason == "generic_decline"

    bought.pay()
    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
    assert order.failure_reason is None
    assert len(shop.payments()) == len(shop.receipts()) == 1


def test_every_change_has_its_line_in_the_history_and_it_replays(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()

    rows = [row for row in shop.history(bought.order_id) if row.kind == "transition"]

    assert [(row.from_status, row.to_status, row.cause) for row in rows] == [
        (None, "pending_payment", "checkout"),
        ("pending_payment", "payment_confirmed", "webhook"),
    ]
    assert rows[1].stripe_event_id in {event.id for event in shop.events()}


def test_a_leg_that_lost_its_answer_is_recognised_by_its_metadata(shop: Shop) -> None:
    """F6: the database died after Stripe made the session, before its id was written."""
    bought = shop.shopper().buy()
    with atomic() as session:
        leg = session.scalars(select(StripeLeg)).one()
        leg.stripe_id, leg.url, leg.state = None, None, LegState.CREATING
    bought.pay()

    shop.deliver_type("checkout.session.completed")
    shop.work()

    legs = shop.legs(bought.order_id)
    assert [(leg.stripe_id, leg.state) for leg in legs] == [(bought.session_id, "complete")]
    assert shop.the_order().payment_status == "paid"


def test_a_mirror_of_an_ended_leg_is_not_applied(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    open_again = LegSeen(bought.session_id, LegState.OPEN, origin=Origin(bought.order_id))

    news = News("evt_x", "x", attempt_id=bought.order_id, facts=(open_again,))
    settle.settle(bought.order_id, SYNC, news=news)

    with reading() as session:
        assert session.scalars(select(StripeLeg.state)).one() == "complete"


@pytest.mark.fault("F5", "F17")
def test_a_refund_whose_500_stripe_keeps_is_asked_for_with_a_new_key(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    total = shop.the_order().total
    second = shop.pay_elsewhere(bought.order_id, total)
    shop.sandbox.chaos.stored_500 = {"next": 1, "only": "POST /v1/refunds"}

    shop.deliver_and_work()
    for _ in range(3):
        shop.clock.forward(seconds=61)
        shop.deliver_and_work()

    refunds = [r for r in shop.sandbox.ledger()["refunds"] if r["payment_intent"] == second]
    assert [(r["amount"], r["status"]) for r in refunds] == [(total, "succeeded")]
    assert shop.proves()


@pytest.mark.accept("X4")
@pytest.mark.fault("F10", "F23")
def test_a_refund_from_the_dashboard_that_is_told_before_its_payment_counts(shop: Shop) -> None:
    bought = shop.shopper().buy()
    intent = bought.pay()["session"]["payment_intent"]
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})
    client.v1.refunds.create({"payment_intent": intent, "amount": 500})

    shop.deliver_type("refund.created")
    shop.work()
    shop.deliver_type("charge.refunded")
    shop.work()
    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.payment_status, order.refunded) == ("partially_refunded", 500)
    assert order.status == "payment_confirmed"
    assert shop.proves()


@pytest.mark.accept("X26")
def test_a_stale_refund_never_overwrites_a_newer_one(shop: Shop) -> None:
    """Two workers read the same refund; the one that read it before it failed commits last."""
    bought = shop.shopper().buy()
    intent = bought.pay()["session"]["payment_intent"]
    shop.deliver_and_work()
    stale, newer = _refund_news(shop, intent, "succeeded"), _refund_news(shop, intent, "failed")

    settle._apply(bought.order_id, SYNC, newer, _about_refunds(intent), cancelling=False)
    with pytest.raises(settle.Overtaken):
        settle._apply(bought.order_id, SYNC, stale, _about_refunds(intent), cancelling=False)

    assert [refund.state for refund in shop.rows(Refund)] == ["failed"]
    assert shop.the_order().payment_status == "paid"


def test_twin_without_the_version_the_stale_refund_wins(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = shop.shopper().buy()
    intent = bought.pay()["session"]["payment_intent"]
    shop.deliver_and_work()
    monkeypatch.setattr("services.refunds.versions", lambda intent: {})
    stale, newer = _refund_news(shop, intent, "succeeded"), _refund_news(shop, intent, "failed")

    settle._apply(bought.order_id, SYNC, newer, _about_refunds(intent), cancelling=False)
    settle._apply(bought.order_id, SYNC, stale, _about_refunds(intent), cancelling=False)

    assert shop.the_order().payment_status == "refunded"  # and nobody was repaid


def _refund_news(shop: Shop, intent: str, status: str) -> settle.Look:
    total = shop.the_order().total
    with reading():
        seen = refunds.versions(intent)
    return settle.Look([RefundSeen("re_1", intent, total, "eur", status)], refunds=seen)


def _about_refunds(intent: str) -> News:
    return News("evt_refund", "refund.updated", payment_intent=intent, refunds_of=intent)


def test_a_session_that_somebody_else_opened_takes_no_row_of_ours(shop: Shop) -> None:
    """Our own call's answer is lost while a stranger's session with our metadata is paid."""
    bought = shop.shopper().buy()
    with atomic() as session:
        leg = session.scalars(select(StripeLeg)).one()
        leg.stripe_id, leg.url, leg.state = None, None, LegState.CREATING
    shop.pay_elsewhere(bought.order_id, shop.the_order().total)

    shop.deliver_type("checkout.session.completed")
    shop.work()

    legs = {leg.is_ours: (leg.state, leg.stripe_id) for leg in shop.legs(bought.order_id)}
    assert legs[True] == ("creating", None)
    assert legs[False][0] == "complete"
