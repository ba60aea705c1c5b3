"""What one process wrote, another reads; killing and flushing on the way lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.processes.conftest import CONTACT, MUG, SHIPPING, Bought, House, Shopper, until

ROUNDS = 20
REMEMBERED = "checkout_attempts WHERE purged_at IS NULL AND snapshot ->> 'contact' IS NOT NULL"


@pytest.mark.accept("P3", "P10", "P13")
def test_what_one_web_process_was_given_a_worker_makes_an_order_of_and_another_shows(
    house: Callable[..., House],
) -> None:
    shop = house(ORDER_STRATEGY="pay_first")
    shop.starts(shop.web_a, shop.web_b, shop.worker)
    shopper = Shopper(shop)

    bought = shopper.checks_out(shop.a, quantity=2)
    shop.worker.hold()
    assert shop.pays(bought.session_id) == "paid"
    until(lambda: shop.number_of("stripe_events WHERE type = 'checkout.session.completed'"))
    assert shop.number_of("orders") == 0  # web B stored the news, and makes no order of it
    shop.worker.let_go()

    order = shopper.sees_paid(shop.b, bought)
    assert (order["id"], order["status"]) == (bought.order_id, "payment_confirmed")
    assert order["items"] == [
        {"sku": MUG, "title": "Enamel mug", "unitAmount": 1800, "quantity": 2}
    ]
    (row,) = shop.rows("SELECT * FROM orders")
    assert (row["strategy"], row["paid_lane"]) == ("pay_first", "webhook")
    assert {name: row[name] for name in CONTACT} == CONTACT
    address = {_words(name): SHIPPING[name] for name in SHIPPING if name != "delivery"}
    assert row["address"] == address
    assert row["delivery"]["code"] == SHIPPING["delivery"]
    assert row["total"] == order["total"] == 3600 + row["delivery"]["amount"]
    assert "Thank you, Maya" in shopper.opens(f"{shop.b}/orders/{bought.order_id}")
    assert shop.proves()


def _words(name: str) -> str:
    return "postal_code" if name == "postalCode" else name


@pytest.mark.accept("P22")
@pytest.mark.fault("F30")
def test_a_checkout_outlives_every_process_that_knew_of_it(house: Callable[..., House]) -> None:
    """Killed between checkout and payment; one shopper pays while nobody is there to be told."""
    shop = house(ORDER_STRATEGY="pay_first")
    shop.starts(shop.web_a, shop.web_b, shop.worker)
    early, late = Shopper(shop), Shopper(shop)
    first, second = early.checks_out(shop.a), late.checks_out(shop.a, quantity=3)

    for process in (shop.web_a, shop.web_b, shop.worker):
        process.kill()
    assert shop.pays(first.session_id) == "paid"
    shop.starts(shop.web_a, shop.web_b, shop.worker)
    assert shop.number_of(REMEMBERED) == 2
    assert shop.pays(second.session_id) == "paid"
    shop.told_again()

    for shopper, bought, quantity in ((early, first, 1), (late, second, 3)):
        order = shopper.sees_paid(shop.b, bought)
        assert [item["quantity"] for item in order["items"]] == [quantity]
    assert shop.number_of("orders WHERE email = 'maya@example.com' AND paid_lane = 'webhook'") == 2
    assert shop.number_of("outbox WHERE kind = 'receipt'") == 2
    assert shop.proves()


@pytest.mark.accept("P24")
@pytest.mark.fault("F21", "F29")
def test_flushing_redis_loses_no_checkout_and_no_news(house: Callable[..., House]) -> None:
    """Between checkout and payment, and again when a worker was rung for and did not come yet."""
    shop = house(ORDER_STRATEGY="pay_first", RECONCILE_SECONDS="3600")
    shop.starts(shop.web_a, shop.web_b, shop.worker)
    early, late = Shopper(shop), Shopper(shop)
    first, second = early.checks_out(shop.a), late.checks_out(shop.a)

    shop.redis.flushall()
    assert shop.pays(first.session_id) == "paid"
    early.sees_paid(shop.b, first)
    shop.worker.hold()
    assert shop.pays(second.session_id) == "paid"
    until(shop.all_told)
    shop.redis.flushall()
    shop.worker.let_go()
    shop.starts(shop.clock)  # which sweeps

    late.sees_paid(shop.b, second)
    assert shop.number_of("orders WHERE paid_lane = 'webhook'") == 2
    assert shop.proves()


@pytest.mark.accept("V26", "V28")
@pytest.mark.fault("F16", "F17")
def test_a_retry_in_one_process_races_the_payment_of_the_old_page(
    house: Callable[..., House],
) -> None:
    """Web A replaces a page that is being paid, while web B and the worker hear of both.

    Whoever pays looks at the page first: longer when the payment won the last round, shorter when
    the retry did, so that the two stay close to each other.
    """
    shop = house(ORDER_STRATEGY="pay_first")
    shop.starts(shop.web_a, shop.web_b, shop.worker)
    shopper, outcomes, looks = Shopper(shop), set(), 0

    for _ in range(ROUNDS):
        old = shopper.checks_out(shop.a)
        paid, retried = _at_once(
            lambda old=old, looks=looks: _looks_and_pays(shop, old, looks),
            lambda old=old: shopper.posts(f"{shop.a}/api/orders/{old.order_id}/retry-session"),
        )
        outcomes.add(paid)
        looks = looks + 2 if paid == "paid" else max(0, looks - 1)
        if paid == "paid":  # then there is nothing to replace
            assert retried.status_code == 409, retried.text
        else:
            assert (paid, retried.status_code) == ("closed", 201), retried.text
            assert retried.json()["previousSessionId"] == old.session_id
            assert shop.pays(retried.json()["sessionId"]) == "paid"
        order = shopper.sees_paid(shop.b, old)
        assert order["amountReceived"] == order["total"]

    assert outcomes == {"paid", "closed"}
    assert shop.number_of("orders") == shop.number_of("payments") == ROUNDS
    assert shop.number_of("outbox WHERE kind = 'receipt'") == ROUNDS
    assert shop.number_of("outbox WHERE kind = 'refund'") == shop.number_of("exceptions") == 0
    (mug,) = shop.rows("SELECT held, sold FROM products WHERE sku = %s", MUG)
    assert (mug["held"], mug["sold"]) == (0, ROUNDS)
    assert shop.proves()


def _looks_and_pays(shop: House, bought: Bought, looks: int) -> str:
    for _ in range(looks):
        requests.get(bought.url, timeout=10)
    return shop.pays(bought.session_id)


def _at_once(*acts: Callable[[], Any]) -> list[Any]:
    gate = threading.Barrier(len(acts))

    def after_the_others(act: Callable[[], Any]) -> Any:
        gate.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(after_the_others, acts))


@pytest.mark.accept("P7", "P14")
@pytest.mark.fault("F22", "F30")
def test_a_crash_on_either_side_of_the_commit_makes_the_order_once(
    house: Callable[..., House],
) -> None:
    """Killed with all of an order written and nothing committed; then killed with the order
    committed and its data not yet forgotten. Each time it waits for a row that we keep locked."""
    shop = house(ORDER_STRATEGY="pay_first", RECONCILE_SECONDS="1")
    shop.starts(shop.web_a, shop.web_b, shop.worker)
    early, late = Shopper(shop), Shopper(shop)
    first, second = early.checks_out(shop.a), late.checks_out(shop.a)
    assert shop.pays(first.session_id) == "paid"
    early.sees_paid(shop.b, first)

    with shop.locked("products"):  # the stock is written last
        assert shop.pays(second.session_id) == "paid"
        until(shop.is_waited_for)
        shop.worker.kill()
    assert shop.number_of("orders") == shop.number_of("payments") == 1
    assert shop.number_of(REMEMBERED) == 2

    with shop.locked(f"stripe_legs WHERE attempt_id = '{first.order_id}'"):
        sync = shop.process("sync")
        sync.start()
        until(shop.is_waited_for)
        sync.kill()
    assert shop.number_of("orders") == shop.number_of("payments") == 2
    assert shop.number_of(REMEMBERED) == 2

    assert shop.runs("sync").returncode == 0
    assert shop.number_of(REMEMBERED) == 0
    assert "Thank you, Maya" in late.opens(
        f"{shop.a}/checkout/success?session_id={second.session_id}"
    )
    assert shop.number_of("orders") == shop.number_of("outbox WHERE kind = 'receipt'") == 2
    assert shop.number_of("checkout_attempts WHERE purged_at IS NOT NULL") == 2
    assert shop.proves()
