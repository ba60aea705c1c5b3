"""Paying on a page of ours: a payment intent instead of a session, the same spine behind it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import stripe
from sqlalchemy import select

from domain.facts import LegEnded, LegState, News, Origin
from domain.strategies import Moment, Strategy
from extensions import atomic
from models import CheckoutAttempt, Order, Product
from services import reconcile, settle, snapshots
from services.causes import EXPIRY, SHOPPER
from tests.pages.forms import a_body
from tests.shop import LAMP, MUG, ORIGIN, Shop, Shopper, TestShops
from tests.spine.stripe_says import event as stripe_event
from tests.spine.stripe_says import paid_intent, post
from tests.strategies.conftest import born_by

INITIATE = "/api/stripe/initiate-checkout"
PAYS, DECLINES = "pm_card_visa", "pm_card_chargeDeclined"


@dataclass
class Opened:
    """An intent that a shopper can pay on the shop's own page."""

    shopper: Shopper
    order_id: str
    intent: str
    client_secret: str

    @property
    def shop(self) -> Shop:
        return self.shopper.shop

    def confirm(self, method: str = PAYS) -> str:
        """What the browser does with Stripe's fields; the intent's status afterwards."""
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": self.shop.sandbox.url})
        with contextlib.suppress(stripe.CardError, stripe.InvalidRequestError):
            client.v1.payment_intents.confirm(self.intent, {"payment_method": method})
        return str(self.at_stripe["status"])

    @property
    def at_stripe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.shop.sandbox.store.objects["payment_intent"][self.intent]
        return found

    def tell(self) -> Any:
        """The browser says that it has confirmed."""
        body = {"checkoutAttemptId": self.order_id, "paymentIntentId": self.intent}
        return self.shopper.json("POST", "/api/orders", body)


def initiate(shopper: Shopper, sku: str = MUG, quantity: int = 1, path: str = INITIATE) -> Opened:
    items = [{"sku": sku, "quantity": quantity}]
    answer = shopper.json("POST", path, {**a_body(), "items": items})
    assert answer.status_code == 201, answer.text
    said = answer.get_json()
    return Opened(shopper, said["orderId"], said["paymentIntentId"], said["clientSecret"])


@pytest.fixture
def elements(shops: TestShops, strategy: Strategy) -> Iterator[Shop]:
    with shops.opened(order_strategy=strategy.name, payment_ui="elements") as opened:
        yield opened


@pytest.mark.accept("A12", "O6", "D19")
@pytest.mark.parametrize("path", [INITIATE, "/api/create-payment-intent"])
def test_initiating_opens_one_intent_that_names_the_attempt_and_nothing_else(
    shop: Shop, strategy: Strategy, path: str
) -> None:
    shopper = shop.shopper()
    items = [{"sku": MUG, "quantity": 2}]

    answer = shopper.json("POST", path, {**a_body(), "items": items})

    assert answer.status_code == 201
    said = answer.get_json()
    assert set(said) == {"checkoutAttemptId", "orderId", "clientSecret", "paymentIntentId"}
    assert said["orderId"] == said["checkoutAttemptId"]
    intent = shop.sandbox.store.objects["payment_intent"][said["paymentIntentId"]]
    assert intent["metadata"] == {"checkout_attempt_id": said["orderId"]}
    assert (intent["amount"], intent["currency"]) == (4090, "eur")
    assert intent["client_secret"] == said["clientSecret"]
    (leg,) = shop.legs(said["orderId"])
    assert (leg.kind, leg.stripe_id, leg.amount) == ("payment_intent", intent["id"], 4090)
    assert (shop.count(Order) == 1) == born_by(strategy, Moment.START)
    assert shop.product(MUG).held == 2
    again = shopper.json("POST", path, {**a_body(), "items": items})
    assert again.get_json() == said


@pytest.mark.accept("A18", "A28", "D18")
@pytest.mark.parametrize("first", ["browser", "webhook"])
def test_browser_and_webhook_make_one_order_between_them(shop: Shop, first: str) -> None:
    opened = initiate(shop.shopper(), LAMP, 2)
    assert opened.confirm() == "succeeded"

    answers = []
    for teller in ("browser", "webhook") if first == "browser" else ("webhook", "browser"):
        if teller == "browser":
            answers += [opened.tell(), opened.tell()]
        else:
            shop.deliver_and_work()

    assert [answer.status_code for answer in answers] == [200, 200]
    said = answers[0].get_json()
    assert (said["id"], said["status"], said["paymentStatus"]) == (
        opened.order_id,
        "payment_confirmed",
        "paid",
    )
    assert (said["paymentIntentId"], said["amountReceived"]) == (opened.intent, 7090)
    assert shop.count(Order) == len(shop.payments()) == len(shop.receipts()) == 1
    assert shop.product(LAMP).sold == 2
    assert [leg.state for leg in shop.legs(opened.order_id)] == ["complete"]
    shown = opened.shopper.json("GET", f"/api/orders/{opened.intent}").get_json()
    assert shown["id"] == opened.order_id
    assert shop.proves()


@pytest.mark.accept("A28")
def test_an_unpaid_intent_is_accepted_and_not_decided(shop: Shop, strategy: Strategy) -> None:
    opened = initiate(shop.shopper())

    answer = opened.tell()

    assert answer.status_code == 202
    assert answer.get_json()["status"] == "pending_payment"
    assert (shop.count(Order) == 1) == born_by(strategy, Moment.RETURN)


@pytest.mark.accept("O18", "D20")
def test_every_form_of_the_way_back_opens_the_same_page(elements: Shop) -> None:
    shop = elements
    shopper = shop.shopper()
    shopper.put_in_cart()
    answer = shopper.check_out()
    order_id = answer.location.rsplit("/", 1)[-1]
    assert answer.location == f"/checkout/pay/{order_id}"
    page = shopper.get(answer.location)
    back = re.search(r'data-back="([^"]+)"', page.text)
    assert back
    assert back[1] == f"{ORIGIN}/order-success/{order_id}"
    intent = shop.legs(order_id)[0].stripe_id or ""
    Opened(shopper, order_id, intent, "").confirm()
    query = f"payment_intent={intent}&redirect_status=succeeded"

    for path in (
        f"/order-success/{order_id}?{query}",
        f"/payment/success?{query}",
        f"/orders/{order_id}",
    ):
        assert "Thank you, Maya" in shopper.get(path).text
    stranger = shop.shopper().get(f"/payment/success?{query}")
    assert "Maya" not in stranger.text


@pytest.mark.accept("A11")
def test_the_page_holds_what_stripes_fields_need_and_nothing_of_the_person(elements: Shop) -> None:
    shopper = elements.shopper()
    shopper.put_in_cart(MUG, 2)
    path = shopper.check_out().location

    page = shopper.get(path)

    form = re.search(r'<form [^>]*id="pay-form"[^>]*>', page.text, re.S)
    assert form
    assert 'data-key="pk_test_shop"' in form[0]
    assert "maya" not in form[0].lower()
    csp = page.headers["Content-Security-Policy"]
    assert f"script-src 'self' {elements.sandbox.url};" in csp
    assert "unsafe" not in csp
    assert elements.sandbox.url + "/js/" not in shopper.get("/cart").text
    assert "Pay on a separate page instead" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    (call,) = [c for c in elements.sandbox.requests if c["path"] == "/v1/payment_intents"]
    assert call["params"]["metadata"] == {"checkout_attempt_id": path.rsplit("/", 1)[-1]}


@pytest.mark.fault("F1", "F17")
def test_one_way_to_pay_is_live_at_a_time(shop: Shop) -> None:
    """From our page to Stripe's and back: what was open before can no longer be paid."""
    shopper = shop.shopper()
    opened = initiate(shopper)

    hosted = shopper.opened(shopper.post(f"/checkout/pay/{opened.order_id}/hosted"))
    assert hosted.order_id == opened.order_id
    assert opened.at_stripe["status"] == "canceled"
    back = initiate(shopper)
    assert (back.order_id, hosted.session["status"]) == (opened.order_id, "expired")
    assert back.intent != opened.intent
    assert back.confirm() == "succeeded"

    shop.deliver_and_work()
    assert len(shop.payments()) == len(shop.receipts()) == 1
    assert [leg.kind for leg in shop.legs(opened.order_id)] == [
        "payment_intent",
        "session",
        "payment_intent",
    ]
    assert shop.product(MUG).sold == 1
    assert shop.proves()


@pytest.mark.fault("F17")
def test_switching_after_the_payment_shows_the_order(shop: Shop) -> None:
    opened = initiate(shop.shopper())
    opened.confirm()

    answer = opened.shopper.post(f"/checkout/pay/{opened.order_id}/hosted")

    assert (answer.status_code, answer.location) == (303, f"/orders/{opened.order_id}")
    assert shop.the_order().payment_status == "paid"
    assert shop.sandbox.store.objects["checkout.session"] == {}


@pytest.mark.accept("X3", "V13")
def test_a_declined_card_on_our_page_is_not_the_end(shop: Shop) -> None:
    opened = initiate(shop.shopper())
    assert opened.confirm(DECLINES) == "requires_payment_method"
    shop.deliver_and_work()
    said = opened.shopper.json("GET", f"/api/orders/{opened.order_id}").get_json()
    assert (said["status"], said["paymentStatus"]) == ("pending_payment", "failed")

    opened.confirm()
    shop.deliver_and_work()

    assert shop.the_order().payment_status == "paid"


@pytest.mark.accept("O33", "V14")
@pytest.mark.fault("F16")
def test_intents_never_expire_by_themselves_so_the_clock_cancels_them(shop: Shop) -> None:
    opened = initiate(shop.shopper(), LAMP, 2)
    shop.clock.forward(minutes=61)

    reconcile.sync()

    assert opened.at_stripe["status"] == "canceled"
    assert opened.confirm() == "canceled"
    assert shop.attempt(opened.order_id).status == "expired"
    assert (shop.product(LAMP).free, opened.shopper.cart()) == (2, [(LAMP, 2)])
    assert shop.proves()


@pytest.mark.fault("F16")
def test_an_intent_that_was_paid_in_the_last_minute_is_settled_instead(shop: Shop) -> None:
    opened = initiate(shop.shopper(), LAMP, 2)
    opened.confirm()
    shop.clock.forward(minutes=61)

    settle.settle(opened.order_id, EXPIRY, look=True, end=True)

    assert shop.the_order().payment_status == "paid"
    assert shop.product(LAMP).sold == 2


@pytest.mark.accept("V24", "V28")
def test_a_retry_on_our_page_opens_a_new_intent(shop: Shop) -> None:
    opened = initiate(shop.shopper())
    opened.confirm(DECLINES)

    answer = opened.shopper.json("POST", f"/api/orders/{opened.order_id}/retry-session")

    assert answer.status_code == 201
    assert answer.get_json()["url"] == f"{ORIGIN}/checkout/pay/{opened.order_id}"
    assert opened.at_stripe["status"] == "canceled"
    assert [leg.state for leg in shop.legs(opened.order_id)] == ["canceled", "open"]


@pytest.mark.accept("A17", "X7")
@pytest.mark.fault("F20", "F25")
def test_what_else_stands_in_the_metadata_is_not_read(shop: Shop) -> None:
    """A large context of an older shop, and an amount that somebody changed at Stripe."""
    opened = initiate(shop.shopper())
    total = shop.attempt(opened.order_id).total
    context = {"checkout_context": "x" * 480, "user_id": "7", "total": "1"}
    metadata = {**context, "checkout_attempt_id": opened.order_id}

    wrong = {**paid_intent(opened.intent, total - 1, opened.order_id), "metadata": metadata}
    post(shop, stripe_event("payment_intent.succeeded", wrong))
    shop.work()

    assert [e.type for e in shop.exceptions()] == ["amount_mismatch"]
    assert shop.attempt(opened.order_id).state == "open"
    assert shop.receipts() == []


@pytest.mark.fault("F25")
def test_anothers_ids_open_nothing(shop: Shop) -> None:
    mine, theirs = initiate(shop.shopper()), initiate(shop.shopper())
    calls = [
        {"checkoutAttemptId": theirs.order_id, "paymentIntentId": theirs.intent},
        {"checkoutAttemptId": mine.order_id, "paymentIntentId": theirs.intent},
        {"checkoutAttemptId": mine.order_id, "paymentIntentId": "pi_forged"},
        {"checkoutAttemptId": "x" * 4000, "paymentIntentId": mine.intent},
    ]
    before = shop.count(Order)

    for body in calls:
        answer = mine.shopper.json("POST", "/api/orders", body)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    for body in ({}, {"checkoutAttemptId": 7, "paymentIntentId": []}, {"paymentIntentId": "pi_1"}):
        assert mine.shopper.json("POST", "/api/orders", body).status_code == 422

    assert mine.shopper.get(f"/checkout/pay/{theirs.order_id}").status_code == 404
    assert mine.shopper.post(f"/checkout/pay/{theirs.order_id}/hosted").status_code == 404
    assert shop.count(Order) == before
    assert {attempt.state for attempt in shop.rows(CheckoutAttempt)} == {"open"}


@pytest.mark.fault("F4", "F5", "F6")
@pytest.mark.parametrize("fault", ["effect_then_cut", "stored_500"])
def test_an_intent_whose_answer_was_lost_is_found_again(sqlite_shop: Shop, fault: str) -> None:
    shop = sqlite_shop
    shopper = shop.shopper()
    create = {"next": 9 if fault == "effect_then_cut" else 1, "only": "POST /v1/payment_intents"}
    setattr(shop.sandbox.chaos, fault, create)
    body = {**a_body(), "items": [{"sku": MUG, "quantity": 1}]}
    first = shopper.json("POST", INITIATE, body)

    shop.sandbox.chaos.clear()
    if fault == "effect_then_cut":
        assert first.status_code == 502
        shop.clock.forward(hours=25)  # longer than Stripe keeps keys
        reconcile.sync()
        made = shop.sandbox.store.objects["payment_intent"].values()
        assert [intent["status"] for intent in made] == ["canceled"]
        assert shop.attempt(next(iter(shop.rows(CheckoutAttempt))).id).status == "expired"
    else:
        assert first.status_code == 201
        assert len(shop.sandbox.store.objects["payment_intent"]) == 1
    assert shop.proves()


@pytest.mark.accept("O6")
def test_embedded_checkout_is_a_session_with_a_client_secret(shop: Shop) -> None:
    shopper = shop.shopper()
    body = {**a_body(), "items": [{"sku": MUG, "quantity": 1}], "uiMode": "embedded"}

    answer = shopper.json("POST", "/api/payments/create-checkout-session", body)

    assert answer.status_code == 201
    said = answer.get_json()
    assert set(said) == {"checkoutAttemptId", "orderId", "sessionId", "clientSecret"}
    session = shop.sandbox.store.objects["checkout.session"][said["sessionId"]]
    assert (session["ui_mode"], session["client_secret"]) == ("embedded_page", said["clientSecret"])
    assert session["return_url"] == f"{ORIGIN}/checkout/success?session_id={{CHECKOUT_SESSION_ID}}"
    shop.pay(said["sessionId"])
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"


def test_what_costs_nothing_is_not_asked_for_on_our_page(elements: Shop) -> None:
    with atomic() as session:
        session.scalars(select(Product).where(Product.sku == MUG)).one().prices = {"eur": 0}
    shopper = elements.shopper()

    bought = shopper.buy(MUG, delivery="pickup")

    assert bought.pay_url.startswith(elements.sandbox.url)
    bought.pay()
    elements.deliver_and_work()
    assert elements.the_order().payment_status == "paid"


@pytest.mark.accept("A25")
@pytest.mark.fault("F21")
def test_late_money_on_our_own_page_finds_out_where_the_parcel_goes(
    pay_first: Shop,
) -> None:
    """The person was forgotten a day after the end; the intent kept the address."""
    shop = pay_first
    opened = initiate(shop.shopper(), MUG, 2)
    opened.confirm()
    ended = LegEnded(opened.intent, LegState.CANCELED, origin=Origin(opened.order_id))
    news = News("", "ended", attempt_id=opened.order_id, facts=(ended,))
    settle.settle(opened.order_id, EXPIRY, news=news)
    snapshots.delete(opened.order_id)

    shop.deliver_and_work()

    order = shop.the_order()
    assert (order.payment_status, order.name) == ("paid", "Maya Lindqvist")
    assert order.address is not None
    assert order.address["line1"] == "Sonnenallee 12"


@pytest.mark.fault("F1", "F2")
def test_another_way_to_pay_revives_no_checkout_that_has_ended_meanwhile(shop: Shop) -> None:
    """In one tab it was let go and another one begun, in the other the hosted page was wanted."""
    shopper = shop.shopper()
    opened = initiate(shopper)
    leg = shop.legs(opened.order_id)[-1]
    shopper.post("/checkout/release", {"order_id": opened.order_id})
    other = shopper.opened(shopper.check_out(line1="Another street 1"))

    settle.settle(opened.order_id, SHOPPER, replacing=leg.id, payment_ui="hosted")

    assert shop.attempt(opened.order_id).state == "closed"
    assert len(shop.legs(opened.order_id)) == 1
    assert (other.session["status"], shop.product(MUG).held) == ("open", 1)
    assert shop.proves()
