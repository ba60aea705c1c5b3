"""The API's description and the API itself say the same."""

from __future__ import annotations

import re
from typing import Any

from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from blueprints.openapi import DOCUMENT, PATHS
from tests.pages.forms import a_body
from tests.shop import MUG, PRINTS, Shop

# Below /api/, but a page, and the file itself.
NO_CALLS = {"/api/checkout/success", "/api/openapi.json"}
BESIDES = {"/stripe/webhook", "/webhook", "/healthz", "/readyz"}


def test_every_call_is_described_and_nothing_else(sqlite_shop: Shop) -> None:
    there = {
        (re.sub(r"<(?:[a-z]+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in sqlite_shop.app.url_map.iter_rules()
        if (rule.rule.startswith("/api/") and rule.rule not in NO_CALLS) or rule.rule in BESIDES
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    described = {(path, method) for path, calls in PATHS.items() for method in calls}

    assert described == there


def test_it_is_served_as_it_stands(sqlite_shop: Shop) -> None:
    answer = sqlite_shop.shopper().get("/api/openapi.json")

    assert answer.status_code == 200
    assert answer.get_json() == DOCUMENT


def _check(answer: TestResponse, path: str, method: str) -> Any:
    """The answer has a status and a shape that the description names."""
    described = PATHS[path][method]["responses"]
    assert str(answer.status_code) in described, (path, method, answer.status_code, answer.text)
    content = described[str(answer.status_code)]["content"]
    assert answer.content_type in content
    schema = {**content[answer.content_type]["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(answer.get_json())
    return answer.get_json()


def test_answers_have_the_shapes_that_are_described(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    maya = shop.shopper()
    items = [{"sku": MUG, "quantity": 1}]
    create = "/api/payments/create-checkout-session"
    _check(maya.json("PUT", "/api/cart", {"items": items}), "/api/cart", "put")
    _check(maya.json("GET", "/api/cart"), "/api/cart", "get")
    club_items = [{"sku": PRINTS, "quantity": 1}]
    club = maya.json("PUT", "/api/cart", {"items": club_items})
    assert _check(club, "/api/cart", "put")["items"][0]["plan"]
    _check(maya.json("PUT", "/api/cart", {"items": items}), "/api/cart", "put")
    _check(maya.json("PUT", "/api/cart", {"items": [{}]}), "/api/cart", "put")
    opened = _check(maya.json("POST", create, a_body()), create, "post")
    order_id = opened["orderId"]
    embedded = a_body(uiMode="embedded")
    _check(maya.json("POST", create, embedded), create, "post")
    _check(maya.json("POST", create, {}), create, "post")
    retry = f"/api/orders/{order_id}/retry-session"
    retried = _check(maya.json("POST", retry), "/api/orders/{order_id}/retry-session", "post")
    intent = _check(
        maya.json("POST", "/api/stripe/initiate-checkout", a_body()),
        "/api/stripe/initiate-checkout",
        "post",
    )
    confirmed = {"checkoutAttemptId": order_id, "paymentIntentId": intent["paymentIntentId"]}
    plan = maya.json("POST", "/api/stripe/initiate-checkout", a_body(items=club_items))
    setup = _check(plan, "/api/stripe/initiate-checkout", "post")
    saved = {
        "checkoutAttemptId": setup["orderId"],
        "setupIntentId": setup["clientSecret"].split("_secret_")[0],
    }
    described = PATHS["/api/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for told in (confirmed, saved):
        schema = {**described, "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(told)
        assert _check(maya.json("POST", "/api/orders", told), "/api/orders", "post")["id"]
    _check(maya.json("POST", "/api/orders", {}), "/api/orders", "post")
    by_id, by_session = "/api/orders/{order_or_intent}", "/api/orders/by-session/{session_id}"
    _check(maya.json("GET", f"/api/orders/{order_id}"), by_id, "get")
    _check(maya.json("GET", "/api/orders/nope"), by_id, "get")
    path = f"/api/orders/by-session/{retried['sessionId']}"
    _check(maya.json("GET", path), by_session, "get")
    shop.sandbox.chaos.outage = "503"
    _check(maya.json("POST", create, a_body(items=items)), create, "post")
    shop.sandbox.chaos.clear()

    bought = maya.buy()
    bought.pay()
    shop.deliver_and_work()
    _check(maya.json("GET", f"/api/orders/{bought.order_id}"), by_id, "get")
    refused = maya.json("POST", f"/api/orders/{bought.order_id}/retry-session")
    assert _check(refused, "/api/orders/{order_id}/retry-session", "post")["code"] == "conflict"
    assert (
        _check(maya.json("POST", "/api/admin/sync-orders"), "/api/admin/sync-orders", "post")[
            "status"
        ]
        == 403
    )
