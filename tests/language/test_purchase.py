"""A whole purchase in another language, read as a shopper reads it: no English is left anywhere."""

from __future__ import annotations

import email
import re
from email import policy
from html.parser import HTMLParser

import pytest

from extensions import reading
from models import OutboxMessage
from services import orders, shipping
from tests.shop import ADDRESS, COFFEE, KETTLE, LAMP, MUG, ORIGIN, PRINTS, Shop, Shopper

# Words that no German or Japanese sentence holds; any English one of ours holds some of them.
ENGLISH = re.compile(
    r"\b(the|your|you|we|us|our|and|of|to|not|please|with|is|are|has|have|were|this|that|it|by|for|"
    r"orders?|payments?|basket|delivery|taxes|sold|search|everything|checkout|charged|receipt|help|"
    r"free|pay|paid|try|again|back|total|items?|each|every|then|first|subscription|address|enter)\b",
    re.IGNORECASE,
)
# Names stay as they are.
NAMES = re.compile(r"\S+@\S+|https?://\S+|Northlight Supply|English", re.IGNORECASE)
each_other = pytest.mark.parametrize("language", ["de", "ja"])


class Reader(HTMLParser):
    """Everything on a page that is read or heard."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.skips = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.skips += tag in ("script", "style", "symbol")
        heard = ("alt", "aria-label", "placeholder", "title")
        for name, value in attrs:
            if name in heard or (name.startswith("data-") and " " in (value or "")):
                self.said.append(value or "")
            if name == "content" and ("name", "description") in attrs:
                self.said.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.skips -= tag in ("script", "style", "symbol")

    def handle_data(self, data: str) -> None:
        if not self.skips and data.strip():
            self.said.append(data.strip())


def english_in(page: str) -> list[str]:
    """What of a page is still English."""
    reader = Reader()
    reader.feed(page)
    return [text for text in reader.said if ENGLISH.search(NAMES.sub("", text))]


def visitor(shop: Shop, language: str) -> Shopper:
    """Somebody whose browser asks for a language."""
    shopper = shop.shopper()
    shopper.browser.environ_base["HTTP_ACCEPT_LANGUAGE"] = f"{language},en;q=0.5"
    return shopper


class Walk:
    """Reads every page on the way, and remembers where it found English."""

    def __init__(self, shopper: Shopper, language: str) -> None:
        self.shopper, self.language = shopper, language
        self.left: dict[str, list[str]] = {}

    def reads(self, what: str, page: str) -> str:
        assert f'<html lang="{self.language}"' in page, what
        if found := english_in(page):
            self.left[what] = found
        return page

    def opens(self, path: str) -> str:
        return self.reads(path, self.shopper.get(path, follow_redirects=True).text)


def test_english_would_be_found():
    page = '<p>Vielen Dank.</p><p aria-label="Your receipt">You’re all set.</p><p>Name</p>'

    assert english_in(page) == ["Your receipt", "You’re all set."]


@pytest.mark.accept("X20")
@each_other
def test_a_whole_purchase_shows_no_english(sqlite_shop: Shop, language: str):
    maya = visitor(sqlite_shop, language)
    walk = Walk(maya, language)
    for path in ("/", "/?q=zzz", "/products/enamel-mug", "/products/pour-over-kettle",
                 "/products/print-club", "/cart", "/orders", "/orders/find", "/nowhere",
                 "/orders/00000000-0000-0000-0000-000000000000"):  # fmt: skip
        walk.opens(path)
    walk.reads("too many", maya.put_in_cart(LAMP, 3).text)
    maya.put_in_cart(MUG)
    walk.opens("/cart")
    walk.reads("not a number", maya.post("/cart/lines", {"sku": MUG, "quantity": "x"}).text)
    walk.opens("/checkout")
    walk.reads("nothing filled in", maya.post("/checkout", {"country": "XX"}).text)
    refused = maya.post("/checkout/code", {**ADDRESS, "code": "NO-SUCH-CODE"})
    walk.reads("no such code", refused.text)
    checkout = maya.opened(maya.check_out())
    walk.opens("/cart")
    walk.opens(f"/checkout/cancel?attempt={checkout.order_id}")
    checkout.pay("4000000000000002")
    walk.reads("declined", maya.come_back(checkout).text)
    checkout.pay()
    walk.reads("paid", maya.come_back(checkout).text)
    sqlite_shop.deliver_and_work()
    walk.opens(f"/orders/{checkout.order_id}")
    walk.opens(f"/orders/{checkout.order_id}/invoice")
    walk.opens("/orders")

    assert walk.left == {}
    assert checkout.session["locale"] == language


@pytest.mark.accept("X20")
@each_other
def test_links_and_signing_in_are_said_without_english(sqlite_shop: Shop, language: str):
    maya = visitor(sqlite_shop, language)
    walk = Walk(maya, language)
    checkout = maya.buy()
    checkout.pay()
    sqlite_shop.deliver_and_work()
    whose = {"email": ADDRESS["email"]}
    walk.reads("asked", maya.post("/orders/sign-in-links", whose).text)
    walk.reads("found", maya.post("/orders/find", whose).text)
    walk.reads("replaced", maya.post(f"/orders/{checkout.order_id}/links").text)
    sqlite_shop.work()
    sent = dict(_mails(sqlite_shop))
    for kind in ("sign_in", "order_links", "fresh_link"):
        assert english_in(_all_of(sent[kind])) == [], kind
    link = re.search(rf"{ORIGIN}(/orders/sign-in\S+)", _all_of(sent["sign_in"]))
    assert link
    walk.opens(link[1])
    maya.post("/orders/sign-in", {"token": link[1].partition("token=")[2]})
    walk.opens("/orders")  # signed in
    walk.opens(link[1])  # it is used up
    for token in ("forged", link[1].partition("token=")[2]):
        path = f"/orders/{checkout.order_id}?token={token}"
        walk.reads(path, visitor(sqlite_shop, language).get(path).text)

    assert walk.left == {}


@pytest.mark.accept("X20")
@each_other
def test_a_subscription_is_ordered_and_ended_without_english(sqlite_shop: Shop, language: str):
    maya = visitor(sqlite_shop, language)
    walk = Walk(maya, language)
    maya.put_in_cart(MUG)
    maya.put_in_cart(COFFEE)
    for path in ("/cart", "/checkout"):
        walk.opens(path)
    maya.put_in_cart(PRINTS)
    walk.opens("/cart")  # these two do not go together
    maya.post("/cart/lines/remove", {"sku": PRINTS})
    walk.opens("/cart")  # with an undo
    checkout = maya.opened(maya.check_out())
    checkout.pay()
    sqlite_shop.deliver_and_work()
    page = walk.opens(f"/orders/{checkout.order_id}")
    (row,) = orders.dossier(checkout.order_id).plans
    maya.post(f"/orders/{checkout.order_id}/subscriptions/{row.id}/cancel", {"when": "period_end"})
    ended = walk.opens(f"/orders/{checkout.order_id}")

    assert walk.left == {}
    assert page != ended


@pytest.mark.accept("X20")
@each_other
def test_waiting_in_every_state_is_said_without_english(sqlite_shop: Shop, language: str):
    maya = visitor(sqlite_shop, language)
    walk = Walk(maya, language)
    checkout = maya.buy()
    for look in (0, 8, 40):  # at first, when it takes longer, when it stops asking
        walk.opens(f"/orders/{checkout.order_id}?look={look}")
    stranger = visitor(sqlite_shop, language)
    stranger_walk = Walk(stranger, language)
    stranger_walk.reads("a stranger", stranger.come_back(checkout).text)
    sqlite_shop.clock.forward(hours=2)
    walk.opens(f"/orders/{checkout.order_id}")

    assert walk.left == stranger_walk.left == {}


@pytest.mark.parametrize(
    ("language", "card", "what", "do"),
    [
        ("en", "4000000000009995", "There was not enough money on the card.", "another card"),
        ("de", "4000000000009995", "Auf der Karte war nicht genug Guthaben.", "andere Karte"),
        ("ja", "4000000000009995", "カードの残高が不足していました。", "別のカード"),
        ("de", "4000000000000002", "Ihre Bank hat die Zahlung abgelehnt.", "anderen Karte"),
    ],
)
def test_a_declined_card_reads_in_plain_words_with_what_helps(
    sqlite_shop: Shop, language: str, card: str, what: str, do: str
):
    maya = visitor(sqlite_shop, language)
    checkout = maya.buy()
    checkout.pay(card)
    page = maya.come_back(checkout).text

    note = page[page.index(f"<b>{what}</b>") :].partition("</p>")[0]
    assert do in note


@pytest.mark.accept("X20")
@each_other
def test_mails_hours_later_are_in_the_language_of_the_checkout(sqlite_shop: Shop, language: str):
    """The job that sends them has no browser to ask."""
    checkout = visitor(sqlite_shop, language).buy(MUG, 2)
    checkout.pay()
    sqlite_shop.deliver_and_work()
    sqlite_shop.clock.forward(hours=5)
    with reading():
        order = sqlite_shop.the_order()
        units = {item.id: 1 for item in order.items}
    shipping.pack(order.id, actor="owner", version=order.version)
    shipping.ship(
        order.id,
        units,
        carrier="DHL",
        tracking="00340",
        actor="owner",
        version=sqlite_shop.the_order().version,
    )
    sqlite_shop.work()

    sent = _mails(sqlite_shop)
    assert {kind for kind, _ in sent} >= {"receipt", "shipped"}
    for kind, mail in sent:
        assert english_in(_all_of(mail)) == [], kind
    receipt = dict(sent)["receipt"]
    price = {"de": "36,00\u00a0€", "ja": "€36.00"}[language]
    assert price in receipt.get_body(("plain",)).get_content()


def _mails(shop: Shop) -> list[tuple[str, email.message.EmailMessage]]:
    return [
        (row.kind, email.message_from_string(row.result["source"], policy=policy.default))
        for row in shop.rows(OutboxMessage)
        if row.result and "source" in row.result
    ]


def _all_of(mail: email.message.EmailMessage) -> str:
    """Subject, text and HTML of a mail."""
    parts = [str(part.get_content()) for part in mail.walk() if not part.is_multipart()]
    return "\n".join([str(mail["Subject"]), *parts])


def test_who_asks_for_nothing_we_speak_reads_english(sqlite_shop: Shop):
    assert '<html lang="en"' in visitor(sqlite_shop, "fr").get("/").text


@pytest.mark.parametrize(("asked", "spoken"), [("de-AT", "de"), ("ja-JP", "ja"), ("fr, de", "de")])
def test_the_browser_says_which_language(sqlite_shop: Shop, asked: str, spoken: str):
    shopper = sqlite_shop.shopper()
    shopper.browser.environ_base["HTTP_ACCEPT_LANGUAGE"] = asked
    answer = shopper.get("/")

    assert f'<html lang="{spoken}"' in answer.text
    assert "Accept-Language" in answer.headers["Vary"]


@pytest.mark.accept("X20")
def test_a_button_in_the_footer_chooses_and_comes_back_to_the_page(sqlite_shop: Shop):
    maya = sqlite_shop.shopper()
    page = maya.get("/products/enamel-mug?x=1").text
    assert 'name="language" value="de"' in page
    assert 'name="back" value="/products/enamel-mug?x=1"' in page

    answer = maya.post("/language", {"language": "de", "back": "/products/enamel-mug?x=1&lang=en"})
    assert answer.location == "/products/enamel-mug?x=1"
    assert '<html lang="de"' in maya.get(answer.location).text
    assert "Emaillebecher" in maya.get(answer.location).text


@pytest.mark.parametrize(
    "back", ["//evil.example/x", "https://evil.example", "/\\evil.example", "", "/cart/items"]
)
def test_choosing_a_language_leads_nowhere_else(sqlite_shop: Shop, back: str):
    answer = sqlite_shop.shopper().post("/language", {"language": "ja", "back": back})

    assert answer.location == "/"


def test_a_language_that_nobody_speaks_changes_nothing(sqlite_shop: Shop):
    maya = sqlite_shop.shopper()
    maya.post("/language", {"language": "tlh", "back": "/"})

    assert '<html lang="en"' in maya.get("/?lang=tlh").text


def test_search_engines_are_told_where_each_language_is(sqlite_shop: Shop):
    page = sqlite_shop.shopper().get("/products/enamel-mug?lang=ja")

    assert '<html lang="ja"' in page.text
    for code in ("en", "de", "ja"):
        address = f"{ORIGIN}/products/enamel-mug?lang={code}"
        assert f'<link rel="alternate" hreflang="{code}" href="{address}">' in page.text
    assert f'hreflang="x-default" href="{ORIGIN}/products/enamel-mug"' in page.text
    # A page without a language in its address is not another language's.
    assert f'"canonical" href="{ORIGIN}/products/enamel-mug?lang=ja"' in page.text
    bare = visitor(sqlite_shop, "de").get("/products/enamel-mug").text
    assert f'"canonical" href="{ORIGIN}/products/enamel-mug"' in bare
    assert "hreflang" not in sqlite_shop.shopper().get("/cart").text


def test_an_address_with_a_language_keeps_it_for_the_pages_after_it(sqlite_shop: Shop):
    maya = sqlite_shop.shopper()
    maya.get("/?lang=de")

    assert '<html lang="de"' in maya.get("/cart").text


def test_goods_are_found_by_what_they_are_called_here(sqlite_shop: Shop):
    found = visitor(sqlite_shop, "de").get("/?q=becher").text

    assert "Emaillebecher" in found
    assert "Schreibtischlampe" not in found


def test_programs_read_english_errors(sqlite_shop: Shop):
    maya = visitor(sqlite_shop, "de")
    answer = maya.json("PUT", "/api/cart", {"items": [{"sku": KETTLE, "quantity": 1}]})

    assert answer.get_json()["detail"].startswith("Pour-over kettle is sold out.")


def test_the_counter_speaks_english(sqlite_shop: Shop):
    page = visitor(sqlite_shop, "de").get("/admin/login").text

    assert '<html lang="en"' in page


def test_a_country_reads_as_the_shopper_calls_it(sqlite_shop: Shop):
    maya = visitor(sqlite_shop, "de")
    maya.put_in_cart(MUG)
    page = maya.get("/checkout").text

    assert '<option value="DE" selected>Deutschland</option>' in page
    assert page.index("Belgien") < page.index("Österreich") < page.index("Polen")
    answer = maya.post("/checkout", {**ADDRESS, "country": "XX"})
    assert answer.status_code == 422
    assert "Wählen Sie ein Land, in das wir liefern." in answer.text
