"""The shelf and the basket, as somebody walks through them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from extensions import atomic
from models import Cart, Product
from services import catalogue
from tests.shop import COFFEE, LAMP, MUG, PRINTS, Shop, Shopper

FRAGMENT = {"HX-Request": "true"}


def titles(page: TestResponse) -> list[str]:
    return re.findall(r'<h2><a class="plain" href="/products/[^"]+">([^<]+)</a>', page.text)


def test_the_shelf_shows_what_is_for_sale(shop: Shop) -> None:
    shown = titles(shop.shopper().get("/"))

    assert "Enamel mug" in shown and shown == sorted(shown)


def test_the_search_looks_at_titles_and_subtitles(shop: Shop) -> None:
    shopper = shop.shopper()

    assert titles(shopper.get("/?q=MUG")) == ["Enamel mug"]
    assert titles(shopper.get("/?q=brass")) == ["Desk lamp"]
    assert titles(shopper.get("/?q= lamp ")) == ["Desk lamp"]
    fragment = shopper.get("/?q=lamp", headers=FRAGMENT)
    assert titles(fragment) == ["Desk lamp"] and "<html" not in fragment.text


@pytest.mark.parametrize(("sort", "reverse"), [("price", False), ("-price", True)])
def test_the_shelf_sorts_by_the_price_one_sees(shop: Shop, sort: str, reverse: bool) -> None:
    shopper = shop.shopper()
    shopper.post("/currency", {"currency": "jpy"})
    page = shopper.get(f"/?sort={sort}").text
    prices = [int(price.replace(",", "")) for price in re.findall(r"¥([\d,]+)", page)]

    assert len(prices) > 5
    assert prices == sorted(prices, reverse=reverse)


def test_strange_filters_show_the_shelf_or_say_that_it_is_empty(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    for query in ("sort=nope", "sort=", "after=x", "after=-5", "after=٣", "sort=__class__"):
        assert len(titles(shopper.get(f"/?{query}"))) > 5, query
    for query in ("category=nope", "after=9999", "category=%25"):
        assert "Nothing here yet" in shopper.get(f"/?{query}").text, query


def test_more_than_a_page_is_shown_page_by_page(sqlite_shop: Shop) -> None:
    catalogue.stock_up(
        {"sku": f"S{n}", "slug": f"s{n}", "title": f"Spare part {n:02}", "prices": {"eur": n + 1},
         "units": 1}
        for n in range(30)
    )  # fmt: skip
    shopper = sqlite_shop.shopper()
    seen: list[str] = []
    url: str | None = "/?q=Spare"
    while url:
        page = shopper.get(url)
        seen += titles(page)
        more = re.search(r'<a class="btn big" href="([^"]+)"', page.text)
        url = more[1].replace("&amp;", "&") if more else None

    assert seen == [f"Spare part {n:02}" for n in range(30)]


def test_yen_has_no_decimals_anywhere(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.post("/currency", {"currency": "jpy"})
    assert "¥2,900" in shopper.get("/products/enamel-mug").text
    shopper.put_in_cart(MUG, 2)
    assert "¥5,800" in shopper.get("/cart").text
    assert "Pay ¥6,600" in shopper.get("/checkout").text

    checkout = shopper.opened(shopper.check_out())

    assert (checkout.session["amount_total"], checkout.session["currency"]) == (6600, "jpy")
    checkout.pay()
    page = shopper.come_back(checkout).text
    assert "¥6,600" in page and "¥6,600.00" not in page and "¥66" not in page.replace("¥6,6", "")
    sqlite_shop.work()
    assert "¥6,600" in sqlite_shop.receipts()[0].result["source"].replace("=C2=A5", "¥")


def test_a_change_of_currency_prices_the_basket_anew(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(MUG, 2)
    shopper.post("/currency", {"currency": "usd"})

    basket = shopper.json("GET", "/api/cart").get_json()
    assert (basket["subtotal"], basket["currency"]) == (3900, "usd")
    assert "A price has changed" not in shopper.get("/cart").text
    assert shopper.opened(shopper.check_out()).session["currency"] == "usd"


def test_an_unknown_currency_changes_nothing(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart()
    for code in ("xxx", "", "EUR", "usd'--"):
        assert shopper.post("/currency", {"currency": code}).status_code == 303

    assert [cart.currency for cart in sqlite_shop.rows(Cart)] == ["eur"]
    assert "€18.00" in shopper.get("/cart").text


def test_what_has_no_price_in_a_currency_is_not_sold_in_it(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart()
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == MUG).values(prices={"eur": 1800}))
    shopper.post("/currency", {"currency": "usd"})

    assert "Enamel mug" not in titles(shopper.get("/"))
    assert "Not sold in USD" in shopper.get("/products/enamel-mug").text
    assert "Not sold in USD." in shopper.get("/cart").text
    refused = shopper.put_in_cart()
    assert refused.status_code == 409
    assert "Enamel mug is not sold in USD" in refused.text
    assert shopper.check_out().status_code == 409
    shopper.post("/currency", {"currency": "eur"})
    shopper.opened(shopper.check_out())


def test_an_archived_product_keeps_its_page_and_is_not_sold(sqlite_shop: Shop) -> None:
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == MUG).values(active=False))
    shopper = sqlite_shop.shopper()

    page = shopper.get("/products/enamel-mug")
    assert page.status_code == 200 and "Sold out for now" in page.text
    assert "Enamel mug" not in titles(shopper.get("/"))
    assert shopper.put_in_cart().status_code == 409


def test_no_more_than_there_is_goes_into_a_basket(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    answer = shopper.put_in_cart(LAMP, 3)
    assert answer.status_code == 409
    assert "Only 2 of Desk lamp left" in answer.text
    assert "We set the quantity to 2 for you" in answer.text
    assert 'value="2"' in answer.text

    shopper.put_in_cart(LAMP, 1)
    answer = shopper.put_in_cart(LAMP, 2)
    assert answer.status_code == 409
    assert "Only 2 of Desk lamp left, and 1 of them is in your basket already" in answer.text
    assert "We set the quantity to 1 for you" in answer.text
    shopper.put_in_cart(LAMP, 1)
    answer = shopper.put_in_cart(LAMP, 1)
    assert "and 2 of them are in your basket already" in answer.text
    assert "We set the quantity" not in answer.text
    assert shopper.cart() == [(LAMP, 2)]


def test_a_line_taken_out_comes_back_by_undo(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(MUG, 3)
    shopper.post("/cart/lines/remove", {"sku": MUG})
    page = shopper.get("/cart").text
    assert "is out of your basket" in page and 'name="quantity" value="3"' in page
    assert "is out of your basket" not in shopper.get("/cart").text  # it is said once

    shopper.post("/cart/lines/restore", {"sku": MUG, "quantity": "3"})
    assert shopper.cart() == [(MUG, 3)]


def test_every_button_of_the_basket_answers_htmx_with_a_fragment(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(MUG, 2)
    presses: list[tuple[str, dict[str, str], int]] = [
        ("/cart/lines", {"sku": MUG, "quantity": "3"}, 200),
        ("/cart/lines", {"sku": MUG, "quantity": "999"}, 422),
        ("/cart/lines/remove", {"sku": MUG}, 200),
        ("/cart/lines/restore", {"sku": MUG, "quantity": "3"}, 200),
        ("/cart/prices", {}, 200),
    ]
    for path, form, status in presses:
        answer = shopper.post(path, form, headers=FRAGMENT)
        assert answer.status_code == status
        assert "<html" not in answer.text and 'id="cart-lines"' in answer.text, path
    added = shopper.post("/cart/items", {"sku": MUG, "quantity": "1"}, headers=FRAGMENT)
    assert "In your basket" in added.text and "<html" not in added.text
    summary = shopper.post("/checkout/quote", {"delivery": "express"}, headers=FRAGMENT)
    assert "€84.90" in summary.text and "<html" not in summary.text  # 4 × 18 + 12.90


def test_a_sold_out_line_in_the_basket_says_so(sqlite_shop: Shop) -> None:
    shopper, other = sqlite_shop.shopper(), sqlite_shop.shopper()
    shopper.put_in_cart(LAMP, 2)
    other.buy(LAMP, 2)

    page = shopper.get("/cart").text

    assert "Sold out." in page
    assert "Please sort out the marked lines first" in page
    assert shopper.post("/cart/lines", {"sku": LAMP, "quantity": "1"}).status_code == 409


def test_two_browsers_have_two_baskets(sqlite_shop: Shop) -> None:
    one, other = sqlite_shop.shopper(), sqlite_shop.shopper()
    one.put_in_cart(MUG)

    assert other.cart() == []
    other.post("/cart/lines/remove", {"sku": MUG})
    assert one.cart() == [(MUG, 1)]


def words(page: TestResponse) -> str:
    """What one reads on it, without the markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split()).replace(" ,", ",")


def test_what_recurs_says_on_the_shelf_how_often(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    for path in ("/?q=Monthly", "/products/monthly-coffee"):
        assert "€12.00 every month" in words(shopper.get(path)), path
    for path in ("/?q=Club", "/products/print-club"):
        assert "14 days free, then €9.00 every month" in words(shopper.get(path)), path
    added = shopper.post("/cart/items", {"sku": PRINTS, "quantity": "1"}, headers=FRAGMENT)
    assert "Print club · 14 days free, then €9.00 every month" in words(added)

    assert "every" not in words(shopper.get("/products/enamel-mug"))


def test_a_product_page_says_what_will_be_charged_and_when(sqlite_shop: Shop) -> None:
    sqlite_shop.clock.moment = datetime(2027, 1, 31, 12, tzinfo=UTC)
    shopper = sqlite_shop.shopper()

    coffee, prints = (shopper.get(f"/products/{s}") for s in ("monthly-coffee", "print-club"))

    assert (
        "Your first €12.00 is charged when you order, the next on 28 Feb 2027, then every month "
        "until you cancel, which you can do any time on your order’s page."
    ) in words(coffee)
    assert (
        "You pay nothing today; your first €9.00 is charged on 14 Feb 2027, then every month until "
        "you cancel"
    ) in words(prints)
    assert 'aria-describedby="terms"' in coffee.text


def test_each_line_of_a_basket_says_how_often_it_is_charged(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(MUG)
    shopper.put_in_cart(PRINTS, 2)

    for path in ("/cart", "/checkout"):
        page = words(shopper.get(path))
        assert "14 days free, then €9.00 each every month" in page, path
    assert words(shopper.get("/cart")).count("every month") == 2  # on its line, and in the total


def test_a_mixed_basket_says_what_is_due_today_and_what_follows(sqlite_shop: Shop) -> None:
    sqlite_shop.clock.moment = datetime(2026, 11, 27, 12, tzinfo=UTC)
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(MUG, 1)
    shopper.put_in_cart(COFFEE, 2)

    basket, form = words(shopper.get("/cart")), words(shopper.get("/checkout"))

    assert "Subtotal €42.00 Then €24.00 every month, first on 27 Dec 2026" in basket
    assert "Delivery €4.90 Due today €46.90 Then €24.00 every month, first on 27 Dec 2026" in form
    assert "Pay €46.90" in form and "Express" in form
    express = shopper.post("/checkout/quote", {"delivery": "express"}, headers=FRAGMENT)
    assert "Delivery €12.90 Due today €54.90 Then €24.00 every month" in words(express)


def test_subscriptions_alone_ship_free_and_ask_for_no_delivery(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(COFFEE)

    basket, form = words(shopper.get("/cart")), shopper.get("/checkout")

    assert "Delivery included Due today €12.00" in basket
    assert "Delivery included Due today €12.00" in words(form)
    assert "Delivery is included in your subscription" in words(form)
    assert "Pay €12.00" in form.text
    assert 'name="delivery"' not in form.text


def test_a_trial_costs_nothing_today_and_says_what_it_will(sqlite_shop: Shop) -> None:
    sqlite_shop.clock.moment = datetime(2026, 11, 27, 12, tzinfo=UTC)
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(PRINTS, 2)

    form = words(shopper.get("/checkout"))

    assert "Due today €0.00 After 14 days free, €18.00 every month, first on 11 Dec 2026" in form
    assert "Start your free trial" in form and "nothing is charged today" in form
    assert "Pay €" not in form
    shopper.put_in_cart(MUG)
    assert "Pay €22.90" in words(shopper.get("/checkout"))


def test_the_api_says_the_plan_of_a_line_and_what_is_due_now(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()
    items = [{"sku": sku, "quantity": 2} for sku in (MUG, PRINTS)]

    basket = shopper.json("PUT", "/api/cart", {"items": items}).get_json()

    mug, prints = basket["items"]
    assert "plan" not in mug
    assert prints["plan"] == {"interval": "month", "count": 1, "trialDays": 14}
    assert (mug["amount"], prints["amount"], basket["subtotal"]) == (3600, 1800, 3600)
    assert shopper.json("GET", "/api/cart").get_json() == basket


def test_subscriptions_of_different_rhythms_are_sorted_out_in_the_basket(
    sqlite_shop: Shop,
) -> None:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(COFFEE)
    shopper.put_in_cart(MUG)
    assert 'href="/checkout"' in shopper.get("/cart").text
    shopper.put_in_cart(PRINTS)

    page = shopper.get("/cart")

    assert "Monthly coffee and Print club are not charged on the same days" in page.text
    assert 'href="/checkout"' not in page.text
    assert shopper.get("/checkout").location == "/cart"
    shopper.post("/cart/lines/remove", {"sku": PRINTS})
    page = shopper.get("/cart")
    assert "are not charged on the same days" not in page.text and 'href="/checkout"' in page.text


def test_subscriptions_of_one_rhythm_add_up(sqlite_shop: Shop) -> None:
    plan = {"interval": "week", "interval_count": 2}
    catalogue.stock_up(
        {"sku": f"W{n}", "slug": f"w{n}", "title": f"Flowers {n}", "prices": {"eur": 500 * n},
         "units": 9, **plan}
        for n in (1, 2)
    )  # fmt: skip
    shopper = sqlite_shop.shopper()
    for sku in ("W1", "W2"):
        shopper.put_in_cart(sku)

    assert "Then €15.00 every 2 weeks, first on" in words(shopper.get("/checkout"))


def test_a_subscription_priced_elsewhere_says_in_which_currency_it_is_not_sold(
    sqlite_shop: Shop,
) -> None:
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == COFFEE).values(prices={"usd": 1300}))
    shopper = sqlite_shop.shopper()

    refused = shopper.put_in_cart(COFFEE)
    answer = shopper.json("PUT", "/api/cart", {"items": [{"sku": COFFEE, "quantity": 1}]})

    assert refused.status_code == 409
    assert "Monthly coffee is not sold in EUR. Choose another currency" in refused.text
    assert (answer.status_code, answer.get_json()["title"]) == (409, "Not sold in this currency")
    assert "not sold in EUR" in answer.get_json()["detail"]
    assert shopper.cart() == []


def test_checkout_with_an_empty_basket_leads_to_the_basket(sqlite_shop: Shop) -> None:
    shopper: Shopper = sqlite_shop.shopper()

    assert shopper.get("/checkout").location == "/cart"
    assert "Your basket is empty" in shopper.get("/cart").text


def test_an_unknown_product_is_not_found(sqlite_shop: Shop) -> None:
    assert sqlite_shop.shopper().get("/products/no-such").status_code == 404


def test_goods_without_a_picture_show_one_that_is_there(sqlite_shop: Shop) -> None:
    plain = {"sku": "PLAIN", "slug": "plain", "title": "Plain thing", "units": 9}
    catalogue.stock_up([{**plain, "prices": {"eur": 500}}])
    shopper = sqlite_shop.shopper()

    for page in ("/?q=plain+thing", "/products/plain"):
        (picture,) = re.findall(r'src="(/static/products/[^"]+)"', shopper.get(page).text)
        assert shopper.get(picture).status_code == 200
