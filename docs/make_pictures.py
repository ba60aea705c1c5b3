"""Take the pictures of the documentation from a running shop.

``.venv/bin/python -m docs.make_pictures`` opens a shop in a temporary folder, buys in it, and
writes ``docs/pictures/*.png``. Needs Chromium, like the browser tests, whose visitor it borrows.
"""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import LAUNCH, NAMES, DemoShop, Visitor, opened

PICTURES = Path(__file__).resolve().parent / "pictures"
DESKTOP = {"width": 1060, "height": 780}
PHONE = {"width": 390, "height": 760}
BOARD = """
body { margin: 0; padding: 40px; display: inline-flex; gap: 32px; align-items: flex-start;
       background: linear-gradient(135deg, #dfe7e4, #f3ead7); }
img { display: block; border-radius: 12px; box-shadow: 0 10px 40px #15201e40; }
"""


def main() -> int:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.stderr.write(f"No browser: looked for {', '.join(NAMES)}.\n")
        return 1
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(Path(folder), RECONCILE_SECONDS="3600") as shop,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=LAUNCH)
        both_sides(shop, browser)
        while_waiting(shop, browser)
        browser.close()
    return 0


def both_sides(shop: DemoShop, browser: Browser) -> None:
    """The paid order as its shopper sees it, and as the shop does."""
    maya = Visitor(shop, browser, viewport={**DESKTOP, "width": 960})
    maya.puts_in_basket("dot-notebook")
    maya.buys("enamel-mug")
    maya.sees_paid()
    owner = Visitor(shop, browser, viewport=DESKTOP)
    owner.opens(shop.admin_link)
    owner.presses("Sign in")
    owner.page.wait_for_url("**/admin/orders")
    owner.page.get_by_role("link", name="NL-").first.click()
    owner.sees("Shop and Stripe agree")
    board(browser, "both-sides", [_shot(maya), _shot(owner)])


def while_waiting(shop: DemoShop, browser: Browser) -> None:
    """What a shopper reads when the news is late, in the order in which it may come."""
    shots = []
    shop.stripe_is_silent()
    maya = Visitor(shop, browser, viewport=PHONE)
    maya.buys("canvas-tote")
    maya.sees("Confirming your payment")
    shots.append(_shot(maya))
    maya.opens(f"{maya.page.url}&look=9")  # as after nine polls
    maya.sees("Your bank is taking its time")
    shots.append(_shot(maya))
    shop.chaos(clear=True)
    maya.page.reload()
    maya.sees_paid()
    shots.append(_shot(maya))
    board(browser, "while-waiting", shots)


def board(browser: Browser, name: str, shots: list[bytes]) -> None:
    """Several shots side by side, as one picture."""
    images = "".join(
        f'<img src="data:image/png;base64,{base64.b64encode(shot).decode()}">' for shot in shots
    )
    page = browser.new_page(viewport={"width": 2400, "height": 1000})
    page.set_content(f"<style>{BOARD}</style>{images}")
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    page.locator("body").screenshot(path=PICTURES / f"{name}.png")
    page.close()


def _shot(visitor: Visitor) -> bytes:
    visitor.page.emulate_media(reduced_motion="reduce")
    visitor.page.wait_for_load_state("networkidle")
    return visitor.page.screenshot()


if __name__ == "__main__":
    sys.exit(main())
