"""Whatever somebody types or sends: a clear answer, nothing half written, nothing run."""

from __future__ import annotations

import json
import re

from models import CartItem, CheckoutAttempt, Order, OutboxMessage
from services import links
from tests.pages.conftest import signed_in
from tests.pages.forms import CONTACT, SHIPPING, a_body
from tests.shop import ADDRESS, LAMP, MUG, ORIGIN, Shop

CREATE = "/api/payments/create-checkout-session"
QUANTITIES = ["-1", "100", "100000", "1e9", "٣", "1.0", "", " ", "one", "0x1", "+1", "1\x000"]
JSON_QUANTITIES = [0, -1, 100, 100000, 1e9, 10**30, 1.0, True, False, None, [1], {}, "٣", "1e9"]


def test_a_quantity_that_is_none_is_refused(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(MUG, 2)
    for quantity in QUANTITIES:
        for path in ("/cart/items", "/cart/lines"):
            answer = shopper.post(path, {"sku": MUG, "quantity": quantity})

            assert answer.status_code == (400 if "\0" in quantity else 422), (path, quantity)
            assert shopper.cart() == [(MUG, 2)]


def test_one_less_than_one_takes_the_line_out(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart()

    assert shopper.put_in_cart(MUG, 0).status_code == 422
    assert shopper.post("/cart/lines", {"sku": MUG, "quantity": "0"}).status_code == 303
    assert shopper.cart() == []


def test_a_quantity_in_json_that_is_none_is_refused(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    for quantity in JSON_QUANTITIES:
        items = [{"sku": LAMP, "quantity": 1}, {"sku": MUG, "quantity": quantity}]

        for method, path in (("PUT", "/api/cart"), ("POST", CREATE)):
            answer = shopper.json(method, path, a_body(items=items))
            assert (answer.status_code, answer.get_json()["code"]) == (422, "quantity_invalid")
        assert sqlite_shop.count(CartItem) == sqlite_shop.count(CheckoutAttempt) == 0


def test_ninety_nine_is_the_most_of_one_thing(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    assert shopper.put_in_cart(MUG, 99).status_code == 303
    assert shopper.put_in_cart(MUG, 1).status_code == 422
    items = [{"sku": MUG, "quantity": 60}, {"sku": MUG, "quantity": 40}]
    assert shopper.json("PUT", "/api/cart", {"items": items}).status_code == 422
    assert shopper.cart() == [(MUG, 99)]


SKUS = ["", "NO-SUCH", "' OR 1=1 --", "%", "MUG-FOR-3_", "mug-for-35", "x" * 10_000, "💥"]


def test_an_unknown_sku_is_refused(shop: Shop) -> None:
    shopper = shop.shopper()
    for sku in (*SKUS, "\ud800", "\x00"):
        for method, path in (("PUT", "/api/cart"), ("POST", CREATE)):
            answer = shopper.json(method, path, a_body(items=[{"sku": sku, "quantity": 1}]))
            assert answer.status_code == 422, sku
    for sku in SKUS:
        for path in ("/cart/items", "/cart/lines", "/cart/lines/restore"):
            assert shopper.post(path, {"sku": sku, "quantity": "1"}).status_code == 422, sku
        assert shopper.post("/cart/lines/remove", {"sku": sku}).status_code == 303
    assert shop.count(CartItem) == shop.count(CheckoutAttempt) == 0


BAD_FIELDS = {
    "email": ["", "maya", "maya@", "@example.com", "maya@localhost", "a b@example.com",
              "maya@example.com\r\nBcc: b@example.com", "жук@example.com", "x" * 300 + "@e.com"],
    "name": ["", "   ", "\t\r\n", "x" * 121, "\u200b" * 121],
    "line1": ["", "x" * 201],
    "line2": ["x" * 201],
    "city": ["", "x" * 121],
    "postal_code": ["", "x" * 21],
    "state": ["x" * 121],
    "phone": ["1" * 41],
    "country": ["", "XX", "Germany", "de"],
    "delivery": ["by owl", "0"],
}  # fmt: skip


def test_a_field_that_is_wrong_is_marked_and_what_was_typed_stays(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart()
    for field, value in [(name, value) for name in BAD_FIELDS for value in BAD_FIELDS[name]]:
        answer = shopper.check_out(**{field: value})

        assert answer.status_code == 422, (field, value)
        target = "delivery-standard" if field == "delivery" else field
        assert f'href="#{target}"' in answer.text and f'id="{target}"' in answer.text
        assert "One thing needs another look" in answer.text
        assert ('value="Sonnenallee 12"' in answer.text) == (field != "line1")
    assert sqlite_shop.count(CheckoutAttempt) == 0
    assert shopper.cart() == [(MUG, 1)]


def test_nul_in_a_form_is_refused(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart()
    for field in ADDRESS:
        assert shopper.check_out(**{field: "a\x00b"}).status_code == 400, field
    assert shop.count(CheckoutAttempt) == 0


NUL_ADDRESSES = [
    "/%00",
    "/products/%00",
    "/?q=%00",
    "/?category=%00&sort=%00&after=%00",
    "/orders/%00",
    "/orders/%00/status",
    "/order-success/a%00",
    "/orders?after=1_%00",
    "/checkout/success?session_id=%00",
    "/payment/success?payment_intent=%00",
    "/checkout/cancel?attempt=%00",
    "/api/orders/%00",
    "/api/orders/pi_%00",
    "/api/orders/by-session/%00",
    "/admin/login?token=%00",
    "/admin/orders?q=%00",
    "/admin/webhooks?after=%00",
    "/admin/settings?email=%00",
    "/admin/orders/%00",
]


def test_nul_in_an_address_is_refused(shop: Shop) -> None:
    person = signed_in(shop)
    for path in NUL_ADDRESSES:
        assert person.get(path).status_code == 400, path
    for path, field in (
        ("/orders/find", "email"),
        ("/checkout/again", "order_id"),
        ("/checkout/release", "order_id"),
        ("/admin/login", "token"),
        ("/admin/settings", "reason"),
        ("/admin/settings/undos", "change"),
        ("/currency", "currency"),
    ):
        assert person.post(path, {field: "a\x00b@example.com"}).status_code == 400, path


def test_control_characters_and_surrogates_in_json_are_left_out(shop: Shop) -> None:
    shopper = shop.shopper()
    shopper.put_in_cart()
    contact = {**CONTACT, "name": "Ma\x00ya\ud800 \x1b[31mLind\u202eqvist\x7f\r\nBcc: x@y.z"}
    shipping = {**SHIPPING, "line1": "Sonnen\ud83dallee\x0712"}
    answer = shopper.json("POST", CREATE, a_body(contact=contact, shipping=shipping))

    assert answer.status_code == 201
    order = shop.the_order()
    assert order.name == "Maya [31mLindqvist Bcc: x@y.z"
    assert order.address["line1"] == "Sonnenallee12"


PEOPLE = [
    "Łukasz Żółć",
    "山田 太郎",
    "محمد علي",
    "Ольга Ивановна",
    "Ngô Thị Nguyệt",
    "Zoë 👩‍🚀 O’Neill-D’Arcy",
    "x" * 120,
    "👨‍👩‍👧‍👦" * 17,
]


def test_names_of_all_scripts_come_through_to_the_receipt(shop: Shop) -> None:
    shopper = shop.shopper()
    for name in PEOPLE:
        checkout = shopper.buy(name=name, city=name, email="Maya@Exämple.com")
        checkout.pay()
        shop.deliver_and_work()

        order = shop.order(checkout.order_id)
        assert order and order.name == order.address["city"] == name
        assert order.email == "Maya@xn--exmple-cua.com"
        assert name in shopper.get(f"/orders/{order.id}").text
        receipt = shop.receipts()[-1]
        assert (receipt.order_id, receipt.state) == (order.id, "done")
        assert receipt.result["to"] == order.email
    assert shop.proves()


def test_a_composed_and_a_decomposed_name_are_one(sqlite_shop: Shop) -> None:
    sqlite_shop.shopper().buy(name="Zoe\u0308  Mu\u0308ller ")

    assert sqlite_shop.the_order().name == "Zoë Müller"


PAYLOAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"
RUNS = re.compile(r"<script>alert|<img src=x|onerror=alert\(1\)>(?!&)", re.I)


def test_html_in_every_field_is_shown_as_text_everywhere(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    typed = {
        "name": PAYLOAD,
        "line1": PAYLOAD,
        "line2": PAYLOAD,
        "city": PAYLOAD,
        "state": PAYLOAD,
        "phone": PAYLOAD[:40],
        "postal_code": PAYLOAD[:20],
    }
    refused = (
        shopper.put_in_cart(PAYLOAD, 1),
        shopper.post(  # type: ignore[arg-type]
            "/cart/items", {"sku": MUG, "quantity": PAYLOAD}
        ),
    )
    shopper.put_in_cart()
    wrong = shopper.check_out(**{**typed, "email": PAYLOAD, "country": PAYLOAD})
    shopper.post("/cart/lines/remove", {"sku": MUG})
    checkout = shopper.buy(**typed)
    order = sqlite_shop.the_order()
    admin = signed_in(sqlite_shop)
    pages = [
        *refused,
        wrong,
        shopper.get("/cart"),
        shopper.get(f"/checkout/cancel?attempt={order.id}"),
        shopper.get(f"/orders/{order.id}"),
        shopper.get(f"/orders/{order.id}/status"),
        shopper.get(f"/?q={PAYLOAD}&category={PAYLOAD}&sort={PAYLOAD}"),
        shopper.get(f"/products/{PAYLOAD}"),
        shopper.get(f"/admin/login?token={PAYLOAD}"),
        shopper.get(links.path(order)),
    ]
    checkout.pay()
    sqlite_shop.deliver_and_work()
    pages += [
        shopper.come_back(checkout),
        shopper.get("/orders"),
        shopper.get("/dev/mailbox"),
        shopper.get(f"/dev/mailbox/{sqlite_shop.receipts()[0].id}"),
        admin.get("/admin/orders"),
        admin.get(f"/admin/orders?q={PAYLOAD}"),
        admin.get(f"/admin/orders/{order.id}"),
        admin.post(f"/admin/orders/{order.id}/sync"),
    ]

    for page in pages:
        assert page.content_type == "text/html; charset=utf-8"
        assert not RUNS.search(page.text), RUNS.search(page.text)
        assert "onerror=alert(1)>" not in page.text
        assert ">49" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in admin.get(f"/admin/orders/{order.id}").text
    (receipt,) = sqlite_shop.receipts()
    assert "<script>" not in receipt.result["source"]


def test_what_is_typed_never_reaches_a_mails_headers(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    name = "Maya\r\nBcc: spy@example.com\r\n\r\nHello"
    checkout = shopper.buy(name=name, line1=name)
    checkout.pay()
    sqlite_shop.deliver_and_work()
    for email in ("maya@example.com\r\nBcc: spy@example.com", "maya@example.com%0ABcc:spy@e.com"):
        assert shopper.post("/orders/find", {"email": email}).status_code == 200
    sqlite_shop.work()

    mails = sqlite_shop.rows(OutboxMessage)
    assert [mail.kind for mail in mails] == ["receipt"]
    head = mails[0].result["source"].partition("\n\n")[0]
    assert "To: maya@example.com" in head
    assert "spy@example.com" not in head


def test_a_form_with_a_thousand_fields_or_a_huge_one_is_refused(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    many = {f"field{n}": "x" for n in range(2000)}
    assert shopper.post("/cart/items", many).status_code in (413, 422)
    assert shopper.post("/checkout", {"name": "x" * 600_000}).status_code == 413


SEARCHES = ["%", "_", "'", '"', "\\", "%25%27--", "x" * 10_000, "💥", "[", "*"]


def test_a_search_takes_every_text_for_what_it_is(shop: Shop) -> None:
    shopper = shop.shopper()
    for query in SEARCHES:
        answer = shopper.get("/", query_string={"q": query})

        assert answer.status_code == 200
        assert "No products match" in answer.text


def test_broken_and_strange_requests_never_end_in_a_500(shop: Shop) -> None:
    shopper = shop.shopper()
    headers = {"X-CSRFToken": shopper.token(), "Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/cart/items", "/checkout", "/orders/find", "/currency", "/admin/login"):
        for body in (b"\xff\xfe=\xff", b"%", b"sku=%ff&email=%ff%fe@x", b"=&=&=", b"a" * 70_000):
            answer = shopper.browser.post(path, data=body, headers=headers, base_url=ORIGIN)
            assert answer.status_code < 500, (path, body[:20])
    for path in ("/?q=%ff", "/products/%ff", "/orders/%ff", "/?after=-1", "/?after=²", "/%2e%2e/"):
        assert shopper.get(path).status_code < 500, path


def test_one_bad_line_leaves_the_basket_as_it_was(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(MUG, 2)
    items = [{"sku": LAMP, "quantity": 1}, {"sku": LAMP, "quantity": 2}]

    assert shopper.json("PUT", "/api/cart", {"items": items}).status_code == 409
    assert shopper.cart() == [(MUG, 2)]
    assert json.loads(shopper.json("GET", "/api/cart").text)["subtotal"] == 3600
    assert sqlite_shop.count(Order) == 0
