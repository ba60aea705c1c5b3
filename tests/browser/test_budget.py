"""What the page after paying may cost: on the wire, in requests, and in jumps."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
from playwright.sync_api import Response

from tests.browser.conftest import DemoShop, Visitor

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
MOST_BYTES, MOST_REQUESTS = 30_000, 8
MOST_IN_A_POLL = 1_536
MOST_SHIFT = 0.02
NOTE_SHIFTS = """
window.shifts = 0;
new PerformanceObserver(list => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.shifts += shift.value;
}).observe({type: "layout-shift", buffered: true});
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_until_paid_the_page_is_light_and_lies_still(shop: DemoShop, visit: Visit, width: int):
    """Cold: with nothing in the browser's cache."""
    shop.stripe_is_silent(1.5)
    maya = visit(shop)
    maya.goes_to_payment()
    window = {"width": width, "height": 900}
    cold = visit(shop, storage_state=maya.context.storage_state(), viewport=window)
    cold.page.add_init_script(NOTE_SHIFTS)
    sizes: dict[str, int] = {}
    polls: list[int] = []

    def weighs(answer: Response) -> None:
        if not answer.url.startswith(shop.origin) or answer.status == 303:
            return
        packed = len(gzip.compress(answer.body()))
        sizes[f"{len(sizes)} {answer.url}"] = packed
        if "/status?" in answer.url:
            polls.append(packed)

    cold.page.goto(maya.page.url)
    cold.page.on("response", weighs)
    cold.pays()
    cold.sees_paid()
    cold.page.wait_for_load_state("networkidle")

    assert len(polls) >= 2
    assert len(sizes) <= MOST_REQUESTS, sizes
    assert sum(sizes.values()) <= MOST_BYTES, sizes
    assert max(polls[:-1]) <= MOST_IN_A_POLL, "the last one brings the whole news"
    assert cold.page.evaluate("window.shifts") <= MOST_SHIFT
