"""Forms, the API and uploads with what nobody would type: no error page, nothing half done."""

from __future__ import annotations

import io
from collections import Counter
from random import Random
from typing import Any
from urllib.parse import quote

import pytest

from models import Product
from services import auth, goods_file
from tests.fuzz import spoil
from tests.shop import ADDRESS, MUG, Shop, Shopper

SENT = int(400 * spoil.TIMES)
FILES = int(200 * spoil.TIMES)
API_BODY = {
    "items": [{"sku": MUG, "quantity": 1}],
    "contact": {"name": "Maya", "email": "maya@example.com", "phone": "1"},
    "shipping": {
        "line1": "A 1",
        "city": "B",
        "postalCode": "1",
        "country": "DE",
        "delivery": "express",
    },
    "uiMode": "embedded",
    "checkoutAttemptId": "a",
    "paymentIntentId": "pi_1",
}
FORM = {
    **ADDRESS,
    "sku": MUG,
    "quantity": "1",
    "email": "maya@example.com",
    "token": "x",
    "code": "000000",
    "password": "x",
    "new": "x",
    "present": "x",
    "amount": "1.00",
    "reason": "storm",
    "key": "k",
    "currency": "eur",
    "line": "1",
    "units-1": "1",
    "units": "1",
    "version": "1",
    "seen": "1",
    "order_strategy": "pay_first",
    "rollout_percent": "5",
    "title": "Mug",
    "slug": "mug",
    "price_eur": "1.00",
    "carrier": "DHL",
    "tracking": "1",
    "note": "n",
    "number": "10001",
    "role": "viewer",
}
NOT_HERE = ("webhook", "logout", "signouts")  # a test of its own, and what would end the visit


def addresses(shop: Shop) -> list[tuple[str, str]]:
    """Every address that takes something, filled with ids that are there and ids that are not."""
    found = []
    for rule in shop.app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS", "GET"}):
            if not any(word in rule.rule for word in NOT_HERE):
                found.append((method, rule.rule))
    assert len(found) > 40
    return found


def filled(rule: str, order_id: str, dice: Random) -> str:
    parts = []
    for part in rule.split("/"):
        if part.startswith("<"):
            odd = str(dice.choice(spoil.NASTY[:-1])).encode("utf-8", "replace")[:200]
            ids = (order_id.encode(), b"1", b"999999999", odd)
            part = quote(dice.choice(ids), safe="") or "0"
        parts.append(part)
    return "/".join(parts)


def form(dice: Random) -> dict[str, Any]:
    fields = {name: FORM[name] for name in FORM if dice.random() < 0.6}
    for name in dice.sample(sorted(FORM), dice.randrange(1, 4)):
        fields[name] = str(dice.choice(spoil.NASTY[:-1])).encode("utf-8", "replace").decode()[:3000]
    return fields


@pytest.mark.timeout(300 * max(1, spoil.TIMES))
def test_no_form_and_no_call_breaks_a_page(shop: Shop) -> None:
    """On both databases: one of them minds what the other takes."""
    dice, statuses = Random("forms"), Counter[int]()
    _send(shop, dice, statuses)

    assert statuses[200] + statuses[201] + statuses[303] > SENT // 100, statuses
    assert shop.proves(ledger=False)


def _send(shop: Shop, dice: Random, statuses: Counter[int]) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    people = {"shopper": bought.shopper, "admin": signed_in(shop)}
    doors = addresses(shop)
    tokens = {name: person.token() for name, person in people.items()}
    for _ in range(SENT):
        who = dice.choice(list(people))
        method, rule = dice.choice(doors)
        path, headers = filled(rule, bought.order_id, dice), {"X-CSRFToken": tokens[who]}
        body: dict[str, Any]
        if rule.startswith("/api"):
            spoiled = spoil.document(API_BODY, dice)
            headers["Content-Type"] = "application/json"
            body = {"data": spoil.text(spoiled, dice)}
        else:
            body = {"data": {**form(dice), "csrf_token": tokens[who]}}
        answer = people[who].browser.open(
            path,
            method=method,
            headers=headers,
            base_url="http://shop.test",
            environ_overrides={"REMOTE_ADDR": f"10.0.{dice.randrange(256)}.{dice.randrange(256)}"},
            **body,
        )
        assert answer.status_code < 500 or answer.status_code == 502, (
            who,
            method,
            path,
            body,
            answer.text[:300],
        )
        statuses[answer.status_code] += 1


def signed_in(shop: Shop) -> Shopper:
    person = shop.shopper()
    link = auth.create_link("ada@example.com")
    assert person.post("/admin/login", {"token": link.rpartition("=")[2]}).status_code == 303
    return person


RIGHT = (
    "sku,title,slug,price_eur,units,active,category\r\n"
    'CSV-1,"Mug, blue",mug-blue,18.00,5,yes,Kitchen\r\n'
    "CSV-2,Tea,tea-green,12.50,7,yes,Kitchen\r\n"
    "CSV-3,Coffee,coffee,9.00,,no,\r\n"
)
ODD = (*',"\n\r;\t\x00=-', "\u202e", "\ufeff", "9" * 30, "''", "é")


def spoiled_file(dice: Random) -> str:
    text = RIGHT
    for _ in range(dice.choice((1, 1, 2, 5))):
        at, till = sorted(dice.randrange(len(text) + 1) for _ in range(2))
        how = dice.random()
        if how < 0.5:
            text = text[:at] + dice.choice(ODD) + text[at:]
        elif how < 0.7:
            text = text[:at] + text[at + 1 :]
        elif how < 0.8:
            text = text[:till]
        else:
            cell = str(dice.choice(spoil.NASTY[:-1]))[:50]
            text = text.replace(dice.choice(("18.00", "CSV-2", "yes", "tea-green", "7")), cell, 1)
    return text


@pytest.mark.timeout(300 * max(1, spoil.TIMES))
def test_a_spoiled_file_is_taken_whole_or_not_at_all(sqlite_shop: Shop) -> None:
    """By the page that takes uploads, as bytes; what is refused has changed nothing."""
    shop, dice, statuses = sqlite_shop, Random("files"), Counter[int]()
    admin = signed_in(shop)
    token = admin.token()

    def goods() -> list[tuple[Any, ...]]:
        return [(p.sku, p.title, p.prices, p.on_hand, p.active) for p in shop.rows(Product)]

    for _ in range(FILES):
        before = goods()
        content = spoiled_file(dice).encode("utf-8", "surrogatepass")
        try:
            goods_file.read(content.decode("utf-8-sig"))
            statuses[200] += 1
        except (goods_file.BadFile, UnicodeDecodeError):
            statuses[422] += 1
            assert goods() == before
        answer = admin.browser.post(
            "/admin/products/import",
            data={"file": (io.BytesIO(content), "goods.csv"), "csrf_token": token},
            base_url="http://shop.test",
        )
        assert answer.status_code < 500, (answer.status_code, content)

    assert min(statuses[200], statuses[422]) > FILES // 20, statuses
    assert shop.proves(ledger=False)
