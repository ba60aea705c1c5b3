"""Every failure below /api/ is application/problem+json, whatever was sent and wherever to."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from blueprints.openapi import DOCUMENT, PATHS
from extensions import limiter
from tests.pages.forms import CONTACT, SHIPPING, a_body
from tests.shop import MUG, ORIGIN, Shop, outside

PROBLEM = {
    **DOCUMENT["components"]["schemas"]["Problem"],
    "components": DOCUMENT["components"],
}
WITH_BODY = [
    (method.upper(), path)
    for path, calls in PATHS.items()
    for method, call in calls.items()
    if "requestBody" in call and "webhook" not in path
]
UGLY: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud800",
    "\udfff\ud800",
    "\u202eevil",
    "x" * 100_000,
    "%00",
    "'; DROP TABLE orders; --",
    "{{ 7 * 7 }}",
    [],
    [[]],
    {},
    {"$ne": None},
    {"": ""},
]
UGLY_BYTES = [
    b"",
    b"\x00",
    b"{",
    b"\xff\xfe\x00",
    b'{"items": "\xc3\x28"}',
    b'{"items": NaN}',
    b'{"items": Infinity}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"items": ' + b"9" * 5_000 + b"}",
    b'{"items": 1e999999}',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    "{}".encode("utf-32"),
    b'{"items": [], "items": {}}',
]
TYPES = [
    None,
    "",
    "text/plain",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-7",
    "application/json; charset=nonsense",
    "\x7f/\x7f",
]


def is_told_well(answer: TestResponse, method: str, path: str) -> None:
    """A documented failure in its shape, or (for what turns out to be harmless) an answer."""
    described = PATHS[path][method.lower()]["responses"]
    assert str(answer.status_code) in described, (method, path, answer.status_code, answer.text)
    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert answer.content_type == "application/problem+json"
        Draft202012Validator(PROBLEM).validate(answer.get_json())
        assert answer.get_json()["status"] == answer.status_code


def bodies(path: str) -> list[Any]:
    """Bodies of this call with one part after the other turned ugly."""
    whole: dict[str, Any]
    if path == "/api/orders":
        whole = {"checkoutAttemptId": "x", "paymentIntentId": "pi_x"}
    elif path == "/api/cart":
        whole = {"items": [{"sku": MUG, "quantity": 1}]}
    else:
        whole = {**a_body(), "items": [{"sku": MUG, "quantity": 1}], "uiMode": "hosted"}
    made = [*UGLY]
    for ugly in UGLY:
        made += [{**whole, name: ugly} for name in whole]
        if "items" in whole:
            line = {"sku": MUG, "quantity": 1}
            made += [{**whole, "items": [{**line, name: ugly}]} for name in line]
        if "contact" in whole:
            made += [{**whole, "contact": {**CONTACT, name: ugly}} for name in CONTACT]
            made += [{**whole, "shipping": {**SHIPPING, name: ugly}} for name in SHIPPING]
    return made


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_no_body_is_too_ugly_to_be_told_what_is_wrong_with_it(
    postgres_shop: Shop, method: str, path: str
) -> None:
    """On PostgreSQL, which is stricter about what text and numbers are."""
    shopper = postgres_shop.shopper()
    headers = {"X-CSRFToken": shopper.token()}
    wrong = 0
    made = bodies(path)
    if "create" in path and path != "/api/payments/create-checkout-session":
        made = made[::7]  # another address of the same call
    for body in made:
        answer = outside(
            shopper.browser.open,
            path,
            method=method,
            data=json.dumps(body),
            content_type="application/json",
            headers=headers,
            base_url=ORIGIN,
        )
        is_told_well(answer, method, path)
        wrong += answer.status_code >= 400
    assert wrong > len(made) // 2
    for data in UGLY_BYTES:
        for content_type in ("application/json", "application/vnd.api+json"):
            about = {"data": data, "content_type": content_type, "headers": headers}
            is_told_well(
                outside(shopper.browser.open, path, method=method, base_url=ORIGIN, **about),
                method,
                path,
            )
    for content_type in TYPES:
        about = {"data": b"{}", "content_type": content_type, "headers": headers}
        answer = outside(shopper.browser.open, path, method=method, base_url=ORIGIN, **about)
        is_told_well(answer, method, path)
    assert postgres_shop.shopper().get("/api/cart").status_code == 200


UGLY_IDS = ["%00", "%ff", "%ed%a0%80", "a" * 6000, "..%2f..%2fetc", "%F0%9F%92%A9", "1e9", "-1",
            "pi_" + "9" * 300, "%0d%0aX: y", "{{7*7}}", "'", "*"]  # fmt: skip


def test_no_id_is_too_ugly_either(shop: Shop) -> None:
    shopper = shop.shopper()
    for path in (path for path in PATHS if "{" in path):
        for method in PATHS[path]:
            for ugly in UGLY_IDS:
                address = re.sub(r"\{\w+\}", ugly, path)
                answer = shopper.json(method.upper(), address)
                assert answer.status_code in (400, 404), (address, answer.status_code)
                assert answer.content_type == "application/problem+json", address


def test_a_method_that_is_not_there_is_told_which_are(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    methods = ("GET", "POST", "PUT", "PATCH", "DELETE")
    for path, calls in PATHS.items():
        if not path.startswith("/api/"):
            continue
        address = re.sub(r"\{\w+\}", "x", path)
        there = {method.upper() for method in calls}
        for method in set(methods) - there:
            if (method, path) == ("POST", "/api/orders/{order_or_intent}"):
                continue
            answer = shopper.json(method, address)
            assert answer.status_code == 405, (method, path)
            assert answer.content_type == "application/problem+json"
            assert there <= set(answer.headers["Allow"].split(", ")), path
    answer = shopper.json("POST", "/api/nothing")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_too_much_and_too_often_are_told_as_such(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    headers = {"X-CSRFToken": shopper.token(), "Content-Type": "application/json"}
    large = b'{"items": "' + b"x" * 600_000 + b'"}'
    for method, path in WITH_BODY:
        about = {"data": large, "headers": headers, "base_url": ORIGIN}
        answer = outside(shopper.browser.open, path, method=method, **about)
        assert answer.status_code == 413
        is_told_well(answer, method, path)
    limiter.enabled = True
    limiter.reset()
    try:
        for method, path, often in (
            ("POST", "/api/payments/create-checkout-session", 30),
            ("POST", "/api/stripe/initiate-checkout", 30),
            ("POST", "/api/orders", 120),
        ):
            told = [shopper.json(method, path, {}) for _ in range(often + 1)]
            assert [one.status_code for one in told] == [422] * often + [429]
            is_told_well(told[-1], method, path)
            assert 0 <= int(told[-1].headers["Retry-After"]) <= 60
    finally:
        limiter.reset()
        limiter.enabled = False
