from __future__ import annotations

from html.parser import HTMLParser

import pytest

from sandbox import panel
from sandbox.pages import OUTCOMES, money
from tests.sandbox.drive import (
    Listener,
    client,
    deliver_all,
    event_types,
    http_call,
    open_session,
)

LAUNCH = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync".split()
)


class Outline(HTMLParser):
    """What a page is made of, as far as people who cannot see it depend on it."""

    VOID = frozenset("meta link input br hr img".split())

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.fields: list[dict] = []
        self.headings: list[str] = []
        self.unclosed: list[str] = []
        self.outside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in self.VOID:
            self.unclosed.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "label":
            self.labelled.add(given["for"])
        if tag in ("input", "select"):
            self.fields.append(given)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag in ("img", "iframe") or not given.get("src", "/_sandbox/").startswith("/_sandbox/"):
            self.outside.append(tag)

    def handle_endtag(self, tag):
        assert self.unclosed.pop() == tag


@pytest.fixture
def pages(box, api):
    """Every page the sandbox can show, by name."""
    ids = {name: open_session(api) for name in ("open", "declined", "asked", "paid", "expired")}
    box.pay(ids["declined"], "4000000000000002")
    box.pay(ids["asked"], "4000002760003184")
    box.pay(ids["paid"])
    api.checkout.sessions.expire(ids["expired"])
    intent = api.checkout.sessions.retrieve(ids["asked"]).payment_intent
    addresses = {name: f"{box.url}/c/pay/{id}" for name, id in ids.items()}
    addresses |= {"bank": f"{box.url}/c/bank/{intent}", "panel": f"{box.url}/_sandbox/"}
    shown = {name: http_call(url)[2] for name, url in addresses.items()}
    return shown | subscribing(box, api)


def subscribing(box, api):
    """Pages where a trial is begun, a card saved, and an invoice is owed, void or settled."""
    coffee = {
        "currency": "eur",
        "unit_amount": 1200,
        "recurring": {"interval": "month"},
        "product_data": {"name": "Monthly coffee"},
    }
    trial = {
        "mode": "subscription",
        "success_url": "http://shop.test/ok",
        "line_items": [{"price_data": coffee, "quantity": 1}],
        "subscription_data": {"trial_period_days": 14},
    }
    setup = {"mode": "setup", "currency": "eur", "success_url": "http://shop.test/ok"}
    made = {
        "trial": api.checkout.sessions.create(trial),
        "begun": api.checkout.sessions.create(trial),
        "setup": api.checkout.sessions.create(setup),
        "saved": api.checkout.sessions.create(setup),
    }
    box.pay(made["begun"].id)
    box.pay(made["saved"].id)
    shown = {name: http_call(f"{box.url}/c/pay/{s.id}")[2] for name, s in made.items()}
    sub = api.checkout.sessions.retrieve(made["begun"].id).subscription

    def invoice():
        return api.invoices.list({"subscription": sub}).data[0]

    box.chaos.decline_renewals = 1
    box.advance(15 * 86_400)
    shown["owed"] = http_call(invoice().hosted_invoice_url)[2]
    api.invoices.void_invoice(invoice().id)
    shown["void"] = http_call(invoice().hosted_invoice_url)[2]
    box.advance(32 * 86_400)
    shown["settled"] = http_call(invoice().hosted_invoice_url)[2]
    return shown


def test_every_field_has_a_label_every_id_is_unique_and_every_tag_is_closed(pages):
    for name, page in pages.items():
        outline = Outline(page)
        assert outline.unclosed == [], name
        assert outline.outside == [], name
        assert len(outline.ids) == len(set(outline.ids)), name
        assert outline.headings[0] == "h1", name
        assert outline.headings.count("h1") == 1, name
        for field in outline.fields:
            assert field.get("aria-label") or field.get("id") in outline.labelled, (name, field)


def test_the_pay_page_shows_the_lines_the_shipping_and_the_total(pages):
    for words in ("Enamel mug", "€18.30 each · qty 2", "€36.60", "Parcel", "€4.90", "Pay €41.50"):
        assert words in pages["open"]
    assert 'href="http://shop.test/cancel"' in pages["open"]


def test_a_decline_is_told_on_the_page(pages):
    assert "Your card was declined." in pages["declined"]
    assert "Nothing was charged" in pages["declined"]
    assert "declined" not in pages["open"].split("<form")[0]


def test_a_closed_session_says_what_became_of_it_and_leads_back(pages):
    assert "This was paid already" in pages["paid"]
    assert "http://shop.test/success?session_id=cs_test_" in pages["paid"]
    assert "run out of time" in pages["expired"]
    assert "http://shop.test/cancel" in pages["expired"]


def test_a_page_that_saves_says_that_nothing_is_charged(pages):
    assert "Nothing is charged now." in pages["setup"]
    assert "Your card is saved" in pages["saved"]
    assert "Your trial has begun" in pages["begun"]
    assert "Wrong amount" not in pages["trial"]


def test_an_invoices_page_says_what_became_of_it(pages):
    assert "no longer owed" in pages["void"]
    assert "This invoice is paid" in pages["settled"]
    for name in ("void", "settled"):
        assert "<button" not in pages[name]


def test_a_page_that_never_was_is_a_404_that_says_so(box):
    status, _, page = http_call(f"{box.url}/c/pay/cs_test_none")

    assert status == 404
    assert "Nothing was charged" in page


def test_pages_may_load_nothing_and_lead_only_back_to_the_shop(box, api):
    headers = http_call(f"{box.url}/c/pay/{open_session(api)}")[1]

    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self' http://shop.test" in policy
    assert headers["Cache-Control"] == "no-store"


def test_a_name_cannot_become_markup(box, api):
    line = {
        "price_data": {
            "currency": "eur",
            "unit_amount": 1000,
            "product_data": {"name": "<script>alert(1)</script>"},
        },
        "quantity": 1,
    }
    page = http_call(f"{box.url}/c/pay/{open_session(api, line_items=[line])}")[2]

    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_paying_by_card_number_leads_back_to_the_shop(box, api):
    id = open_session(api)
    form = {"number": "4242 4242 4242 4242", "email": "maya@example.com", "name": "Maya"}

    status, headers, _ = http_call(f"{box.url}/c/pay/{id}", "POST", form)

    assert (status, headers["Location"]) == (303, f"http://shop.test/success?session_id={id}")
    details = api.checkout.sessions.retrieve(id).customer_details
    assert (details.email, details.name) == ("maya@example.com", "Maya")


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"number": "1234", "email": "maya@example.com"}, "not a card number"),
        ({"number": "4242424242424241", "email": "maya@example.com"}, "not a card number"),
        ({"number": "4242424242424242", "email": ""}, "e-mail address"),
    ],
)
def test_a_mistyped_form_is_shown_again_with_what_was_typed(box, api, form, problem):
    id = open_session(api)

    status, _, page = http_call(f"{box.url}/c/pay/{id}", "POST", {**form, "name": "Maya"})

    assert status == 422
    assert problem in page
    assert 'value="Maya"' in page
    assert event_types(box) == []


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_every_button_does_what_it_says(box, api, name):
    id = open_session(api)

    status, headers, _ = http_call(f"{box.url}/c/pay/{id}", "POST", {"outcome": name})

    session = api.checkout.sessions.retrieve(id)
    assert status == 303
    went = headers["Location"]
    if name in ("declined", "insufficient", "expired_card", "later_declined"):
        assert (session.status, went) == ("open", f"/c/pay/{id}")
    elif name == "expires":
        assert (session.status, went) == ("expired", f"/c/pay/{id}")
    elif name == "asks":
        assert (session.status, went) == ("open", f"/c/bank/{session.payment_intent}")
    else:
        assert (session.status, went) == (
            "complete",
            f"http://shop.test/success?session_id={id}",
        )
        assert session.payment_status == ("unpaid" if name in ("debit", "bounces") else "paid")
    told = len(deliver_all(box))
    assert told == {"late": 0, "lost": 0, "twice": 10}.get(name, told)


def test_a_session_for_cards_only_offers_no_bank_debit(box, api):
    id = open_session(api, allowed_payment_method_types=["card"])

    assert "A bank debit" not in http_call(f"{box.url}/c/pay/{id}")[2]


@pytest.mark.parametrize(("answer", "words"), [("yes", None), ("no", "unable to authenticate")])
def test_the_banks_page_pays_or_leads_back_to_the_pay_page(box, api, answer, words):
    id = open_session(api)
    box.pay(id, "4000002500003155")
    intent = api.checkout.sessions.retrieve(id).payment_intent

    _, headers, _ = http_call(f"{box.url}/c/bank/{intent}", "POST", {"answer": answer})

    if answer == "yes":
        assert headers["Location"] == f"http://shop.test/success?session_id={id}"
    else:
        assert headers["Location"] == f"/c/pay/{id}"
        assert words in http_call(f"{box.url}/c/pay/{id}")[2]


def test_money_is_written_as_people_write_it():
    assert money(123456, "eur") == "€1,234.56"
    assert money(500, "jpy") == "¥500"
    assert money(1230, "kwd") == "1.230 KWD"
    assert money(990, "chf") == "9.90 CHF"


@pytest.mark.browser
def test_a_shopper_without_scripts_is_declined_tries_again_and_comes_back(box, listener: Listener):
    """In a real browser, whose policy would block a form that leads to another origin."""
    sync_api = pytest.importorskip("playwright.sync_api")
    shop = listener.url.rsplit("/", 1)[0]
    api = client(box).v1
    id = open_session(
        api, success_url=f"{shop}/ok?session_id={{CHECKOUT_SESSION_ID}}", customer_email="m@a.test"
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=LAUNCH)
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(api.checkout.sessions.retrieve(id).url)
        page.get_by_label("Card number").fill("4000 0000 0000 0002")
        page.get_by_role("button", name="Pay €41.50").click()
        told = page.get_by_role("alert").inner_text()
        page.get_by_label("Card number").fill("4242 4242 4242 4242")
        page.get_by_role("button", name="Pay €41.50").click()
        page.wait_for_url(f"{shop}/ok?session_id={id}")
        browser.close()

    assert "Your card was declined." in told
    assert api.checkout.sessions.retrieve(id).payment_status == "paid"


def test_the_switchboard_says_in_sentences_what_is_about_to_happen(box):
    calm = panel.ahead(box.chaos)
    box.chaos.update({"drop_pct": 100, "delay_s": 20, "duplicate": 1, "outage": "503", "hang_s": 5})
    box.chaos.update({"hang": {"next": 2, "only": "POST /v1/refunds"}, "rate_429": {"pct": 30}})

    assert calm == []
    assert panel.ahead(box.chaos) == [
        "Webhooks are lost on the way, and the shop has to ask: every one.",
        "Each webhook sets out 20 s late.",
        "Each webhook arrives 2 times.",
        "Every API call is answered 503.",
        "API calls are turned away: too many at once: 30 % of them.",
        "Calls like POST /v1/refunds do their work, then say nothing for 5 s: the next 2.",
    ]


def test_every_switch_of_the_switchboard_has_its_sentence(box):
    """A switch that is on and says nothing would surprise whoever turned it."""
    on = {
        **dict.fromkeys(panel.PERCENTAGES, 100),
        **dict.fromkeys(panel.SECONDS, 1),
        **dict.fromkeys(panel.COUNTS, 1),
        **dict.fromkeys(panel.FAULTS, 1),
        **dict.fromkeys(panel.TICKS, True),
        "outage": "refused",
        "decline_renewals": 1,
    }
    for name, value in on.items():
        box.chaos.clear()
        box.chaos.update({name: value})
        assert len(panel.ahead(box.chaos)) == 1, name
