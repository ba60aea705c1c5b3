"""A waiting page with a live line: it is rung up, and it asks for nothing in between."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.browser.conftest import DemoShop, Visitor, opened

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
QUIET_MS = 3_000  # longer than the four first pauses of a page that polls
COUNT_RINGS = """
window.rings = 0;
document.addEventListener("changed", (ring) => { window.rings += ring.target.id === "live"; });
"""


@pytest.fixture(scope="module")
def the_live_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoShop]:
    """A shop whose pages listen, and whose clock leaves the paying to the webhook."""
    settings = {"LIVE_UPDATES": "sse", "RECONCILE_SECONDS": "3600", "SWEEP_SECONDS": "600"}
    with opened(tmp_path_factory.mktemp("live"), **settings) as shop:
        yield shop
        assert shop.check()["violations"] == []


@pytest.fixture
def live_shop(the_live_shop: DemoShop) -> Iterator[DemoShop]:
    the_live_shop.chaos(clear=True)
    yield the_live_shop
    the_live_shop.chaos(clear=True)


class Asked:
    """What a page asked for by itself."""

    def __init__(self, page: Page) -> None:
        self.looks: list[str] = []
        self.streams: list[str] = []
        page.add_init_script(COUNT_RINGS)
        page.on("request", self._note)
        self._page = page

    def _note(self, request: Request) -> None:
        if "/status?" in request.url:
            self.looks.append(request.url)
        if "/sync-status" in request.url:
            self.streams.append(request.url)

    @property
    def rings(self) -> int:
        return int(self._page.evaluate("window.rings"))


def waits(shop: DemoShop, maya: Visitor) -> tuple[str, Asked]:
    """Paid, back in the shop, and nobody there has heard of it yet; the first look is done."""
    shop.stripe_is_silent()
    session_id = maya.goes_to_payment()
    asked = Asked(maya.page)
    maya.pays()
    maya.sees("Confirming your payment")
    has_looked(maya.page)
    return session_id, asked


def has_looked(page: Page, times: int = 1) -> None:
    """The fragment of that look is on the page."""
    section = page.locator("#order-status")
    expect(section).to_have_attribute("hx-get", re.compile(rf"look={times + 1}\b"))


def switch(shop: DemoShop, to: str) -> None:
    """As an admin does; the choice is one row that every process reads."""
    choice = json.dumps({"live_updates": to})
    with closing(sqlite3.connect(shop.folder / "shop.db")) as books, books:
        books.execute(
            "INSERT INTO settings (name, value, updated_at) VALUES ('choices', ?, '2026-01-01') "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (choice,),
        )


@pytest.mark.accept("D23", "D21")
def test_a_listening_page_turns_paid_by_one_ring_and_asks_nothing_in_between(
    live_shop: DemoShop, visit: Visit
):
    maya = visit(live_shop)
    session_id, asked = waits(live_shop, maya)
    maya.page.wait_for_timeout(QUIET_MS)
    before = len(asked.looks)
    live_shop.tell("flush")
    maya.sees_paid(within_s=3)

    assert before == 1, "the ring at the beginning"
    assert maya.order(session_id)["paymentStatus"] == "paid"
    assert asked.rings == len(asked.looks) == 2
    expect(maya.page.locator("#live")).to_have_count(0)
    expect(maya.page.get_by_role("status")).to_have_text(
        "Payment received. The order is confirmed."
    )
    maya.page.wait_for_timeout(QUIET_MS)
    assert len(asked.streams) == 1, "a decided page does not listen again"
    assert len(asked.looks) == 2


@pytest.mark.accept("D23")
def test_a_line_that_stays_silent_has_a_net_of_45_seconds(live_shop: DemoShop, visit: Visit):
    maya = visit(live_shop)
    maya.page.clock.install()
    _, asked = waits(live_shop, maya)

    maya.page.clock.fast_forward("00:44")
    maya.page.wait_for_timeout(500)
    assert len(asked.looks) == 1
    maya.page.clock.fast_forward("00:02")
    has_looked(maya.page, 2)
    assert (len(asked.looks), asked.rings) == (2, 1)


def test_a_ring_that_comes_while_a_look_is_under_way_is_not_lost(live_shop: DemoShop, visit: Visit):
    """The look under way may have been answered before the change that rings now."""
    maya = visit(live_shop)
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.fallback()
        else:
            held.append(route)

    maya.page.route("**/status?*", hold_the_first)
    live_shop.stripe_is_silent()
    maya.goes_to_payment()
    asked = Asked(maya.page)
    maya.pays()
    maya.page.wait_for_event("request", lambda request: "/status?" in request.url)
    live_shop.tell("flush")

    maya.sees_paid(within_s=3)
    assert len(asked.looks) == 2


@pytest.mark.accept("D23")
def test_a_surplus_page_gets_there_by_coming_back(live_shop: DemoShop, visit: Visit):
    maya = visit(live_shop)
    waits(live_shop, maya)
    second, third = maya.context.new_page(), maya.context.new_page()
    asked = Asked(third)
    for page in (second, third):
        page.goto(maya.page.url)
        has_looked(page)
    with third.expect_request(re.compile("/sync-status")):
        pass
    has_looked(third, 2)
    live_shop.tell("flush")

    for page in (maya.page, second, third):
        expect(page.get_by_text("You’re all set.")).to_be_visible()
    assert len(asked.streams) >= 2, "there was no place for a third page of one shopper"
    assert len(asked.looks) == asked.rings


@pytest.mark.accept("D33")
def test_a_page_that_listens_polls_once_live_updates_are_switched_off(
    live_shop: DemoShop, visit: Visit
):
    maya = visit(live_shop)
    waits(live_shop, maya)
    section = maya.page.locator("#order-status")
    expect(section).to_have_attribute("hx-trigger", re.compile("changed from:#live"))
    switch(live_shop, "poll")
    try:
        expect(section).to_have_attribute(
            "hx-trigger", re.compile(r"load delay:\d+ms"), timeout=10_000
        )
        expect(maya.page.locator("#live")).to_have_count(0)
        live_shop.tell("flush")
        maya.sees_paid()
    finally:
        switch(live_shop, "sse")


def test_a_listening_page_comes_back_after_ten_seconds_offline(live_shop: DemoShop, visit: Visit):
    maya = visit(live_shop)
    maya.expected += ["ERR_INTERNET_DISCONNECTED", "ERR_NETWORK", "Failed to fetch"]
    waits(live_shop, maya)

    maya.context.set_offline(True)
    maya.page.wait_for_timeout(10_000)
    assert maya.headline == "Confirming your payment"
    live_shop.tell("flush")
    maya.context.set_offline(False)
    maya.sees_paid(within_s=3)
