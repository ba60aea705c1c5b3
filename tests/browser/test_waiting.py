"""What a shopper sees while the news is late, lost or cannot get through."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Request, Route, expect

from tests.browser.conftest import DemoShop, Visitor, opened

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
LATE_S = 3
OFFLINE_MS = 10_000


class Polls:
    """The requests that a waiting page makes by itself, with the time of each."""

    def __init__(self, visitor: Visitor) -> None:
        self.at: list[float] = []
        visitor.page.on("request", self._note)

    def _note(self, request: Request) -> None:
        if "/status?" in request.url:
            self.at.append(time.monotonic())

    def __len__(self) -> int:
        return len(self.at)


@pytest.mark.fault("F8")
def test_without_webhooks_the_return_to_the_shop_settles_the_order(shop: DemoShop, visit: Visit):
    shop.chaos(drop_pct=100)
    maya = visit(shop)

    session_id = maya.buys()
    maya.sees_paid()

    assert maya.order(session_id)["status"] == "payment_confirmed"
    states = {delivery["state"] for delivery in shop.deliveries()[-3:]}
    assert states == {"dropped"}


@pytest.mark.fault("F8")
def test_without_webhooks_and_without_return_the_clock_settles_the_order(
    tmp_path: Path, visit: Visit
):
    with opened(tmp_path, RECONCILE_SECONDS="1", SWEEP_SECONDS="1") as shop:
        shop.chaos(drop_pct=100)
        maya = visit(shop)
        session_id = maya.goes_to_payment()
        maya.page.route("**/checkout/success?*", lambda route: route.abort())
        maya.expected.append("ERR_FAILED")
        maya.pays()
        maya.page.close()

        give_up_at = time.monotonic() + 30
        while maya.order(session_id)["paymentStatus"] != "paid":
            assert time.monotonic() < give_up_at, "the order never became paid"
            time.sleep(0.2)


@pytest.mark.accept("O19", "V21")
def test_a_waiting_page_turns_to_paid_by_itself_and_then_is_quiet(shop: DemoShop, visit: Visit):
    shop.stripe_is_silent(LATE_S)
    maya = visit(shop)
    session_id = maya.goes_to_payment(slug="canvas-tote")
    maya.page.clock.install()
    polls = Polls(maya)
    maya.pays()

    maya.sees("Confirming your payment")
    assert maya.order(session_id)["paymentStatus"] == "pending"
    assert re.match("Confirming payment – order NL-", maya.page.title())
    for words in ("Canvas tote", "€29.00", "€33.90"):
        expect(maya.page.locator("#order-receipt")).to_contain_text(words)
    help_link = maya.page.get_by_role("link", name="Help with this order")
    help_link.focus()
    maya.sees_paid()

    assert re.match("Paid – order NL-", maya.page.title())
    said = maya.page.get_by_role("status")
    expect(said).to_have_text("Payment received. The order is confirmed.")
    expect(help_link).to_be_focused()
    pauses = [later - earlier for earlier, later in zip(polls.at, polls.at[1:], strict=False)]
    assert len(pauses) >= 2
    assert pauses == sorted(pauses), "each pause is longer than the one before"

    asked = len(polls)
    maya.page.clock.fast_forward("10:00")
    maya.page.wait_for_load_state("networkidle")
    assert len(polls) == asked, "a decided page stops asking"


@pytest.mark.accept("V21", "V22")
def test_a_page_that_waits_in_vain_promises_mail_and_stops_asking(shop: DemoShop, visit: Visit):
    shop.stripe_is_silent()
    maya = visit(shop)
    session_id = maya.goes_to_payment()
    maya.page.clock.install()
    maya.pays()
    section = maya.page.locator("#order-status")

    pauses_ms, promised_at = [], None
    expect(section).to_have_attribute("hx-get", re.compile(r"look=1\b"))
    while asks := section.get_attribute("hx-get"):
        pause = re.search(r"delay:(\d+)ms", section.get_attribute("hx-trigger") or "")
        assert pause
        pauses_ms.append(int(pause[1]))
        look = int(re.findall(r"look=(\d+)", asks)[0])
        maya.page.clock.fast_forward(pauses_ms[-1])
        expect(section).not_to_have_attribute("hx-get", re.compile(rf"look={look}\b"))
        if promised_at is None and "Your bank is taking its time" in section.inner_text():
            promised_at = sum(pauses_ms) / 1000

    assert pauses_ms == sorted(pauses_ms)
    assert pauses_ms[0] < 1000 < 10_000 < pauses_ms[-1]
    assert promised_at
    assert 20 < promised_at < 40
    assert 600 <= sum(pauses_ms) / 1000 < 700
    maya.sees("We’ll e-mail maya@example.com by ")
    maya.sees("Please don’t pay again.")
    maya.sees("This page has stopped checking by itself; we have not.")

    shop.chaos(clear=True)
    maya.follows("Check again")
    maya.sees_paid()
    assert maya.order(session_id)["paymentStatus"] == "paid"


def test_a_waiting_page_survives_a_503_and_ten_seconds_offline(shop: DemoShop, visit: Visit):
    shop.stripe_is_silent()
    maya = visit(shop)
    maya.goes_to_payment()
    polls = Polls(maya)
    broken: list[str] = []

    def break_once(route: Route) -> None:
        if broken:
            route.fallback()
        else:
            broken.append(route.request.url)
            route.fulfill(status=503, content_type="text/html", body="<h1>Down</h1>")

    maya.page.route("**/status?*", break_once)
    maya.expected += ["503 (", "ERR_INTERNET_DISCONNECTED", "Failed to fetch"]
    maya.page.clock.install()
    maya.pays()

    maya.sees("Confirming your payment")
    maya.page.wait_for_event("response", lambda answer: answer.status == 503)
    assert maya.headline == "Confirming your payment", "an error is not painted over the page"
    asked = len(polls)
    maya.page.clock.fast_forward("00:45")  # the net under a chain that broke
    expect(maya.page.locator("#order-status")).to_have_attribute("hx-get", re.compile(r"look=2\b"))
    assert len(polls) > asked

    maya.context.set_offline(True)
    maya.page.clock.run_for(OFFLINE_MS)  # of its own time; the test does not wait
    assert maya.headline == "Confirming your payment"
    shop.tell("flush")
    maya.context.set_offline(False)
    maya.sees_paid(within_s=3)
