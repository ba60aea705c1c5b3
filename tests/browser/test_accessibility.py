"""Every shopper's page and state, as axe sees it: on a phone and a desk, by day and by night, and
enlarged; without motion, and in a system's own colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.browser.conftest import DECLINED_CARD, DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
WIDTHS = (390, 1280)
THEMES = ("light", "dark")
HEIGHT = 900
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ASK = """async (rules) => {
  const found = await axe.run(document, {
    runOnly: rules, resultTypes: ["violations"], iframes: false, elementRef: false });
  return found.violations.map(v => `${v.id}: ${v.nodes.map(n => n.target.join(" ")).join(", ")}`);
}"""


class Lens:
    """Looks at one page after another without loading any of them again."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.found: dict[str, list[str]] = {}
        self.seen = 0

    def looks(self, what: str) -> None:
        self.page.wait_for_load_state()
        self.page.evaluate(AXE_SCRIPT)
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": HEIGHT})
            for theme in THEMES:
                self.page.emulate_media(color_scheme=theme)
                self.seen += 1
                if wrong := self.page.evaluate(ASK, RULES):
                    self.found[f"{what}, {width} px, {theme}"] = wrong
        self.page.emulate_media(color_scheme="light")
        # What 1280 px show at 200 % zoom; nothing may need to be scrolled sideways to be read.
        self.page.set_viewport_size({"width": 640, "height": HEIGHT})
        if self.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            self.found[f"{what}, zoomed"] = ["it scrolls sideways"]
        self.page.set_viewport_size({"width": WIDTHS[-1], "height": HEIGHT})

    def opens(self, path: str, what: str = "") -> None:
        self.page.goto(path)
        self.looks(what or path)


# Two dozen states, each four times.
@pytest.mark.timeout(300)
def test_axe_finds_nothing_on_any_page_in_any_state(shop: DemoShop, visit: Visit):
    maya = visit(shop, viewport={"width": WIDTHS[-1], "height": HEIGHT}, reduced_motion="reduce")
    maya.expected += ["404 (", "422 ("]
    lens = Lens(maya.page)
    for path in (
        "/",
        "/?q=nothing-like-it",
        "/products/pour-over-kettle",
        "/products/print-club",
        "/cart",
        "/orders",
        "/orders/find",
        "/orders/sign-in?token=forged",
        "/nowhere",
    ):
        lens.opens(path)
    maya.opens("/products/enamel-mug")
    maya.presses("Add to basket")
    expect(maya.page.get_by_role("heading", name="In your basket")).to_be_focused()
    lens.looks("put into the basket")
    lens.opens("/cart", "a basket with something in it")
    maya.presses("One Enamel mug more")
    expect(maya.page.locator("#quantity-MUG-FOR-35")).to_have_value("2")
    lens.opens("/checkout")
    maya.presses("Pay €")
    maya.sees("another look")
    lens.looks("a form that needs another look")
    maya.fills_in()
    maya.page.locator("#code").fill("NO-SUCH-CODE")
    maya.presses("Apply")
    maya.sees("There is no code")
    lens.looks("a code that is refused")
    maya.page.locator("#code").fill("")
    maya.presses("Pay €")
    maya.page.wait_for_url(f"{shop.sandbox}/c/pay/*")
    lens.looks("the sandbox's payment page")
    pay_url = maya.page.url
    maya.pays(DECLINED_CARD)
    maya.sees("declined")
    lens.looks("the sandbox's payment page, declined")
    maya.page.get_by_role("link", name="Back to the shop").click()
    maya.page.wait_for_url("**/checkout/cancel*")
    lens.looks("left before paying")
    lens.opens("/cart", "a basket that is being paid")
    lens.opens(f"{shop.sandbox}/_sandbox/", "the switchboard")

    shop.stripe_is_silent()
    maya.page.goto(pay_url)
    maya.pays()
    maya.page.wait_for_url("**/checkout/success*")
    maya.sees("Confirming your payment")
    lens.looks("confirming")
    order_id = maya.order(pay_url.rsplit("/", 1)[-1].partition("#")[0].partition("?")[0])["id"]
    lens.opens(f"/orders/{order_id}?look=9", "it takes longer")
    lens.opens(f"/orders/{order_id}?look=99", "it has stopped asking")
    success = f"/checkout/success?session_id={pay_url.rsplit('/', 1)[-1]}"
    stranger = visit(shop, viewport={"width": WIDTHS[-1], "height": HEIGHT})
    stranger.opens(success)
    stranger_lens = Lens(stranger.page)
    stranger_lens.looks("a stranger")
    shop.chaos(clear=True)
    maya.opens(f"/orders/{order_id}")
    maya.sees_paid()
    lens.looks("paid")
    lens.opens(f"/orders/{order_id}/invoice", "the invoice")
    lens.opens("/orders", "my orders")
    maya.page.locator("#email").fill("maya@example.com")
    maya.presses("Mail me a link")
    maya.sees("Look into your mailbox")
    lens.looks("a link to sign in is on its way")
    lens.opens("/dev/mailbox")

    assert lens.found | stranger_lens.found == {}


def test_a_field_without_its_label_would_be_found(shop: DemoShop, visit: Visit):
    maya = visit(shop)
    maya.opens("/orders/find")
    maya.page.evaluate("document.querySelector('main label').remove()")
    lens = Lens(maya.page)
    lens.looks("a field without its label")

    assert len(lens.found) == lens.seen == len(WIDTHS) * len(THEMES)


def test_nothing_moves_for_who_wants_no_motion(shop: DemoShop, visit: Visit):
    shop.stripe_is_silent()
    maya = visit(shop, reduced_motion="reduce")
    maya.buys()
    maya.sees("Confirming your payment")

    assert maya.page.evaluate("document.getAnimations().length") == 0
    shop.chaos(clear=True)
    maya.page.reload()
    maya.sees_paid()


def test_what_a_state_means_survives_a_systems_own_colours(shop: DemoShop, visit: Visit):
    """Forced colours drop every background: what was told by one has an edge or a glyph left."""
    maya = visit(shop, forced_colors="active")
    maya.buys()
    maya.sees_paid()

    edges: dict[str, Any] = maya.page.evaluate(
        """() => Object.fromEntries([".chip", ".btn", ".seg [aria-pressed=true]"].map(name => {
          const style = getComputedStyle(document.querySelector(name));
          return [name, style.borderTopStyle + " " + style.outlineStyle];
        }))"""
    )
    for name, edge in edges.items():
        assert edge != "none none", f"{name} cannot be told from what is around it"
    glyph = maya.page.locator(".chip svg").first
    assert glyph.evaluate("it => getComputedStyle(it).stroke") != "none"
