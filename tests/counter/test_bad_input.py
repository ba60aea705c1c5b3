"""Every form and every address of the counter, fed with what nobody should send."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from models import Order, OrderItem, Payment, Product, Refund, Shipment, User
from tests.counter.scenes import a_paid_order
from tests.counter.test_roles import counter, open_it
from tests.pages.conftest import signed_in
from tests.shop import Checkout, Shop, Shopper

TEMPLATES = Path(__file__).resolve().parents[2] / "templates" / "admin"
# What a hand, a script or an attacker types where something else is expected.
NONSENSE = {
    "nothing": "",
    "strange": "' OR '1'='1' -- \"%_\\*<script>alert(1)</script>{{ 7*7 }}-1٣\u202e🙂\r\nBcc: x@y.z",
    "long": "x" * 10_000,
    "figures": "9" * 40,
}
# These end the session of whoever asks, or ask for nothing but a press, and are met elsewhere.
NOT_FED = (
    "POST /admin/logout",
    "POST /admin/account/signouts",
    "POST /admin/login",
    "POST /admin/orders/<order_id>/links",
)
WATCHED: dict[Any, tuple[str, ...]] = {
    Order: ("status", "payment_status", "total", "refunded", "name", "email", "link_version"),
    OrderItem: ("quantity", "unit_amount", "state"),
    Payment: ("amount", "state", "role"),
    Refund: ("amount", "state"),
    Shipment: ("carrier", "tracking"),
    Product: ("title", "prices", "on_hand", "held", "sold", "active"),
    User: ("email", "role", "totp_secret"),
}


def fields() -> set[str]:
    """Every name that a form of the counter has."""
    found = set()
    for template in TEMPLATES.glob("*.html"):
        found |= set(re.findall(r'name="([a-z_]+)"', template.read_text()))
    return (found | {"after", "view", "q", "state", "type", "ids", "look", "newest", "by"}) - {
        "csrf_token"
    }


def books(shop: Shop) -> dict[str, str]:
    """What became of money and goods, and who may do what."""
    found = {}
    for model, columns in WATCHED.items():
        for row in shop.rows(model):
            shown = {name: getattr(row, name) for name in columns}
            found[f"{model.__name__} {row.id}"] = repr(shown)
    return found


@pytest.mark.parametrize("kind", list(NONSENSE))
def test_no_form_of_the_counter_breaks_or_moves_anything_by_nonsense(
    postgres_shop: Shop, kind: str
) -> None:
    shop = postgres_shop
    bought = a_paid_order(shop)
    admin = signed_in(shop)
    names = fields()
    assert len(names) > 50
    before = books(shop)

    for named, rule in sorted(counter(shop)):
        if named in NOT_FED:
            continue
        status, text = _sent(admin, named, bought, dict.fromkeys(names, NONSENSE[kind]))

        assert status < 500, (named, rule.endpoint, status)
        assert "<script>alert(1)" not in text, named
    assert books(shop) == before


def _sent(admin: Shopper, named: str, bought: Checkout, form: dict[str, str]) -> tuple[int, str]:
    method, path = named.split()
    person = _Filled(admin, form)
    answer = open_it(person, f"{method} {path}", bought)  # type: ignore[arg-type]
    return answer.status_code, answer.text


class _Filled:
    """Somebody whose every request carries the same fields."""

    def __init__(self, person: Shopper, form: dict[str, str]) -> None:
        self.person, self.form = person, form

    def get(self, path: str) -> object:
        return self.person.get(path, query_string=self.form)

    def post(self, path: str) -> object:
        if path.startswith("/api/"):
            return self.person.json("POST", path, self.form)
        return self.person.post(path, self.form)


@pytest.mark.parametrize("header", [{}, {"HX-Request": "true"}], ids=["page", "fragment"])
def test_a_search_of_ten_thousand_letters_is_answered_in_words(
    sqlite_shop: Shop, admin: Shopper, header: dict[str, str]
) -> None:
    a_paid_order(sqlite_shop)

    for text in ("x" * 10_000, "'" * 10_000, "%" * 10_000):
        answer = admin.get("/admin/orders", query_string={"q": text}, headers=header)
        assert answer.status_code == 200 and "No order matches" in answer.text
        assert text not in answer.text, "no more of it comes back than anybody reads"
