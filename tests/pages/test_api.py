"""The JSON side: what it answers, and that every error is application/problem+json."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import TestResponse

from models import CartItem, CheckoutAttempt, Order
from tests.pages.forms import CONTACT, SHIPPING, a_body
from tests.shop import KETTLE, LAMP, MUG, ORIGIN, Shop

CREATE = "/api/payments/create-checkout-session"
ADDRESSES = [CREATE, "/api/checkout/create-session"]


def problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The error, which has the shape of RFC 9457."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    said: dict[str, Any] = answer.get_json()
    assert said["status"] == status
    assert said["code"] == code
    assert said["title"] and said["detail"] and said["type"]
    return said


@pytest.mark.parametrize("address", ADDRESSES)
def test_creating_a_session_answers_with_order_session_and_page(
    sqlite_shop: Shop, address: str
) -> None:
    shopper = sqlite_shop.shopper()
    answer = shopper.json("POST", address, a_body(items=[{"sku": MUG, "quantity": 2}]))

    assert answer.status_code == 201
    said = answer.get_json()
    assert set(said) == {"checkoutAttemptId", "orderId", "sessionId", "url"}
    assert said["orderId"] == said["checkoutAttemptId"] == sqlite_shop.the_order().id
    assert said["sessionId"] in said["url"]
    assert sqlite_shop.pay(said["sessionId"])["outcome"] == "paid"


def test_a_session_buys_the_cart_when_no_items_are_named(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    put = shopper.json("PUT", "/api/cart", {"items": [{"sku": LAMP, "quantity": 2}]})
    assert put.get_json() == {
        "currency": "eur",
        "items": [
            {
                "sku": LAMP,
                "title": "Desk lamp",
                "quantity": 2,
                "unitAmount": 3300,
                "amount": 6600,
            }
        ],
        "subtotal": 6600,
    }
    assert shopper.json("GET", "/api/cart").get_json() == put.get_json()

    answer = shopper.json("POST", CREATE, a_body())

    assert answer.status_code == 201
    assert sqlite_shop.the_order().subtotal == 6600
    assert shopper.json("GET", "/api/cart").get_json()["items"] == []


def test_the_cart_adds_up_lines_named_twice_and_can_be_emptied(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    twice = [{"sku": MUG, "quantity": 1}, {"sku": MUG, "quantity": "2"}]
    assert shopper.json("PUT", "/api/cart", {"items": twice}).status_code == 200
    assert shopper.cart() == [(MUG, 3)]

    assert shopper.json("PUT", "/api/cart", {"items": []}).status_code == 200
    assert shopper.cart() == []


@pytest.mark.accept("O16", "V1", "V11", "V19")
def test_an_order_reads_the_same_by_its_session_its_id_and_its_intent(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy(MUG, 2)
    by_session = f"/api/orders/by-session/{checkout.session_id}"
    waiting = shopper.json("GET", by_session).get_json()
    placed_at = sqlite_shop.clock.now().isoformat()

    assert waiting == {
        "id": checkout.order_id,
        "number": f"NL-{sqlite_shop.the_order().number}",
        "status": "pending_payment",
        "paymentStatus": "pending",
        "isProvisional": False,
        "syncStatus": "syncing",
        "currency": "eur",
        "subtotal": 3600,
        "discount": 0,
        "shipping": 490,
        "tax": 0,
        "total": 4090,
        "items": [{"sku": MUG, "title": "Enamel mug", "unitAmount": 1800, "quantity": 2}],
        "sessionId": checkout.session_id,
        "createdAt": placed_at,
        "updatedAt": placed_at,
    }

    sqlite_shop.clock.forward(seconds=30)
    intent = checkout.pay()["session"]["payment_intent"]
    sqlite_shop.deliver_and_work()
    paid = shopper.json("GET", by_session).get_json()

    moved = {
        "status": "payment_confirmed",
        "paymentStatus": "paid",
        "syncStatus": "synced",
        "paymentIntentId": intent,
        "amountReceived": 4090,
        "updatedAt": sqlite_shop.clock.now().isoformat(),
    }
    assert paid == {**waiting, **moved}
    (payment,) = sqlite_shop.payments()
    known = (payment.payment_intent, payment.amount, payment.currency, payment.role)
    assert known == (intent, 4090, "eur", "settles")
    for key in (checkout.order_id, intent):
        assert shopper.json("GET", f"/api/orders/{key}").get_json() == paid


@pytest.mark.accept("V13")
def test_a_decline_is_told_with_its_reason(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    checkout.pay("4000000000009995")
    sqlite_shop.deliver_and_work()

    said = shopper.json("GET", f"/api/orders/{checkout.order_id}").get_json()

    assert (said["status"], said["paymentStatus"]) == ("pending_payment", "failed")
    assert said["failureReason"] == "insufficient_funds"


UNKNOWN = ["by-session/cs_none", "by-session/%F0%9F%92%A5", "pi_none", "nope", "0" * 5000, "%2e"]


@pytest.mark.accept("V19")
def test_an_unknown_order_is_not_found(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    for path in UNKNOWN:
        problem(shopper.get(f"/api/orders/{path}"), 404, "not_found")


def test_an_unknown_address_and_a_wrong_verb_are_told_apart(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()

    problem(shopper.get("/api/nothing-here"), 404, "not_found")
    problem(shopper.get(CREATE), 405, "method_not_allowed")
    problem(shopper.json("DELETE", "/api/cart"), 405, "method_not_allowed")


def test_a_call_without_the_pages_token_is_refused(sqlite_shop: Shop) -> None:
    stranger = sqlite_shop.app.test_client()
    for method, path in (("PUT", "/api/cart"), ("POST", CREATE)):
        problem(stranger.open(path, method=method, json={}, base_url=ORIGIN), 400, "csrf")


def test_a_call_from_another_site_is_refused(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    headers = {"X-CSRFToken": shopper.token(), "Origin": "https://evil.example"}
    answer = shopper.browser.put("/api/cart", json={"items": []}, headers=headers, base_url=ORIGIN)

    problem(answer, 403, "forbidden")


NO_OBJECTS = [
    (b"sku=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    (b"{}", "text/plain", 415, "unsupported_media_type"),
    (b"", "application/json", 400, "bad_request"),
    (b"{", "application/json", 400, "bad_request"),
    (b"\xff\xfe", "application/json", 400, "bad_request"),
    (b'{"items": ' + b"9" * 5000 + b"}", "application/json", 400, "bad_request"),
    (b"[" * 200_000, "application/json", 400, "bad_request"),
    (b"[]", "application/json", 422, "invalid"),
    (b"null", "application/json", 422, "invalid"),
    (b'"text"', "application/json", 422, "invalid"),
    (b" " * 600_000 + b"{}", "application/json", 413, "request_entity_too_large"),
]


def test_a_body_that_is_no_json_object_is_refused(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    token = shopper.token()
    for method, path in (("PUT", "/api/cart"), ("POST", CREATE)):
        for body, content_type, status, code in NO_OBJECTS:
            headers = {"X-CSRFToken": token, "Content-Type": content_type}
            answer = shopper.browser.open(
                path, method=method, data=body, headers=headers, base_url=ORIGIN
            )
            problem(answer, status, code)


NO_ITEMS = [
    None,
    {},
    "MUG",
    7,
    [1],
    [None],
    [[]],
    [{}],
    [{"sku": None, "quantity": 1}],
    [{"sku": 7, "quantity": 1}],
    [{"sku": ["x"], "quantity": 1}],
    [{"sku": MUG, "quantity": 1}] * 101,
]


def test_items_must_be_lines_of_sku_and_quantity(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart()
    for items in NO_ITEMS:
        problem(shopper.json("PUT", "/api/cart", {"items": items}), 422, "invalid")
        problem(shopper.json("POST", CREATE, {**a_body(), "items": items}), 422, "invalid")
    assert shopper.cart() == [(MUG, 1)]
    assert sqlite_shop.count(CheckoutAttempt) == 0


WRONG_FIELDS = [
    ("contact", None, "contact"),
    ("contact", "Maya", "contact"),
    ("contact", {**CONTACT, "name": ""}, "contact.name"),
    ("contact", {**CONTACT, "name": " \t\u0000 "}, "contact.name"),
    ("contact", {**CONTACT, "name": 7}, "contact.name"),
    ("contact", {**CONTACT, "name": "x" * 121}, "contact.name"),
    ("contact", {"name": "Maya"}, "contact.email"),
    ("contact", {**CONTACT, "email": "maya"}, "contact.email"),
    ("contact", {**CONTACT, "email": "maya@example.com, b@example.com"}, "contact.email"),
    ("contact", {**CONTACT, "email": f"{'x' * 250}@example.com"}, "contact.email"),
    ("contact", {**CONTACT, "email": "жук@example.com"}, "contact.email"),
    ("contact", {**CONTACT, "phone": "1" * 41}, "contact.phone"),
    ("contact", {**CONTACT, "phone": 491}, "contact.phone"),
    ("shipping", None, "shipping"),
    ("shipping", [SHIPPING], "shipping"),
    ("shipping", {**SHIPPING, "line1": None}, "shipping.line1"),
    ("shipping", {**SHIPPING, "line1": "x" * 201}, "shipping.line1"),
    ("shipping", {**SHIPPING, "line2": {}}, "shipping.line2"),
    ("shipping", {**SHIPPING, "city": "\ud800"}, "shipping.city"),
    ("shipping", {**SHIPPING, "postalCode": "1" * 21}, "shipping.postalCode"),
    ("shipping", {**SHIPPING, "state": True}, "shipping.state"),
    ("shipping", {**SHIPPING, "country": "Germany"}, "shipping.country"),
    ("shipping", {**SHIPPING, "country": "XX"}, "shipping.country"),
    ("shipping", {**SHIPPING, "delivery": "by owl"}, "shipping.delivery"),
    ("shipping", {**SHIPPING, "delivery": 1}, "shipping.delivery"),
    ("uiMode", "custom", "uiMode"),
    ("uiMode", [], "uiMode"),
]


def test_a_field_that_is_wrong_is_named_and_nothing_is_written(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart()
    for part, value, named in WRONG_FIELDS:
        said = problem(shopper.json("POST", CREATE, {**a_body(), part: value}), 422, "invalid")
        assert said["detail"].startswith(f"{named} must be")

    assert sqlite_shop.count(Order) == sqlite_shop.count(CheckoutAttempt) == 0
    assert shopper.cart() == [(MUG, 1)]


def test_what_the_shop_cannot_sell_now_is_a_conflict(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()

    problem(shopper.json("POST", CREATE, a_body()), 409, "cart_empty")
    for sku, quantity in ((LAMP, 3), (KETTLE, 1)):
        items = [{"sku": MUG, "quantity": 1}, {"sku": sku, "quantity": quantity}]
        problem(shopper.json("PUT", "/api/cart", {"items": items}), 409, "out_of_stock")
        problem(shopper.json("POST", CREATE, a_body(items=items)), 409, "out_of_stock")
    assert sqlite_shop.count(CartItem) == sqlite_shop.count(CheckoutAttempt) == 0


@pytest.mark.fault("F2")
def test_a_checkout_that_was_paid_meanwhile_is_a_conflict(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.buy().pay()
    shopper.put_in_cart(LAMP)

    said = problem(shopper.json("POST", CREATE, a_body()), 409, "conflict")

    assert "is paid" in said["detail"]
    assert shopper.cart() == [(LAMP, 1)]


def test_optional_fields_may_be_left_out_or_empty(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart()
    shipping = {**SHIPPING, "country": "de", "line2": "", "state": None, "delivery": "pickup"}
    contact = {**CONTACT, "phone": ""}
    answer = shopper.json("POST", CREATE, a_body(contact=contact, shipping=shipping))

    assert answer.status_code == 201
    order = sqlite_shop.the_order()
    assert (order.total, order.phone, order.address["country"]) == (1800, None, "DE")
