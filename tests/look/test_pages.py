"""What the pages say and do, read as a shopper's browser gets them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import render_template_string

from domain.clock import now
from domain.facts import LegState
from domain.transitions import LineState, PaymentStatus, Status
from tests.shop import KETTLE, LAMP, Shop

Status_of = Callable[..., str]
CHIP = '{% from "_macros.html" import chip with context %}{{ chip(kind, state) }}'
STATES = (
    [("payment", state) for state in PaymentStatus]
    + [("order", state) for state in Status]
    + [("shipping", state) for state in Status]
    + [("leg", state) for state in LegState]
    + [("sync", state) for state in ("syncing", "synced", "failed")]
    + [("plan", state) for state in LineState]
    + [("event", state) for state in ("new", "done", "ignored", "dead")]
)


@pytest.mark.accept("V21")
def test_a_waiting_order_asks_again_and_survives_an_error(status_of: Status_of):
    page = status_of(asking=True, delay_s=1.5, poll_url="/orders/1/status?look=3")

    assert 'hx-get="/orders/1/status?look=3"' in page
    assert "load delay:1500ms, every 45s, online from:window" in page
    assert 'hx-status:5xx="swap:none"' in page


@pytest.mark.accept("V21")
def test_a_decided_order_stops_asking(status_of: Status_of):
    assert "hx-get" not in status_of(state="paid", asking=False)


@pytest.mark.accept("V22")
def test_a_slow_bank_gets_a_promise_by_the_clock(status_of: Status_of):
    by = now() + timedelta(minutes=10)
    page = status_of(state="slow", mail_by=by)

    assert "maya@example.com" in page
    assert f"{by:%H:%M}" in page
    assert "don’t pay again" in page
    assert "Check again" in page


def test_a_poll_says_nothing_until_something_changed(status_of: Status_of):
    assert "hx-swap-oob" not in status_of(asking=True)

    changed = status_of(state="paid", flags={"announce": True, "full": True})
    assert re.findall(r'id="([\w-]+)" hx-swap-oob', changed) == [
        "say", "order-steps", "order-receipt", "order-keep",
    ]  # fmt: skip
    assert "<title>" in changed


def test_an_answer_to_a_poll_is_small(status_of: Status_of):
    page = status_of(asking=True, poll_url="/orders/1/status?look=3")

    assert len(gzip.compress(page.encode())) <= 1_536


@pytest.mark.parametrize("state", ["processing", "slow", "failed", "paid"])
def test_a_stranger_learns_how_it_stands_and_nothing_else(status_of: Status_of, state: str):
    """Even if a view carried more than a stranger's should."""
    known = {"email": "maya@example.com", "number": "NL-1", "address": ["Sonnenallee 12"]}
    page = status_of(mine=False, state=state, flags={"full": True}, **known)

    for secret in ("Maya", "maya@example.com", "Sonnenallee", "Enamel mug", "NL-"):
        assert secret not in page


def test_what_a_shopper_typed_is_shown_and_never_run(status_of: Status_of):
    page = status_of(state="failed", reason="<script>alert(1)</script>", lead="<b>& co</b>")

    assert "<script>" not in page
    assert "&lt;b&gt;&amp; co&lt;/b&gt;" in page


@pytest.mark.parametrize(("kind", "state"), STATES)
def test_every_status_has_words_a_glyph_and_a_look(sqlite_shop: Shop, kind: str, state: str):
    with sqlite_shop.app.test_request_context():
        chip = render_template_string(CHIP, kind=kind, state=state)

    words = re.sub(r"<[^>]+>", "", chip).strip()
    assert words
    assert "_" not in words
    assert 'href="#i-' in chip
    assert re.search(r'class="chip (ok|wait|bad|info|back|line)"', chip)
    macros = sqlite_shop.app.jinja_env.get_template("_macros.html").module
    assert state in macros.WORDS[kind], "worded on purpose, not made up from its name"


def test_pages_with_nothing_to_wait_for_load_no_script(sqlite_shop: Shop):
    shopper = sqlite_shop.shopper()

    for path in ("/orders", "/orders/find", "/nowhere"):
        assert "<script" not in shopper.get(path).text


def test_scarce_and_sold_out_goods_say_so_on_the_shelf(sqlite_shop: Shop):
    shelf = sqlite_shop.shopper().get("/?q=e").text

    assert "2 left" in shelf
    assert "Sold out" in shelf
    assert 'name="sku"' not in sqlite_shop.shopper().get("/products/pour-over-kettle").text


def test_too_many_of_a_scarce_product_sets_the_field_to_what_is_left(sqlite_shop: Shop):
    answer = sqlite_shop.shopper().put_in_cart(LAMP, 9)

    assert answer.status_code == 409
    assert "Only 2 of Desk lamp left" in answer.text
    assert re.search(r'id="quantity"[^>]*value="2"', answer.text)


def test_a_sold_out_product_is_refused_in_words(sqlite_shop: Shop):
    answer = sqlite_shop.shopper().put_in_cart(KETTLE, 1)

    assert answer.status_code == 409
    assert "sold out" in answer.text


def test_a_wrong_form_keeps_what_was_typed_and_names_each_field(sqlite_shop: Shop):
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart()

    page = shopper.check_out(email="maya@", city="", name="Ada & <Co>")

    assert page.status_code == 422
    assert 'href="#email"' in page.text
    assert 'href="#city"' in page.text
    assert 'value="maya@"' in page.text
    assert "Ada &amp; &lt;Co&gt;" in page.text
    assert re.search(r'id="email"[^>]*aria-describedby="email-hint email-error"', page.text)


@pytest.mark.accept("V23")
def test_the_cancel_page_shows_items_total_and_a_way_to_try_again(sqlite_shop: Shop):
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy("MUG-FOR-35", 2)

    page = shopper.get(f"/checkout/cancel?attempt={checkout.order_id}").text

    assert "Nothing was charged" in page
    assert "Enamel mug" in page
    assert "qty 2" in page
    assert "Try again – €40.90" in page
    assert f'action="/orders/{checkout.order_id}/retries"' in page
