"""The page of ours on which a basket with subscriptions is paid: what it says, holds and takes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
from werkzeug.test import TestResponse

from models import Subscription
from services import catalogue
from tests.plans.buying import (
    COFFEE,
    DECLINED,
    GOOD,
    PRINTS,
    Opened,
    OwnPage,
    lines,
    sells_plans,
    settle,
)
from tests.shop import MUG, ORIGIN, Shop, TestShops


@pytest.fixture
def elements(sqlite_shops: TestShops) -> Iterator[Shop]:
    with sqlite_shops.opened(payment_ui="elements") as opened:
        sells_plans()
        yield opened


@pytest.fixture
def own(elements: Shop) -> OwnPage:
    return OwnPage(elements)


def shown(opened: Opened) -> TestResponse:
    return opened.shopper.get(f"/checkout/pay/{opened.order_id}")


def words(page: TestResponse) -> str:
    """What can be read on the page, without its tags."""
    main = page.text[page.text.index("<main") : page.text.index("</main>")]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", main)))


def facts(page: TestResponse) -> dict[str, str]:
    """What the page's script is told."""
    form = re.search(r'<form [^>]*id="pay-form"[^>]*>', page.text)
    assert form, page.text
    return dict(re.findall(r'data-([\w-]+)="([^"]*)"', html.unescape(form[0])))


# -- what it says


@pytest.mark.accept("A13")
@pytest.mark.parametrize(
    ("skus", "headline", "press", "follows"),
    [
        ([MUG], "Pay €22.90", "Pay €22.90", None),
        ([COFFEE], "Pay €12.00", "Pay €12.00 now, and subscribe", "Then €12.00 every month, first"),
        (
            [PRINTS],
            "Start your trial",
            "Save card and start trial",
            "Nothing is charged today. After 14 days free, €9.00 every month, first on",
        ),
        (
            [MUG, COFFEE],
            "Pay €34.90",
            "Pay €34.90 now, and subscribe",
            "two charges today: €22.90 for what you buy once, and €12.00 for your subscription",
        ),
        (
            [MUG, PRINTS],
            "Pay €22.90",
            "Pay €22.90 now, and subscribe",
            "After 14 days free, €9.00 every month, first on",
        ),
    ],
)
def test_the_page_says_what_is_charged_now_and_what_follows(
    own: OwnPage, skus: list[str], headline: str, press: str, follows: str | None
) -> None:
    page = shown(own.opened(*skus))

    assert f"<h1>{headline}</h1>" in page.text
    assert facts(page)["press"] == press
    assert (follows or "Your items are set aside") in words(page)
    assert ("every month" in words(page)) == bool(follows)


def test_a_second_line_of_one_rhythm_is_in_the_sum_that_follows(own: OwnPage) -> None:
    tea = {"sku": "TEA", "slug": "tea", "title": "Monthly tea", "interval": "month", "units": 9}
    catalogue.stock_up([{**tea, "prices": {"eur": 700}}])

    assert "Then €19.00 every month" in words(shown(own.opened(COFFEE, "TEA")))


# -- what it holds


@pytest.mark.accept("O18")
def test_the_page_holds_both_secrets_and_nothing_of_the_person(own: OwnPage) -> None:
    opened = own.opened(MUG, COFFEE)

    page = shown(opened)

    told = facts(page)
    assert told["secret"] == opened.told["clientSecret"]
    assert told["setup"] == opened.told["setupClientSecret"]
    assert told["back"] == f"{ORIGIN}/order-success/{opened.order_id}"
    assert "maya" not in str(told).lower()
    assert "unsafe" not in page.headers["Content-Security-Policy"]


def test_a_card_that_is_saved_is_not_asked_for_again(own: OwnPage) -> None:
    opened = own.opened(MUG, COFFEE)
    opened.save_card()
    settle(own.shop)

    told = facts(shown(opened))

    assert told["secret"] == opened.told["clientSecret"]
    assert told["setup"] == opened.told["setupClientSecret"]  # with it the page asks which card


def test_once_the_rest_is_paid_only_the_card_is_asked_for(own: OwnPage) -> None:
    opened = own.opened(MUG, PRINTS)
    opened.pay()
    settle(own.shop)

    page = shown(opened)

    told = facts(page)
    assert (told["secret"], told["setup"]) == ("", opened.told["setupClientSecret"])
    assert told["press"] == "Save card and start trial"
    assert "What you bought once is paid." in words(page)
    assert "separate page" not in page.text
    opened.save_card()
    settle(own.shop)
    assert shown(opened).location == f"/orders/{opened.order_id}"


def test_a_secret_in_the_address_is_not_taken_for_ones_own(own: OwnPage) -> None:
    mine, theirs = own.opened(MUG, COFFEE), own.opened(MUG, COFFEE)
    theirs.save_card()
    query = (
        f"setup_intent={theirs.setup}&redirect_status=succeeded"
        f"&setup_intent_client_secret={theirs.told['setupClientSecret']}"
    )

    page = mine.shopper.get(f"/checkout/pay/{mine.order_id}?{query}")

    assert facts(page)["setup"] == mine.told["setupClientSecret"]
    assert theirs.setup not in page.text


# -- instead of it


def test_stripes_page_is_there_for_a_mixed_basket_without_scripts(own: OwnPage) -> None:
    opened = own.opened(MUG, COFFEE)
    answer = opened.shopper.post(f"/checkout/pay/{opened.order_id}/hosted")

    hosted = opened.shopper.opened(answer)
    hosted.pay()
    settle(own.shop)

    assert hosted.order_id == opened.order_id
    assert hosted.session["mode"] == "subscription"
    assert lines(own.shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert own.shop.proves()


def test_stripes_page_instead_of_a_card_that_is_saved_subscribes_once(own: OwnPage) -> None:
    opened = own.opened(MUG, COFFEE)
    opened.save_card()
    settle(own.shop)

    hosted = opened.shopper.opened(opened.shopper.post(f"/checkout/pay/{opened.order_id}/hosted"))
    hosted.pay()
    settle(own.shop)

    assert len(own.shop.rows(Subscription)) == 1
    assert lines(own.shop, opened.order_id) == {MUG: "active", COFFEE: "active"}
    assert own.shop.proves()


def test_a_first_card_that_does_not_pay_leaves_the_rest_to_another_one(own: OwnPage) -> None:
    """The subscription stays on the card that was saved, as the page says."""
    shop, opened = own.shop, own.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay(DECLINED)
    settle(shop)
    opened.pay(GOOD)
    settle(shop)

    assert lines(shop, opened.order_id) == {MUG: "active", COFFEE: "past_due"}
    assert shop.proves()
