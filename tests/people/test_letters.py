"""Every letter is text and HTML that say the same, without pictures, about one order alone."""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from domain.clock import now
from models import OutboxMessage
from services import letters as writing
from tests.counter.scenes import a_paid_order, ask, in_the_dashboard
from tests.counter.test_shipping import pack, ship
from tests.people.letters import letters, read
from tests.shop import LAMP, MUG, ORIGIN, Shop

LINK = f"{ORIGIN}/orders/1?token=abc.def"
PAY_AT = "https://invoice.stripe.test/i/1?s=ap&x=1"
EVIL = "<script>alert('1')</script> & “Tea”"
ORDER: dict[str, Any] = {"number": "NL-10001", "link": LINK}
PARCEL = SimpleNamespace(
    carrier="DHL",
    tracking="00340",
    lines=[{"quantity": 2, "title": EVIL}, {"quantity": 1, "title": "Mug"}],
)
LETTERS: dict[str, dict[str, Any]] = {
    "sign_in": {"link": LINK},
    "fresh_link": ORDER,
    "links": {"orders": [("NL-1", now(), LINK), ("NL-2", now(), f"{LINK}2")]},
    "shipped": {**ORDER, "parcel": PARCEL, "is_last": False},
    "refunded": {**ORDER, "amount": "€5.00"},
    "payment_failed": ORDER,
    "past_due": {**ORDER, "title": EVIL, "amount": "€5.00", "pay_at": PAY_AT, "is_first": True},
    "renewed": {**ORDER, "title": EVIL, "amount": "€5.00", "method": "Visa", "until": "1 May",
                "goes_on": True},
    "not_started": {**ORDER, "title": EVIL},
    "subscription_ended": {**ORDER, "title": EVIL, "begun": True},
}  # fmt: skip


def seen(page: str) -> str:
    """What a person reads of it."""
    body = re.sub(r"<title>.*?</title>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def links_in(page: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'href="([^"]+)"', page)]


def test_every_letter_there_is_is_in_the_table() -> None:
    written = {file.stem for file in Path("templates/email").glob("*.txt")}

    assert written - {"receipt", "alert", "alert_cleared"} == set(LETTERS), "a shopper may get it"


@pytest.mark.parametrize("name", sorted(LETTERS))
def test_both_forms_of_a_letter_say_the_same_and_nothing_is_fetched_for_it(
    sqlite_shop: Shop, name: str
) -> None:
    row = OutboxMessage(kind=name, key="1", created_at=now())
    mail = writing.letter(row, "maya@example.com", "A subject", name, **LETTERS[name])

    text, page = read(mail), read(mail, "html")
    assert mail.get_content_type() == "multipart/alternative"
    shown = seen(page)
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("http"):
            assert line in links_in(page)
        else:
            assert " ".join(line.removesuffix(":").split()) in shown, line
    assert len(links_in(page)) == len([one for one in text.splitlines() if one.startswith("http")])
    for fetched in ("<img", "<link", "<script", "url(", "@import", "src="):
        assert fetched not in page
    for label in re.findall(r"<a [^>]*>(.*?)</a>", page):
        assert 5 <= len(label) <= 60, "says where it leads, and fits on a button"


def leads_only_to(mail: Any, order_id: str) -> bool:
    found = {*links_in(read(mail, "html")), *re.findall(r"http\S+", read(mail))}
    return bool(found) and all(f"/orders/{order_id}?token=" in link for link in found)


def test_each_parcel_and_each_refund_is_told_once_to_whom_it_concerns(shop: Shop) -> None:
    other = a_paid_order(shop, LAMP, email="ben@example.com")
    bought = a_paid_order(shop, MUG, 3)
    pack(shop, bought)
    ship(shop, bought, 2)
    ship(shop, bought, 1, tracking="00340 8")
    ask(bought, 500)
    in_the_dashboard(shop, bought, 500)
    for _ in range(2):
        shop.sandbox.chaos.duplicate = 2
        shop.deliver_and_work()
        shop.work()

    parcels, back = letters(shop, "shipped"), letters(shop, "refunded")
    assert len(parcels) == len(back) == 2
    assert ["The rest follows" in read(mail) for mail in parcels] == [True, False]
    assert all("€5.00" in mail["Subject"] for mail in back)
    for mail in parcels + back:
        assert mail["To"] == "maya@example.com"
        assert leads_only_to(mail, bought.order_id)
        assert other.order_id not in mail.as_string()
    ids = {mail["Message-ID"] for mail in parcels + back}
    assert len(ids) == 4
    assert shop.shopper().get(links_in(read(back[0], "html"))[0]).status_code == 200
