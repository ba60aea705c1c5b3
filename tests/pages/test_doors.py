"""Every address of the shop, taken from its own map: a new one has to keep these rules too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.routing import Rule

from extensions import db, reading
from models import Order, Subscription
from services import links
from tests.pages.conftest import signed_in
from tests.shop import COFFEE, LAMP, MUG, ORIGIN, Checkout, Shop, Shopper

SAFE = {"GET", "HEAD", "OPTIONS"}
WEBHOOKS = {"/stripe/webhook", "/webhook", "/api/payments/webhook", "/api/stripe/webhook",
            "/api/webhooks"}  # fmt: skip
# Private pages may be kept by nobody, the shelf only by the visitor's own browser.
SHELF = {"/", "/products/<slug>", "/currency", "/language"}


@pytest.fixture
def bought(sqlite_shop: Shop) -> Checkout:
    """A paid order with a subscription, so that every address with an id has something to show."""
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(COFFEE)
    checkout = shopper.buy()
    checkout.pay()
    sqlite_shop.deliver_and_work()
    return checkout


def rules(shop: Shop) -> Iterator[Rule]:
    found = [rule for rule in shop.app.url_map.iter_rules() if rule.endpoint != "static"]
    assert len(found) > 30
    yield from found


def address(rule: Rule, checkout: Checkout) -> str:
    """An address of this rule that leads to something."""
    known: dict[str, Any] = {
        "order_id": checkout.order_id,
        "attempt_id": checkout.order_id,
        "order_or_intent": checkout.order_id,
        "session_id": checkout.session_id,
        "slug": "enamel-mug",
        "sku": MUG,
        "exception_id": 1,
        "note_id": 1,
        "event_id": checkout.shopper.shop.events()[0].id,
        "message_id": checkout.shopper.shop.receipts()[0].id,
        "row_id": checkout.shopper.shop.rows(Subscription)[0].id,
    }
    path = rule.rule
    for name in rule.arguments:
        path = re.sub(rf"<(?:[a-z]+(?:\([^)]*\))?:)?{name}>", str(known[name]), path)
    return path + {
        "/checkout/success": f"?session_id={checkout.session_id}",
        "/api/checkout/success": f"?session_id={checkout.session_id}",
        "/payment/success": f"?payment_intent={checkout.session['payment_intent']}",
        "/checkout/cancel": f"?attempt={checkout.order_id}",
    }.get(rule.rule, "")


def everything(shop: Shop) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with reading() as session:
        return {
            table.name: sorted(map(repr, session.execute(table.select())))
            for table in db.metadata.sorted_tables
        }


def test_every_unsafe_address_but_stripes_needs_the_pages_token(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    admin = signed_in(sqlite_shop)
    people = (bought.shopper, admin, sqlite_shop.shopper())
    asked = 0
    before = everything(sqlite_shop)
    for rule in rules(sqlite_shop):
        for method in (rule.methods or set()) - SAFE:
            if rule.rule in WEBHOOKS:
                continue
            asked += 1
            for person in people:
                bare = {"base_url": ORIGIN, "method": method}
                wrong = {"X-CSRFToken": "wrong"}
                path = address(rule, bought)
                closed = rule.rule.startswith("/api/admin/") and person is not admin
                refused = 403 if closed else 400
                for headers in ({}, wrong):
                    answer = person.browser.open(path, headers=headers, **bare)
                    assert answer.status_code == refused, rule
    assert asked >= 15
    assert everything(sqlite_shop) == before


def test_the_token_of_another_browser_is_worth_nothing(sqlite_shop: Shop) -> None:
    mine, theirs = sqlite_shop.shopper(), sqlite_shop.shopper()
    form = {"csrf_token": theirs.token(), "sku": MUG, "quantity": "1"}

    assert mine.browser.post("/cart/items", data=form, base_url=ORIGIN).status_code == 400


def test_an_unsafe_request_from_another_site_does_nothing(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    form = {"sku": MUG, "quantity": "1"}
    for origin in (
        "https://evil.example",
        "http://shop.test.evil.example",
        "http://shop.test:81",
        "http://[",
        "shop.test",
        "",
    ):
        assert shopper.post("/cart/items", form, headers={"Origin": origin}).status_code == 403
    assert shopper.post("/cart/items", form, headers={"Origin": ORIGIN}).status_code == 303
    assert shopper.cart() == [(MUG, 1)]


def test_looking_changes_nothing(sqlite_shop: Shop, bought: Checkout) -> None:
    admin = signed_in(sqlite_shop)
    bought.shopper.put_in_cart(LAMP)
    before = everything(sqlite_shop)
    for rule in rules(sqlite_shop):
        if "GET" in (rule.methods or set()):
            for person in (bought.shopper, admin, sqlite_shop.shopper()):
                person.get(address(rule, bought), buffered=True)  # a stream to its end

    assert everything(sqlite_shop) == before


def test_looking_around_sets_no_shopper(sqlite_shop: Shop) -> None:
    visitor = sqlite_shop.shopper()
    for path in ("/", "/products/enamel-mug", "/cart", "/checkout", "/orders", "/orders/find"):
        visitor.get(path)
    with visitor.browser.session_transaction(base_url=ORIGIN) as session:
        assert "shopper" not in session


def test_the_counter_is_closed_to_everybody_else(sqlite_shop: Shop, bought: Checkout) -> None:
    admins = [rule for rule in rules(sqlite_shop) if rule.rule.startswith("/admin")]
    inside = [rule for rule in admins if rule.rule != "/admin/login"]
    assert len(inside) >= 6
    before = everything(sqlite_shop)
    for person in (bought.shopper, sqlite_shop.shopper()):
        for rule in inside:
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                answer = open_as(person, method, address(rule, bought))
                assert (answer.status_code, answer.location) == (303, "/admin/login"), rule
                assert "maya@example.com" not in answer.text
    assert everything(sqlite_shop) == before
    for rule in inside:
        if rule.methods and "GET" in rule.methods:
            answer = signed_in(sqlite_shop).get(address(rule, bought))
            assert answer.status_code in (200, 303, 422)  # or what it asks for is said


def open_as(person: Shopper, method: str, path: str) -> Any:
    return person.get(path, buffered=True) if method == "GET" else person.post(path)


HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def test_every_answer_carries_the_headers_that_guard_it(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    admin = signed_in(sqlite_shop)
    bought.shopper.put_in_cart(LAMP)
    for rule in rules(sqlite_shop):
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            person = admin if rule.rule.startswith("/admin") else bought.shopper
            answer = open_as(person, method, address(rule, bought))
            for name, value in HEADERS.items():
                assert answer.headers[name] == value, rule
            policy = answer.headers["Content-Security-Policy"]
            assert "unsafe" not in policy and "*" not in policy and "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy
            kept = answer.headers["Cache-Control"]
            assert kept == ("private, no-cache" if rule.rule in SHELF else "no-store"), rule
            assert {"Cookie", "HX-Request"} <= set(answer.vary), rule
            if answer.content_type.startswith("text/html") and answer.status_code < 300:
                assert no_inline(answer.text), rule


def no_inline(page: str) -> bool:
    """Nothing on the page that its own policy would refuse to run."""
    scripts = re.findall(r"<script(?![^>]*\ssrc=)[^>]*>", page)
    handlers = re.findall(r"<[a-z][^>]*\son[a-z]+=", page)
    styles = re.findall(r"<[a-z][^>]*\sstyle=|<style", page)
    return not (scripts or handlers or styles or "javascript:" in page)


def test_errors_carry_them_too(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    for answer in (
        shopper.get("/nowhere"),
        shopper.get("/api/nowhere"),
        shopper.get("/cart/items"),
        shopper.browser.post("/cart/items", base_url=ORIGIN),
        shopper.browser.post("/stripe/webhook", base_url=ORIGIN),
    ):
        assert answer.status_code >= 400
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        for name, value in HEADERS.items():
            assert answer.headers[name] == value


def test_addresses_that_open_an_order_are_told_to_nobody(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    order = sqlite_shop.the_order()
    for path in (
        links.path(order),
        f"/checkout/success?session_id={bought.session_id}",
        "/checkout",
        "/admin/login?token=x",
        f"/api/orders/{order.id}",
    ):
        assert bought.shopper.get(path).headers["Referrer-Policy"] == "no-referrer"


def test_the_session_cookie_is_closed_to_scripts_and_other_sites(sqlite_shop: Shop) -> None:
    answer = sqlite_shop.shopper().get("/")

    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie


BACK = [
    ("http://shop.test/cart", "/cart"),
    ("http://shop.test/products/enamel-mug", "/products/enamel-mug"),
    ("http://shop.test/?q=mug&sort=price", "/?q=mug&sort=price"),
    ("http://shop.test/cart/items", "/"),  # a page that only a form leads to
    ("http://shop.test/no-such-page", "/"),
    ("https://evil.example/cart", "/"),
    ("http://shop.test@evil.example/cart", "/"),
    ("http://evil.example\\@shop.test/cart", "/"),
    ("http://shop.test//evil.example", "/"),
    ("http://shop.test//cart", "/"),
    ("http://shop.test/\\evil.example", "/"),
    ("http://shop.test/%5Cevil.example", "/"),
    ("//evil.example/cart", "/"),
    ("javascript:alert(1)", "/"),
    ("http://shop.test/%0d%0aLocation:%20https://evil.example", "/"),
    ("http://[", "/"),
    ("", "/"),
]


def test_a_change_of_currency_leads_back_and_never_elsewhere(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    form = {"currency": "usd", "next": "https://evil.example"}
    for referrer, leads_to in BACK:
        headers = {"Referer": referrer} if referrer else {}
        answer = shopper.post("/currency", form, headers=headers)

        assert (answer.status_code, answer.location) == (303, leads_to), referrer


def test_a_planted_session_is_not_the_admins(sqlite_shop: Shop) -> None:
    """A cookie made before signing in opens nothing afterwards."""
    person = sqlite_shop.shopper()
    person.put_in_cart()
    cookie = person.browser.get_cookie("shop", domain="shop.test")
    assert cookie
    planted = cookie.value
    admin = signed_in(sqlite_shop)
    thief = sqlite_shop.app.test_client()
    thief.set_cookie("shop", planted, domain="shop.test")

    assert admin.get("/admin/orders").status_code == 200
    assert thief.get("/admin/orders", base_url=ORIGIN).status_code == 303


def test_rows_of_every_table_are_compared(sqlite_shop: Shop) -> None:
    """The guard of the two tests above: a change in any table shows."""
    before = everything(sqlite_shop)
    sqlite_shop.shopper().buy()

    assert everything(sqlite_shop) != before
    assert Order.__tablename__ in before
