"""How long after an order is paid its shopper reads so, with live updates and by polling.

``.venv/bin/python -m tests.browser.seen [RUNS]`` opens one shop for each way, lets the news of
every payment come two to five seconds late, and says a line about each. It measures from
``orders.paid_at`` until the words are in the page, on one machine and so on one clock.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import LAUNCH, NAMES, DemoShop, Visitor, opened

NOTE_WHEN_SEEN = """
window.seenAt = 0;
new MutationObserver(() => {
  if (!window.seenAt && document.querySelector("h1")?.textContent.includes("all set"))
    window.seenAt = Date.now();
}).observe(document, {subtree: true, childList: true});
"""


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.stderr.write(f"No browser: looked for {', '.join(NAMES)}.\n")
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=LAUNCH)
        for way in ("sse", "poll"):
            with (
                tempfile.TemporaryDirectory() as folder,
                opened(Path(folder), LIVE_UPDATES=way, RECONCILE_SECONDS="3600") as shop,
            ):
                late = random.Random(7)  # the same pauses for both ways
                found = [_one(shop, browser, late.uniform(2, 5)) for _ in range(runs)]
            after_s = sorted(seconds for seconds, _ in found)
            p50, p95 = statistics.median(after_s), after_s[int(runs * 0.95) - 1]
            looks = statistics.mean(asked for _, asked in found)
            sys.stdout.write(
                f"{way}: paid to seen, {runs} runs: p50 {p50:.2f} s, p95 {p95:.2f} s, "
                f"longest {after_s[-1]:.2f} s; {looks:.1f} looks a page\n"
            )
        browser.close()
    return 0


def _one(shop: DemoShop, browser: Browser, late_s: float) -> tuple[float, int]:
    """Seconds from paid to seen, and how often the page asked."""
    maya = Visitor(shop, browser)
    looks: list[str] = []
    maya.page.on("request", lambda asked: looks.append(asked.url) if "/status?" in asked.url else 0)
    maya.page.add_init_script(NOTE_WHEN_SEEN)
    shop.stripe_is_silent(late_s)
    session_id = maya.buys()
    maya.sees_paid(within_s=30)
    seen_at = maya.page.evaluate("window.seenAt") / 1000
    order_id = maya.order(session_id)["id"]
    maya.context.close()
    with closing(sqlite3.connect(shop.folder / "shop.db")) as books:
        (paid_at,) = books.execute(
            "SELECT paid_at FROM orders WHERE id = ?", (order_id,)
        ).fetchone()
    return seen_at - datetime.fromisoformat(paid_at).replace(tzinfo=UTC).timestamp(), len(looks)


if __name__ == "__main__":
    sys.exit(main())
