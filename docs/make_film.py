"""Film an order that heals itself after its webhooks were lost.

``.venv/bin/python -m docs.make_film`` opens a shop in a temporary folder, loses every webhook,
buys, and writes ``docs/pictures/healing.png``: an animated PNG, which browsers play and which needs
nothing but zlib to be put together.
"""

from __future__ import annotations

import shutil
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import GOOD_CARD, LAUNCH, NAMES, Visitor, opened

PICTURES = Path(__file__).resolve().parent / "pictures"
SIZE = {"width": 860, "height": 620}
PNG = b"\x89PNG\r\n\x1a\n"
CAPTION = """text => {
  let bar = document.getElementById("caption");
  if (!bar) {
    bar = document.body.appendChild(document.createElement("p"));
    bar.id = "caption";
    Object.assign(bar.style, { position: "fixed", inset: "auto 0 0 0", zIndex: 99, margin: 0,
      padding: "14px 24px", background: "#15201e", color: "#f3b53f", fontWeight: 650 });
  }
  bar.textContent = text;
}"""


def main() -> int:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.stderr.write(f"No browser: looked for {', '.join(NAMES)}.\n")
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=LAUNCH)
        with opened(Path(folder), RECONCILE_SECONDS="3600") as shop:
            shop.chaos(drop_pct=100, error_500={"next": 1, "only": "GET /v1/checkout/sessions/*"})
            maya = Visitor(shop, browser, viewport=SIZE, reduced_motion="reduce")
            film = list(healing(maya))
        browser.close()
    (PICTURES / "healing.png").write_bytes(animated(film))
    return 0


def healing(maya: Visitor) -> Iterator[tuple[bytes, float]]:
    """Pictures, and how many seconds each is shown."""
    page, shop = maya.page, maya.shop
    maya.opens(f"{shop.sandbox}/_sandbox/")
    yield shot(page, "The switchboard: every webhook is lost, and Stripe answers badly"), 3
    maya.goes_to_payment()
    page.locator("#number").fill(GOOD_CARD)
    yield shot(page, "Maya pays"), 2
    maya.presses("Pay")
    page.wait_for_url("**/checkout/success?*")
    maya.sees("Confirming your payment")
    yield shot(page, "No news yet: the page says so, and that nobody should pay twice"), 3.5
    maya.sees_paid(within_s=30)
    yield shot(page, "The shop asked Stripe itself: paid. No webhook ever came"), 4
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    maya.opens(f"{shop.sandbox}/_sandbox/")
    page.locator("#told").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#told').scrollIntoView({block: 'center'})")
    yield shot(page, "What the shop was told: nothing. What it asked: everything"), 4


def shot(page: Page, caption: str) -> bytes:
    page.wait_for_load_state()
    page.evaluate(CAPTION, caption)
    return page.screenshot()


def animated(film: list[tuple[bytes, float]]) -> bytes:
    """PNG pictures of one size as one that moves, over and over (the APNG extension of PNG)."""
    first, _ = film[0]
    parts = [PNG, chunk(b"IHDR", dict(chunks(first))[b"IHDR"])]
    parts.append(chunk(b"acTL", struct.pack(">II", len(film), 0)))
    number = 0
    for index, (picture, seconds) in enumerate(film):
        found = list(chunks(picture))
        width, height = struct.unpack(">II", dict(found)[b"IHDR"][:8])
        timing = struct.pack(
            ">IIIIIHHBB", number, width, height, 0, 0, int(seconds * 1000), 1000, 0, 0
        )
        parts.append(chunk(b"fcTL", timing))
        number += 1
        for kind, data in found:
            if kind == b"IDAT" and index == 0:
                parts.append(chunk(b"IDAT", data))
            elif kind == b"IDAT":
                parts.append(chunk(b"fdAT", struct.pack(">I", number) + data))
                number += 1
    return b"".join([*parts, chunk(b"IEND", b"")])


def chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parts of a PNG, by kind."""
    at = len(PNG)
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        yield picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        at += length + 12


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


if __name__ == "__main__":
    sys.exit(main())
