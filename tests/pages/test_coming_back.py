"""Back from the payment page: what is true, told to the owner and to strangers."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import stripe
from sqlalchemy import update
from werkzeug.test import TestResponse

from extensions import atomic
from models import Order
from services import links, reconcile
from tests.shop import ADDRESS, LAMP, MUG, ORIGIN, Checkout, Shop, TestShops

DECLINED, NO_FUNDS = "4000000000000002", "4000000000009995"
WRONG = "wrong_amount"


def headline(page: TestResponse) -> str:
    found = re.search(r'<h1 id="order-headline"[^>]*>([^<]*)</h1>', page.text)
    assert found, page.text
    return found[1]


def next_poll(page: TestResponse) -> tuple[str, float] | None:
    """Where and after how many seconds the page asks again, if it does."""
    section = re.search(r'<section [^>]*id="order-status"[^>]*>', page.text, re.S)
    assert section
    found = re.search(r'hx-get="([^"]+)" hx-trigger="load delay:(\d+)ms', section[0])
    return (found[1].replace("&amp;", "&"), int(found[2]) / 1000) if found else None


# -- the states of an order


def nothing_yet(_shop: Shop, _checkout: Checkout) -> None:
    """The shopper came back without paying, or the news is on its way."""


def paid(_shop: Shop, checkout: Checkout) -> None:
    checkout.pay()


def declined(_shop: Shop, checkout: Checkout) -> None:
    checkout.pay(NO_FUNDS)


def debit_under_way(_shop: Shop, checkout: Checkout) -> None:
    checkout.pay("bank_debit")


def debit_bounced(shop: Shop, checkout: Checkout) -> None:
    checkout.pay("bank_debit_fails")
    shop.clock.forward(minutes=1)
    shop.sandbox.tick()


def ran_out(shop: Shop, _checkout: Checkout) -> None:
    shop.clock.forward(minutes=61)
    reconcile.sync()


def given_up(_shop: Shop, checkout: Checkout) -> None:
    checkout.shopper.post("/checkout/release", {"order_id": checkout.order_id})


def refunded(shop: Shop, checkout: Checkout) -> None:
    paid_with = checkout.pay()["session"]["payment_intent"]
    stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url}).v1.refunds.create(
        {"payment_intent": paid_with}
    )
    shop.deliver_and_work()


def short_paid(_shop: Shop, checkout: Checkout) -> None:
    checkout.pay(WRONG)


STATES = [
    (nothing_yet, "Confirming your payment", "please don’t pay again", True),
    (paid, "Thank you, Maya. You’re all set.", "We received your payment of", False),
    (declined, "The payment didn’t go through", "There was not enough money on the card", False),
    (debit_under_way, "Your bank is taking its time", "we write to you as soon as we know", True),
    (debit_bounced, "The payment didn’t go through", "You were not charged", False),
    (ran_out, "This checkout has expired", "Nothing was charged", False),
    (given_up, "You left before paying", "Nothing was charged", False),
    (refunded, "We sent money back to you", "€22.90 of this order went back", False),
    (short_paid, "We have your payment, and one question", "Please don’t pay again", False),
]


@pytest.mark.accept("V20", "P20", "X3")
@pytest.mark.parametrize(("happens", "head", "says", "asks"), STATES)
def test_the_page_says_how_the_payment_stands(
    sqlite_shop: Shop,
    happens: Callable[[Shop, Checkout], None],
    head: str,
    says: str,
    asks: bool,
) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    happens(sqlite_shop, checkout)

    page = shopper.come_back(checkout)

    assert page.status_code == 200
    assert headline(page) == head
    assert says in re.sub(r"<[^>]+>", "", page.text)
    assert (next_poll(page) is not None) == asks
    assert headline(shopper.get(f"/orders/{checkout.order_id}")) == head
    assert headline(shopper.get(f"/orders/{checkout.order_id}/status")) == head


@pytest.mark.accept("V20")
def test_coming_back_settles_the_order_without_any_webhook(shop: Shop) -> None:
    shopper = shop.shopper()
    checkout = shopper.buy()
    checkout.pay()

    page = shopper.come_back(checkout)

    assert shop.the_order().payment_status == "paid"
    assert shop.the_order().paid_lane == "landing"
    assert "€22.90" in page.text and "Visa ···· 4242" in page.text
    assert page.text.count("maya@example.com") >= 1


def test_the_page_waits_while_stripe_does_not_answer(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    checkout.pay()
    sqlite_shop.sandbox.chaos.outage = "503"

    page = shopper.come_back(checkout)

    assert (page.status_code, headline(page)) == (200, "Confirming your payment")
    sqlite_shop.sandbox.chaos.clear()
    assert headline(shopper.come_back(checkout)).startswith("Thank you, Maya")


@pytest.mark.accept("O19")
def test_lines_and_total_are_shown_before_any_news(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(LAMP)
    checkout = shopper.buy(MUG, 2)
    sqlite_shop.sandbox.chaos.outage = "503"

    page = shopper.come_back(checkout).text

    for shown in ("Enamel mug", "qty 2", "€36.00", "Desk lamp", "€33.00", "€73.90"):
        assert shown in page
    assert "Sonnenallee 12" in page and "12047 Berlin" in page


@pytest.mark.accept("V21", "V22")
def test_the_page_asks_ever_more_slowly_and_then_stops(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    page = shopper.come_back(shopper.buy())
    delays: list[float] = []
    heads: list[str] = []

    while poll := next_poll(page):
        url, delay = poll
        assert query_of(url) == {"look": str(len(delays) + 1)}
        delays.append(delay)
        heads.append(headline(page))
        page = shopper.get(url)
        assert page.status_code == 200

    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (0.7, 30)
    assert 600 < sum(delays) < 660
    assert heads[0] == "Confirming your payment"
    assert heads[-1] == headline(page) == "Your bank is taking its time"
    assert "This page has stopped checking by itself" in page.text
    assert "We’ll e-mail <b>maya@example.com</b>" in page.text
    assert "Check again" in page.text


@pytest.mark.accept("V21")
def test_a_poll_that_sees_the_payment_is_the_last_one(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    first = shopper.come_back(checkout)
    checkout.pay()
    sqlite_shop.deliver_and_work()

    poll = next_poll(first)
    assert poll
    fragment = shopper.get(poll[0], headers={"HX-Request": "true"})

    assert next_poll(fragment) is None
    assert "<html" not in fragment.text
    assert "Paid – order" in fragment.text
    assert 'id="order-receipt" hx-swap-oob="true"' in fragment.text
    assert "PAID" in fragment.text


@pytest.mark.fault("F8")
def test_a_poll_asks_stripe_itself_when_the_news_stays_away(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    shopper.come_back(checkout)
    checkout.pay()

    assert headline(shopper.get(f"/orders/{checkout.order_id}/status?look=2")).startswith("Conf")
    assert headline(shopper.get(f"/orders/{checkout.order_id}/status?look=3")).startswith("Thank")


LOOKS = ["-1", "x", "1e9", "99999999999999999999", "٣", "%00", "1.5"]


def test_a_strange_count_of_looks_is_no_trouble(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    for look in LOOKS:
        answer = shopper.get(f"/orders/{checkout.order_id}/status?look={look}")

        assert answer.status_code == (400 if look == "%00" else 200)


def test_without_scripts_the_page_reloads_itself_four_times(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    page = shopper.come_back(shopper.buy())
    pauses = []

    while found := re.search(r'http-equiv="refresh" content="(\d+);url=([^"]+)"', page.text):
        pauses.append(int(found[1]))
        page = shopper.get(found[2].replace("&amp;", "&"))

    assert pauses == [4, 8, 16, 32]


# -- the addresses


@pytest.mark.accept("D20")
def test_every_form_of_the_address_opens_the_same_page(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    paid_with = checkout.pay()["session"]["payment_intent"]
    sqlite_shop.deliver_and_work()
    addresses = (
        f"/checkout/success?session_id={checkout.session_id}",
        f"/api/checkout/success?session_id={checkout.session_id}",
        f"/order-success/{checkout.order_id}",
        f"/payment/success?payment_intent={paid_with}",
        f"/orders/{checkout.order_id}",
    )
    shown = {main_of(shopper.get(address)) for address in addresses}

    assert len(shown) == 1
    assert "Thank you, Maya" in shown.pop()


NOT_OURS = [
    "/checkout/success",
    "/checkout/success?session_id=",
    "/checkout/success?session_id=cs_test_forged",
    "/checkout/success?session_id=%F0%9F%92%A5",
    "/checkout/success?session_id=" + "x" * 5000,
    "/api/checkout/success?session_id=nope",
    "/payment/success",
    "/payment/success?payment_intent=pi_forged",
    "/checkout/cancel",
    "/checkout/cancel?attempt=nope",
    "/orders/nope",
    "/orders/nope/status",
    "/order-success/nope",
]


@pytest.mark.accept("P11", "P17")
def test_a_reference_that_is_not_ours_makes_no_order(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    for path in NOT_OURS:
        answer = shopper.get(path)

        assert answer.status_code == 404
        assert answer.content_type.startswith("text/html")
        assert "Back to the shop" in answer.text
        assert sqlite_shop.count(Order) == 0


@pytest.mark.accept("V23", "V15")
def test_leaving_the_payment_page_shows_what_waits_and_lets_one_pay(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy(MUG, 2)

    page = shopper.get(f"/checkout/cancel?attempt={checkout.order_id}")

    assert page.status_code == 200
    for shown in ("You left before paying", "Nothing was charged", "Enamel mug", "qty 2", "€40.90"):
        assert shown in page.text
    assert "Your items are set aside until" in page.text
    assert f'action="/orders/{checkout.order_id}/retries"' in page.text
    again = shopper.opened(shopper.post(f"/orders/{checkout.order_id}/retries"))
    assert again.order_id == checkout.order_id
    assert (checkout.session["status"], again.session["status"]) == ("expired", "open")


def test_leaving_after_paying_in_another_tab_shows_the_paid_order(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    checkout.pay()

    answer = shopper.get(f"/checkout/cancel?attempt={checkout.order_id}", follow_redirects=True)

    assert headline(answer).startswith("Thank you, Maya")


@pytest.mark.parametrize("way", ["bank_debit", WRONG])
def test_leaving_never_says_nothing_was_charged_while_money_moves(
    sqlite_shop: Shop, way: str
) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    checkout.pay(way)

    answer = shopper.get(f"/checkout/cancel?attempt={checkout.order_id}", follow_redirects=True)

    assert "You left before paying" not in answer.text
    assert "Nothing was charged" not in answer.text


@pytest.mark.accept("V15", "V13")
def test_after_a_decline_another_card_pays_the_same_order(shop: Shop) -> None:
    shopper = shop.shopper()
    checkout = shopper.buy()
    checkout.pay(DECLINED)
    page = shopper.come_back(checkout)
    assert "Your bank declined the payment." in page.text
    assert "Try again – €22.90" in page.text
    assert "Your items stay set aside until" in page.text

    again = shopper.opened(shopper.post(f"/orders/{checkout.order_id}/retries"))
    assert again.order_id == checkout.order_id
    again.pay()
    assert headline(shopper.come_back(again)).startswith("Thank you, Maya")
    assert shop.count(Order) == 1


@pytest.mark.accept("V14", "V15")
def test_an_expired_checkout_starts_again_with_the_same_items(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy(LAMP)
    ran_out(sqlite_shop, checkout)

    assert "Start again with the same items" in shopper.come_back(checkout).text
    assert shopper.cart() == [(LAMP, 1)]
    again = shopper.opened(shopper.post(f"/orders/{checkout.order_id}/retries"))
    again.pay()

    assert headline(shopper.come_back(again)).startswith("Thank you, Maya")
    assert (again.order_id, shopper.cart()) == (checkout.order_id, [])


# -- whose order it is


@pytest.mark.accept("O28", "V19", "X13")
def test_a_stranger_with_the_id_sees_no_order(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()
    stranger = sqlite_shop.shopper()
    for path in (
        f"/orders/{checkout.order_id}",
        f"/order-success/{checkout.order_id}",
        f"/checkout/cancel?attempt={checkout.order_id}",
        f"/api/orders/{checkout.order_id}",
        f"/api/orders/by-session/{checkout.session_id}",
    ):
        assert stranger.get(path).status_code == 404, path
    for path in ("retries", "receipts"):
        assert stranger.post(f"/orders/{checkout.order_id}/{path}").status_code == 404
    for path in ("again", "release"):
        answer = stranger.post(f"/checkout/{path}", {"order_id": checkout.order_id})
        assert answer.status_code == 404
    assert "No orders in this browser yet" in stranger.get("/orders").text
    assert checkout.session["status"] == "open"


@pytest.mark.parametrize("happens", [nothing_yet, paid, declined, short_paid])
def test_a_stranger_with_the_session_sees_how_it_stands_and_nothing_personal(
    sqlite_shop: Shop, happens: Callable[[Shop, Checkout], None]
) -> None:
    checkout = sqlite_shop.shopper().buy()
    happens(sqlite_shop, checkout)
    stranger = sqlite_shop.shopper()

    pages = (
        stranger.get(f"/checkout/success?session_id={checkout.session_id}"),
        stranger.get(f"/orders/{checkout.order_id}/status"),
        stranger.get(f"/orders/{checkout.order_id}/status?look=40"),
    )

    number = f"NL-{sqlite_shop.the_order().number}"
    for page in pages:
        assert page.status_code == 200
        for secret in ("Maya", "Lindqvist", ADDRESS["email"], "Sonnenallee", "Enamel mug", number):
            assert secret not in page.text


def link_of(shop: Shop, order_id: str) -> str:
    order = shop.order(order_id)
    assert order
    return links.path(order)


@pytest.mark.accept("X13", "O28")
def test_a_guest_opens_the_order_by_its_link_and_may_use_it(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()
    checkout.pay(DECLINED)
    guest = sqlite_shop.shopper()

    page = guest.get(link_of(sqlite_shop, checkout.order_id))

    assert page.status_code == 200
    assert "Enamel mug" in page.text and "Sonnenallee 12" in page.text
    # The page's own requests carry no token.
    assert guest.get(f"/orders/{checkout.order_id}").status_code == 200
    again = guest.opened(guest.post(f"/orders/{checkout.order_id}/retries"))
    assert again.order_id == checkout.order_id
    freed = guest.post("/checkout/release", {"order_id": checkout.order_id})
    assert (freed.status_code, again.session["status"]) == (303, "expired")


@pytest.mark.accept("X13")
def test_a_token_in_a_header_opens_the_order_for_a_program(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()
    order = sqlite_shop.the_order()
    bearer = {"Authorization": f"Bearer {links.token(order)}"}
    program = sqlite_shop.shopper()

    for path in (order.id, f"by-session/{checkout.session_id}"):
        assert program.get(f"/api/orders/{path}", headers=bearer).get_json()["id"] == order.id
        assert program.get(f"/api/orders/{path}").status_code == 404  # it leaves nothing behind


@pytest.mark.accept("X13")
def test_a_revoked_link_opens_nothing_also_where_it_was_opened_before(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()
    link = link_of(sqlite_shop, checkout.order_id)
    guest = sqlite_shop.shopper()
    assert guest.get(link).status_code == 200

    with atomic() as session:
        session.execute(update(Order).values(link_version=2))

    assert guest.get(link).status_code == 404
    assert guest.get(f"/orders/{checkout.order_id}").status_code == 404
    assert guest.get(link_of(sqlite_shop, checkout.order_id)).status_code == 200


@pytest.mark.accept("X13")
def test_a_mangled_link_opens_nothing(sqlite_shop: Shop) -> None:
    mine, other = sqlite_shop.shopper().buy(), sqlite_shop.shopper().buy()
    path, _, token = link_of(sqlite_shop, mine.order_id).partition("?token=")
    other_token = link_of(sqlite_shop, other.order_id).partition("?token=")[2]
    payload, _, signature = token.rpartition(".")
    stranger = sqlite_shop.shopper()

    for wrong in (
        "",
        token[:-1],
        token + "A",
        token.swapcase(),
        f"{payload}.",
        f".{signature}",
        other_token,
        f"{other_token.rpartition('.')[0]}.{signature}",
        "x" * 5000,
        "é" * 20,
        "%ff%fe",
        token + "%20",
    ):
        assert stranger.get(f"{path}?token={wrong}").status_code == 404, wrong


@pytest.mark.accept("X24")
def test_links_outlive_a_new_key_until_the_old_one_is_dropped(sqlite_shops: TestShops) -> None:
    old, new = "o" * 40, "n" * 40
    with sqlite_shops.opened(secret_keys=(old,)) as shop:
        shop.shopper().buy()
        order = shop.the_order()
        token = links.token(order)
        shop.app.extensions["settings"] = settings_with(shop, (new, old))
        assert links.opens(token, order)
        shop.app.extensions["settings"] = settings_with(shop, (new,))
        assert not links.opens(token, order)


def test_many_opened_links_do_not_overflow_the_cookie(sqlite_shop: Shop) -> None:
    guest, buyer = sqlite_shop.shopper(), sqlite_shop.shopper()
    for _ in range(12):
        checkout = buyer.buy()
        guest.get(link_of(sqlite_shop, checkout.order_id))
        buyer.post("/checkout/release", {"order_id": checkout.order_id})

    with guest.browser.session_transaction(base_url=ORIGIN) as session:
        assert len(session["links"]) == 10
    cookie = guest.browser.get_cookie("shop", domain="shop.test")
    assert cookie and len(cookie.value) < 3000
    assert guest.get(f"/orders/{checkout.order_id}").status_code == 200


def test_an_order_has_one_id_and_nothing_longer_leads_to_it(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()

    for path in ("/orders/{}-more", "/orders/{}-more/status", "/api/orders/{}-more"):
        assert shopper.get(path.format(checkout.order_id)).status_code == 404


def test_my_orders_lists_mine_newest_first_and_offers_to_pay(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    first = shopper.buy()
    first.pay()
    sqlite_shop.deliver_and_work()
    sqlite_shop.clock.forward(minutes=1)
    second = shopper.buy(LAMP)

    page = shopper.get("/orders").text

    assert page.index(second.order_id) < page.index(first.order_id)
    assert "Waiting for payment" in page and "Confirmed" in page
    assert page.count("Pay now") == 1


def test_my_orders_goes_on_after_a_page(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    copies_of(sqlite_shop.order(checkout.order_id), 24)
    seen: list[str] = []
    url = "/orders"
    while True:
        page = shopper.get(url).text
        seen += re.findall(r'href="/orders/([0-9a-f-]{36})"', page)
        older = re.search(r'href="(/orders\?after=[^"]+)"', page)
        if not older:
            break
        url = older[1]

    assert len(seen) == len(set(seen)) == 25
    for broken in ("x", "_", "nan_1", "1e999_1", "٣_1"):
        assert shopper.get(f"/orders?after={broken}").status_code == 200


def copies_of(order: Order | None, count: int) -> None:
    """More orders of the same shopper, some of them placed in the same instant."""
    assert order
    columns = {c.key: getattr(order, c.key) for c in Order.__table__.columns}
    with atomic() as session:
        for n in range(count):
            changes = {"id": f"{n:036}", "checkout_attempt_id": None, "number": 20000 + n}
            session.add(Order(**{**columns, **changes}))


def settings_with(shop: Shop, keys: tuple[str, ...]) -> object:
    from dataclasses import replace

    return replace(shop.app.extensions["settings"], secret_keys=keys)


def query_of(url: str) -> dict[str, str]:
    return dict(part.split("=") for part in urlsplit(url).query.split("&"))


def main_of(page: TestResponse) -> str:
    """What is on the page, without what is minted anew for each (form tokens)."""
    assert page.status_code == 200
    main = page.text.partition("<main")[2].partition("</main>")[0]
    return re.sub(r'name="csrf_token" value="[^"]+"', "", main)


@pytest.mark.accept("P20", "V20")
def test_an_old_decline_is_not_believed_while_stripe_is_silent(sqlite_shop: Shop) -> None:
    """First card declined, second one pays, its news is late and Stripe cannot be asked: nobody
    may read “you were not charged, try again” now."""
    shop = sqlite_shop
    shopper = shop.shopper()
    bought = shopper.buy()
    bought.pay("4000000000000002")
    shop.deliver_and_work()
    bought.pay()
    shop.sandbox.chaos.outage = "503"

    page = shopper.come_back(bought).text
    assert "Confirming your payment" in page
    assert "not charged" not in page
    fragment = shopper.get(f"/orders/{bought.order_id}/status?look=1&unsure=1").text
    assert "unsure=1" in fragment
    assert "not charged" not in fragment

    shop.sandbox.chaos.outage = ""
    assert "all set" in shopper.get(f"/orders/{bought.order_id}/status?look=3&unsure=1").text
