"""A guest reaches an order by its signed link alone, and a dead one says why."""

from __future__ import annotations

import re
from typing import Any

import pytest

from extensions import atomic
from models import AuditEntry, Order, OutboxMessage
from services import erasure, links, orders
from services.causes import SHOPPER
from tests.pages.conftest import signed_in
from tests.people.letters import leads_to, letters, read
from tests.shop import LAMP, ORIGIN, Checkout, Shop

PERSON = ("Maya", "maya@example.com", "Sonnenallee")


@pytest.fixture
def bought(sqlite_shop: Shop) -> Checkout:
    checkout = sqlite_shop.shopper().buy()
    checkout.pay()
    sqlite_shop.deliver_and_work()
    return checkout


def path_of(shop: Shop, order_id: str) -> str:
    order = shop.order(order_id)
    assert order
    return links.path(order)


def as_told(answer: Any) -> str:
    return re.sub(r'(csrf[^>]*(?:value|content)=)"[^"]+"', "", str(answer.text))


@pytest.mark.accept("X13")
def test_a_bare_id_opens_no_order(sqlite_shop: Shop, bought: Checkout) -> None:
    guest = sqlite_shop.shopper()
    for path in (f"/orders/{bought.order_id}", f"/api/orders/{bought.order_id}"):
        answer = guest.get(path)
        assert answer.status_code == 404
        assert not [word for word in PERSON if word in answer.text]
    assert guest.get(path_of(sqlite_shop, bought.order_id)).status_code == 200


@pytest.mark.accept("X13")
@pytest.mark.parametrize("by", ["browser", "link"])
def test_the_shopper_replaces_the_links_and_gets_the_new_one_by_mail(shop: Shop, by: str) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    old = path_of(shop, bought.order_id)
    guest, other = shop.shopper(), shop.shopper()
    assert guest.get(old).status_code == other.get(old).status_code == 200
    owner = bought.shopper if by == "browser" else guest

    page = owner.post(f"/orders/{bought.order_id}/links")

    assert page.status_code == 200 and "maya@example.com" in page.text
    shop.work()
    (mail,) = letters(shop, "fresh_link")
    assert mail["To"] == "maya@example.com"
    for visitor in (guest, other, shop.shopper()):
        for path in (old, f"/orders/{bought.order_id}"):  # it was remembered, too
            dead = visitor.get(path)
            assert dead.status_code == 404
            assert not [word for word in PERSON if word in dead.text]
    assert "has been replaced" in other.get(f"/orders/{bought.order_id}").text
    assert shop.shopper().get(leads_to(mail)).status_code == 200
    assert bought.shopper.get(f"/orders/{bought.order_id}").status_code == 200
    bearer = {"Authorization": f"Bearer {old.partition('token=')[2]}"}
    told = shop.shopper().get(f"/api/orders/{bought.order_id}", headers=bearer)
    assert (told.status_code, told.get_json()["code"]) == (404, "link_revoked")
    assert shop.proves()


@pytest.mark.accept("X13")
def test_the_counter_replaces_the_links_too(sqlite_shop: Shop, bought: Checkout) -> None:
    old, admin = path_of(sqlite_shop, bought.order_id), signed_in(sqlite_shop)
    assert (
        f'action="/admin/orders/{bought.order_id}/links"'
        in admin.get(f"/admin/orders/{bought.order_id}").text
    )

    assert admin.post(f"/admin/orders/{bought.order_id}/links").status_code == 303

    assert "fresh link" in admin.get(f"/admin/orders/{bought.order_id}").text
    sqlite_shop.work()
    assert sqlite_shop.shopper().get(old).status_code == 404
    (mail,) = letters(sqlite_shop, "fresh_link")
    assert sqlite_shop.shopper().get(leads_to(mail)).status_code == 200
    (entry,) = sqlite_shop.rows(AuditEntry, AuditEntry.action == "replaced links")
    assert (entry.actor, entry.subject) == ("ada@example.com", bought.order_id)


def test_only_who_may_see_the_order_replaces_its_links(sqlite_shop: Shop, bought: Checkout) -> None:
    stranger = sqlite_shop.shopper()
    before = path_of(sqlite_shop, bought.order_id)

    assert stranger.post(f"/orders/{bought.order_id}/links").status_code == 404

    assert path_of(sqlite_shop, bought.order_id) == before
    assert sqlite_shop.rows(OutboxMessage, OutboxMessage.kind == "fresh_link") == []


def test_of_two_presses_the_last_link_is_the_one_that_is_mailed(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    for _ in range(2):
        bought.shopper.post(f"/orders/{bought.order_id}/links")
    sqlite_shop.work()

    (mail,) = letters(sqlite_shop, "fresh_link")
    assert sqlite_shop.shopper().get(leads_to(mail)).status_code == 200


def test_every_dead_link_says_why_and_none_tells_whether_there_is_such_an_order(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    second = sqlite_shop.shopper().buy(LAMP)
    there, nowhere = bought.order_id, "00000000-0000-4000-8000-000000000000"
    token = path_of(sqlite_shop, there).partition("token=")[2]
    foreign = path_of(sqlite_shop, second.order_id).partition("token=")[2]
    visitor = sqlite_shop.shopper()

    def told(order_id: str, shown: str) -> str:
        answer = visitor.get(f"/orders/{order_id}", query_string={"token": shown})
        assert answer.status_code == 404
        assert not [word for word in PERSON if word in answer.text]
        return as_told(answer)

    mangled = [token[:-1], token[1:], token.replace(".", ""), token + "x", "%", "x" * 400, "ä"]
    damaged = {told(order_id, shown) for shown in mangled for order_id in (there, nowhere)}
    assert len(damaged) == 1 and "not complete" in damaged.pop()
    others = {told(order_id, foreign) for order_id in (there, nowhere)}
    assert len(others) == 1 and "belongs to another order" in others.pop()
    bare = {as_told(visitor.get(f"/orders/{order_id}")) for order_id in (there, nowhere)}
    assert len(bare) == 1

    links.replace(there, SHOPPER)
    assert "has been replaced" in told(there, token)
    sqlite_shop.work()
    erasure.erase("maya@example.com")
    assert "were erased" in told(there, token)


def test_an_order_whose_person_is_forgotten_has_no_links_to_replace(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    erasure.erase("maya@example.com")

    page = bought.shopper.post(f"/orders/{bought.order_id}/links")

    assert page.status_code == 409 and "no e-mail address" in page.text


def test_one_order_is_found_by_its_number_and_address(sqlite_shop: Shop, bought: Checkout) -> None:
    second = sqlite_shop.shopper().buy(LAMP)
    order = sqlite_shop.order(bought.order_id)
    assert order
    number = orders.number(order).lower()
    visitor = sqlite_shop.shopper()
    answers = {
        as_told(visitor.post("/orders/find", {"email": email, "number": typed}))
        for email, typed in (
            ("maya@example.com", number),
            ("ben@example.com", number.upper()),
            ("maya@example.com", "NL-99999"),
            ("maya@example.com", "no number"),
            ("maya@example.com", "9" * 30),
            ("maya@example.com", "²"),
        )
    }
    sqlite_shop.work()

    assert len(answers) == 1
    (mail,) = letters(sqlite_shop, "order_links")
    assert bought.order_id in read(mail) and second.order_id not in read(mail)


def test_a_letter_with_links_leaves_no_address_behind_where_there_was_nothing_to_send(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    sqlite_shop.shopper().post("/orders/find", {"email": "nobody@example.com"})
    sqlite_shop.work()

    (row,) = sqlite_shop.rows(OutboxMessage, OutboxMessage.kind == "order_links")
    assert "nobody" not in f"{row.key}{row.payload}{row.result}{row.error}"


def test_a_link_opened_over_the_api_is_checked_each_time(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    token = path_of(sqlite_shop, bought.order_id).partition("token=")[2]
    program = sqlite_shop.app.test_client()

    def asks() -> int:
        headers = {"Authorization": f"Bearer {token}"}
        path = f"/api/orders/{bought.order_id}"
        return program.get(path, headers=headers, base_url=ORIGIN).status_code

    assert asks() == 200
    with atomic() as session:
        session.get_one(Order, bought.order_id).link_version += 1
    assert asks() == 404
