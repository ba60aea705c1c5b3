"""The shopper is back: Stripe is asked, not the address bar, and each end has a page."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

import pytest
import stripe

from domain.strategies import Moment, Strategy
from models import CheckoutAttempt, Order
from services import inbox, settings
from tests.shop import MUG, ORIGIN, Shop, TestShops
from tests.strategies.conftest import born_by, has_order

FORGED = [
    "cs_test_forged",
    "cs_test_" + "x" * 4000,
    "pi_123",
    "../orders",
    "💥",
    "' OR 1=1 --",
    "%00",
]


@pytest.mark.accept("P11", "P17")
@pytest.mark.fault("F25")
def test_a_forged_session_id_opens_no_order(shop: Shop, strategy: Strategy) -> None:
    shopper = shop.shopper()
    bought = shopper.buy()
    asked_for = has_order(shop, bought)

    for forged in FORGED:
        page = shopper.browser.get(
            "/checkout/success", query_string={"session_id": forged}, base_url=ORIGIN
        )
        assert page.status_code in (400, 404), forged
        assert "Traceback" not in page.text

    assert has_order(shop, bought) == asked_for
    assert (shop.payments(), shop.attempt(bought.order_id).state) == ([], "open")
    assert shop.exceptions() == []


@pytest.mark.accept("P17")
def test_a_return_without_a_session_id_says_so(shop: Shop) -> None:
    page = shop.shopper().get("/checkout/success")

    assert page.status_code == 404
    assert "sent you back without a reference" in page.text


@pytest.mark.accept("P9", "P15")
def test_checkout_leads_to_stripe_and_the_way_back_is_named_before(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy()

    assert bought.pay_url.startswith(f"{shop.sandbox.url}/c/pay/{bought.session_id}")
    success = bought.session["success_url"]
    assert success == f"{ORIGIN}/checkout/success?session_id={{CHECKOUT_SESSION_ID}}"
    paid = bought.pay()
    assert paid["redirect"] == f"{ORIGIN}/checkout/success?session_id={bought.session_id}"
    assert "all set" in shopper.get(paid["redirect"].removeprefix(ORIGIN)).text


@pytest.mark.accept("P12", "P20")
@pytest.mark.parametrize(
    ("way", "head"),
    [
        (None, "Confirming your payment"),
        ("4000000000009995", "The payment didn’t go through"),
        ("bank_debit", "Your bank is taking its time"),
    ],
)
def test_the_page_says_how_an_unpaid_session_stands_and_makes_no_order_of_it(
    shop: Shop, strategy: Strategy, way: str | None, head: str
) -> None:
    shopper = shop.shopper()
    bought = shopper.buy()
    if way:
        bought.pay(way)

    page = shopper.come_back(bought)

    assert head in page.text
    assert has_order(shop, bought) == born_by(strategy, Moment.RETURN)
    if order := shop.order(bought.order_id):
        assert order.status == "pending_payment"
    assert shop.receipts() == []


def _somebody_elses_session(shop: Shop, **more: Any) -> str:
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "success_url": "https://elsewhere.example/thanks",
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "eur",
                        "unit_amount": 900,
                        "product_data": {"name": "Something"},
                    },
                }
            ],
            **more,
        }
    )
    return str(session.id)


@pytest.mark.accept("P18", "A22", "O24")
@pytest.mark.fault("F25")
def test_a_session_that_names_no_checkout_has_a_page_of_its_own(shop: Shop) -> None:
    session_id = _somebody_elses_session(shop)
    shop.pay(session_id)

    page = shop.shopper().get(f"/checkout/success?session_id={session_id}")

    assert (page.status_code, "Order data reference not found" in page.text) == (404, True)
    shop.deliver_and_work()
    assert (shop.count(Order), shop.exceptions()) == (0, [])
    told = [e for e in shop.events() if e.type == "checkout.session.completed"]
    assert [e.state for e in told] == ["ignored"]
    assert "metadata names none" in (told[0].error or "")


@pytest.mark.accept("P19", "A25", "X10")
@pytest.mark.fault("F14", "F21", "F25")
@pytest.mark.parametrize("named", ["0b9be1e6-0000-4000-8000-000000000000", "x" * 480])
def test_a_payment_whose_checkout_is_unknown_is_not_lost(shop: Shop, named: str) -> None:
    """Another shop on the same account, or one of ours that nothing is left of."""
    link = {"checkout_attempt_id": named}
    session_id = _somebody_elses_session(
        shop, metadata=link, payment_intent_data={"metadata": link}
    )
    intent = shop.pay(session_id)["session"]["payment_intent"]

    for _ in range(2):
        page = shop.shopper().get(f"/checkout/success?session_id={session_id}")
        assert page.status_code == 404
        assert "Order data not found or expired" in page.text
        assert "start your checkout again" in page.text

    assert shop.count(Order) == shop.count(CheckoutAttempt) == 0
    (exception,) = shop.exceptions()
    assert (exception.type, exception.stripe_id, exception.amount) == (
        "unmatched_payment",
        intent,
        900,
    )
    shop.deliver_and_work()
    assert len(shop.exceptions()) == 1
    assert shop.proves()


@pytest.mark.accept("P19")
def test_an_unpaid_session_of_a_checkout_that_is_gone_calls_nobody(shop: Shop) -> None:
    link = {"checkout_attempt_id": "0b9be1e6-0000-4000-8000-000000000000"}
    session_id = _somebody_elses_session(shop, metadata=link)

    page = shop.shopper().get(f"/checkout/success?session_id={session_id}")

    assert "Order data not found or expired" in page.text
    assert shop.exceptions() == []


@pytest.mark.accept("D33", "D35")
def test_with_the_look_up_switched_off_the_page_waits_for_the_webhook(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy()
    settings.change("ada", "Stripe is slow today", landing_lookup=False)
    bought.pay()
    shop.sandbox.requests.clear()

    page = shopper.come_back(bought)

    assert "Confirming your payment" in page.text
    assert list(shop.sandbox.requests) == []
    shop.deliver_and_work()
    assert "all set" in shopper.come_back(bought).text


@pytest.mark.accept("P21", "D14")
@pytest.mark.fault("F7", "F35")
def test_the_success_page_opened_many_times_at_once_makes_one_order(
    postgres_shops: TestShops, strategy: Strategy
) -> None:
    with postgres_shops.opened(order_strategy=strategy.name) as shop:
        shopper = shop.shopper()
        bought = shopper.buy(MUG, 2)
        bought.pay()
        shop.deliver()
        cookie = shopper.browser.get_cookie("shop", domain="shop.test")
        assert cookie is not None

        def opens(number: int) -> str:
            if number == 0:
                with shop.app.app_context():
                    inbox.drain()
                return ""
            browser = shop.app.test_client()
            browser.set_cookie("shop", cookie.value, domain="shop.test")
            path = f"/checkout/success?session_id={bought.session_id}"
            return Context().run(browser.get, path, base_url=ORIGIN).text  # type: ignore[no-any-return]

        with ThreadPoolExecutor(6) as pool:
            pages = list(pool.map(opens, range(6)))
        shop.work()

        assert all("all set" in page for page in pages if page)
        assert shop.count(Order) == len(shop.payments()) == len(shop.receipts()) == 1
        assert shop.product(MUG).sold == 2
        moves = [row.to_status for row in shop.history(bought.order_id) if row.kind == "transition"]
        assert moves == ["pending_payment", "payment_confirmed"]
        assert shop.proves()


@pytest.mark.accept("P10", "P20")
def test_who_has_paid_never_finds_an_empty_list(shop: Shop, strategy: Strategy) -> None:
    """A bank debit takes days; where no order is made before the money, the checkout is listed."""
    shopper = shop.shopper()
    bought = shopper.buy()
    bought.pay("bank_debit")
    shopper.come_back(bought)

    page = shopper.get("/orders").text

    assert "No orders in this browser yet" not in page
    assert f'href="/orders/{bought.order_id}"' in page
    assert "Confirming" in page or "Waiting for payment" in page
    assert bought.order_id not in shop.shopper().get("/orders").text


def test_no_page_of_a_shopper_shows_a_word_of_the_trade(shop: Shop) -> None:
    shopper = shop.shopper()
    bought = shopper.buy()
    pages = [
        shopper.come_back(bought).text,
        shopper.get(f"/checkout/cancel?attempt={bought.order_id}").text,
        shopper.get("/checkout/success?session_id=cs_none").text,
        shopper.get("/cart").text,
    ]

    for page in pages:
        said = re.sub(r"<(script|style)[^>]*>.*?</\1>|<[^>]+>", " ", page, flags=re.S).lower()
        assert not re.search(r"\b(webhook|session|intent|provisional|strategy)\b", said)
