"""A mailed link signs a shopper in, once, soon, and only after a press."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from extensions import limiter, reading
from models import OutboxMessage, ShopperSession, SignInLink
from services import links, reconcile, sign_in
from tests.people.letters import leads_to, letters, read
from tests.shop import MUG, ORIGIN, Checkout, Shop, Shopper

MAYA = "maya@example.com"


def asks(shopper: Shopper, email: str = MAYA) -> str:
    """The answer, without what differs from page to page."""
    answer = shopper.post("/orders/sign-in-links", {"email": email})
    assert answer.status_code == 200
    return re.sub(r'(csrf[^>]*(?:value|content)=)"[^"]+"', "", answer.text)


def mailed(shop: Shop, shopper: Shopper, email: str = MAYA) -> str:
    """The token in the newest mail, after somebody asked for one."""
    asks(shopper, email)
    shop.work()
    return leads_to(letters(shop, "sign_in")[-1]).partition("token=")[2]


def presses(shopper: Shopper, token: str) -> Any:
    return shopper.post("/orders/sign-in", {"token": token})


def signed_in(shop: Shop, email: str = MAYA) -> Shopper:
    shopper = shop.shopper()
    assert presses(shopper, mailed(shop, shopper, email)).status_code == 303
    return shopper


@pytest.fixture
def bought(sqlite_shop: Shop) -> Checkout:
    checkout = sqlite_shop.shopper().buy(MUG, email="Maya@example.com")
    checkout.pay()
    sqlite_shop.deliver_and_work()
    return checkout


@pytest.mark.accept("X13")
def test_who_reads_the_mail_sees_all_orders_of_the_address(shop: Shop) -> None:
    first = shop.shopper().buy(email="Maya@example.com")
    second = shop.shopper().buy(email=MAYA)
    theirs = shop.shopper().buy(email="ben@example.com")

    maya = signed_in(shop)

    page = maya.get("/orders").text
    for order_id in (first.order_id, second.order_id):
        assert f'href="/orders/{order_id}"' in page
        assert "Sonnenallee 12" in maya.get(f"/orders/{order_id}").text
        assert maya.json("GET", f"/api/orders/{order_id}").status_code == 200
    assert theirs.order_id not in page
    assert maya.get(f"/orders/{theirs.order_id}").status_code == 404


@pytest.mark.accept("X13")
def test_typing_an_address_shows_nothing(sqlite_shop: Shop, bought: Checkout) -> None:
    nosy = sqlite_shop.shopper()
    asks(nosy)
    nosy.post("/orders/find", {"email": MAYA})
    sqlite_shop.work()

    assert bought.order_id not in nosy.get("/orders").text
    assert nosy.get(f"/orders/{bought.order_id}").status_code == 404


def test_the_orders_of_a_browser_stay_its_own_beside_those_of_the_address(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    browser = sqlite_shop.shopper()
    guest = browser.buy(email="guest@example.com")
    presses(browser, mailed(sqlite_shop, browser))

    page = browser.get("/orders").text
    assert guest.order_id in page and bought.order_id in page
    assert browser.get(f"/orders/{guest.order_id}").status_code == 200


def test_the_answer_is_the_same_for_every_address_and_nothing_is_looked_up_for_it(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    visitor = sqlite_shop.shopper()
    answers = {asks(visitor, one) for one in (MAYA, "nobody@example.com", "no address", "")}

    assert len(answers) == 1
    asked = sqlite_shop.rows(OutboxMessage, OutboxMessage.kind == "sign_in")
    assert len(asked) == 2, "known and unknown cost the same: one row each"
    assert all(MAYA not in row.key and "nobody" not in row.key for row in asked)
    sqlite_shop.work()
    (mail,) = letters(sqlite_shop, "sign_in")
    assert mail["To"] == "Maya@example.com", "the address that ordered, not the one that was typed"
    assert sqlite_shop.count(SignInLink) == 1
    after = sqlite_shop.rows(OutboxMessage, OutboxMessage.kind == "sign_in")
    assert [row.payload for row in after] == [{}, {}]


def test_looking_uses_nothing_up_and_a_press_does(sqlite_shop: Shop, bought: Checkout) -> None:
    maya = sqlite_shop.shopper()
    token = mailed(sqlite_shop, maya)
    for _ in range(3):  # a mail scanner opens every link
        scanner = sqlite_shop.shopper()
        page = scanner.get(f"/orders/sign-in?token={token}")
        assert page.status_code == 200 and MAYA in page.text
        assert bought.order_id not in scanner.get("/orders").text
    assert sqlite_shop.count(ShopperSession) == 0

    assert presses(maya, token).location == "/orders"
    second = presses(sqlite_shop.shopper(), token)
    assert second.status_code == 410 and "has been used" in second.text
    assert sqlite_shop.shopper().get(f"/orders/sign-in?token={token}").status_code == 410
    assert sqlite_shop.count(ShopperSession) == 1


def test_a_link_lives_for_a_quarter_of_an_hour(sqlite_shop: Shop, bought: Checkout) -> None:
    maya = sqlite_shop.shopper()
    token = mailed(sqlite_shop, maya)
    sqlite_shop.clock.forward(minutes=14, seconds=59)
    assert maya.get(f"/orders/sign-in?token={token}").status_code == 200

    sqlite_shop.clock.forward(seconds=1)

    for answer in (maya.get(f"/orders/sign-in?token={token}"), presses(maya, token)):
        assert answer.status_code == 410 and "too old" in answer.text
        assert 'href="/orders"' in answer.text
    assert sqlite_shop.count(ShopperSession) == 0


def test_a_link_that_signs_in_opens_no_order_and_the_other_way_round(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    visitor = sqlite_shop.shopper()
    token = mailed(sqlite_shop, visitor)
    order_token = links.token(sqlite_shop.the_order())

    assert visitor.get(f"/orders/{bought.order_id}?token={token}").status_code == 404
    for wrong in (order_token, token[:-1], token[1:], "", "x" * 5000, "ä.😀"):
        page = visitor.get("/orders/sign-in", query_string={"token": wrong})
        assert page.status_code == 404 and "not complete" in page.text
        assert presses(visitor, wrong).status_code == 404
    assert sqlite_shop.count(ShopperSession) == 0


def test_a_cookie_from_before_signing_in_opens_nothing(sqlite_shop: Shop, bought: Checkout) -> None:
    maya = sqlite_shop.shopper()
    maya.put_in_cart()
    old_token = maya.token()
    planted = maya.browser.get_cookie("shop", domain="shop.test")
    assert planted
    presses(maya, mailed(sqlite_shop, maya))
    thief = sqlite_shop.shopper()
    thief.browser.set_cookie("shop", planted.value, domain="shop.test")

    assert bought.order_id in maya.get("/orders").text
    assert maya.cart() == [(MUG, 1)], "the basket stays"
    assert bought.order_id not in thief.get("/orders").text
    assert maya.token() != old_token
    form = {"csrf_token": old_token, "everywhere": "1"}
    assert maya.browser.post("/orders/sign-out", data=form, base_url=ORIGIN).status_code == 400


def test_signed_out_means_out_also_for_a_copy_of_the_cookie(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    maya = signed_in(sqlite_shop)
    guest = maya.buy(email="guest@example.com")
    copied = maya.browser.get_cookie("shop", domain="shop.test")
    assert copied
    copy = sqlite_shop.shopper()
    copy.browser.set_cookie("shop", copied.value, domain="shop.test")
    assert bought.order_id in copy.get("/orders").text

    assert maya.post("/orders/sign-out").status_code == 303

    for order_id in (bought.order_id, guest.order_id):
        assert order_id not in maya.get("/orders").text, "nor does who comes next see a guest's"
        assert maya.get(f"/orders/{order_id}").status_code == 404
    assert bought.order_id not in copy.get("/orders").text


def test_signing_out_everywhere_ends_every_browser_and_every_link_in_the_mail(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    phone, laptop, ben = signed_in_at(sqlite_shop, MAYA), signed_in_at(sqlite_shop, MAYA), None
    sqlite_shop.shopper().buy(email="ben@example.com")
    ben = signed_in_at(sqlite_shop, "ben@example.com")
    sqlite_shop.clock.forward(minutes=1)
    waiting = mailed(sqlite_shop, sqlite_shop.shopper())

    phone.post("/orders/sign-out", {"everywhere": "1"})

    assert bought.order_id not in laptop.get("/orders").text
    assert presses(laptop, waiting).status_code == 410
    assert "Sign out everywhere" in ben.get("/orders").text


def signed_in_at(shop: Shop, email: str) -> Shopper:
    shop.clock.forward(minutes=1)
    return signed_in(shop, email)


def test_a_session_ends_when_nobody_comes_and_at_last_by_itself(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    idle, busy = signed_in_at(sqlite_shop, MAYA), signed_in_at(sqlite_shop, MAYA)
    for _ in range(4):
        sqlite_shop.clock.forward(days=7)
        sees = bought.order_id in busy.get("/orders").text
        assert sees
    assert bought.order_id not in idle.get("/orders").text

    sqlite_shop.clock.forward(days=2)
    assert bought.order_id not in busy.get("/orders").text


def test_one_address_is_written_to_once_a_minute_and_five_times_an_hour(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    def ask_for_both(times: int) -> None:
        for _ in range(times):
            for _ in range(2):
                asks(sqlite_shop.shopper())
                sqlite_shop.shopper().post("/orders/find", {"email": MAYA})
            sqlite_shop.work()
            sqlite_shop.clock.forward(minutes=1)

    ask_for_both(8)
    for kind in ("sign_in", "order_links"):
        assert len(letters(sqlite_shop, kind)) == sign_in.MOST_AN_HOUR

    sqlite_shop.clock.forward(minutes=60)
    ask_for_both(1)
    for kind in ("sign_in", "order_links"):
        assert len(letters(sqlite_shop, kind)) == sign_in.MOST_AN_HOUR + 1


def test_one_place_may_ask_five_times_a_minute(sqlite_shop: Shop) -> None:
    limiter.enabled = True
    limiter.reset()
    visitor = sqlite_shop.shopper()
    try:
        for path in ("/orders/sign-in-links", "/orders/find"):
            told = [
                visitor.post(path, {"email": f"n{n}@example.com"}).status_code for n in range(6)
            ]
            assert told == [200] * 5 + [429], path
    finally:
        limiter.reset()
        limiter.enabled = False


def test_a_link_that_waited_for_the_mail_server_is_as_young_as_its_mail(
    sqlite_shop: Shop, bought: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions = sqlite_shop.app.extensions
    with monkeypatch.context() as patched:
        nobody_answers = replace(extensions["settings"], smtp_url="smtp://127.0.0.1:1")
        patched.setitem(extensions, "settings", nobody_answers)
        asks(sqlite_shop.shopper())
        sqlite_shop.work()
    sqlite_shop.clock.forward(minutes=20)

    sqlite_shop.work()

    token = leads_to(letters(sqlite_shop, "sign_in")[-1]).partition("token=")[2]
    assert presses(sqlite_shop.shopper(), token).status_code == 303


def test_two_presses_at_once_sign_in_one_browser(postgres_shop: Shop) -> None:
    postgres_shop.shopper().buy()
    token = mailed(postgres_shop, postgres_shop.shopper())
    people = [postgres_shop.shopper() for _ in range(6)]
    tokens = [person.token() for person in people]
    told: list[int] = []
    start = threading.Barrier(len(people))

    def press(person: Shopper, csrf: str) -> None:
        start.wait()
        form = {"csrf_token": csrf, "token": token}
        told.append(person.browser.post("/orders/sign-in", data=form, base_url=ORIGIN).status_code)

    threads = [
        threading.Thread(target=press, args=pair) for pair in zip(people, tokens, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(told) == [303] + [410] * 5
    assert postgres_shop.count(ShopperSession) == 1


def test_what_is_over_is_forgotten(sqlite_shop: Shop, bought: Checkout) -> None:
    signed_in(sqlite_shop).post("/orders/sign-out")
    asks(sqlite_shop.shopper(), "nobody@example.com")
    sqlite_shop.work()
    sqlite_shop.clock.forward(days=1, minutes=1)

    reconcile.sync()

    assert sqlite_shop.count(SignInLink) == sqlite_shop.count(ShopperSession) == 0
    assert sqlite_shop.rows(OutboxMessage, OutboxMessage.kind == "sign_in") == []


def test_the_mail_says_what_the_link_does(sqlite_shop: Shop, bought: Checkout) -> None:
    mailed(sqlite_shop, sqlite_shop.shopper())

    (mail,) = letters(sqlite_shop, "sign_in")
    for form in ("plain", "html"):
        assert "works once, within 15 minutes" in read(mail, form)
        assert leads_to(mail) in read(mail, form).replace("&amp;", "&")


def test_an_address_is_looked_up_in_an_index(sqlite_shop: Shop) -> None:
    with reading() as session:
        plan = session.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT id FROM orders"
                " WHERE shopper_id = 'x' OR lower(orders.email) = 'x'"
            )
        ).all()

    said = " ".join(str(row) for row in plan)
    assert "orders_of_an_address" in said and "SCAN orders" not in said
