"""The goods of the demo shop. Pictures are drawn, in ``static/products``."""

from __future__ import annotations

from typing import Any


def _good(
    sku: str,
    slug: str,
    title: str,
    subtitle: str,
    category: str,
    picture: str,
    prices: tuple[int, int, int],
    units: int,
    description: str,
    *,
    every: str | None = None,
    trial_days: int = 0,
) -> dict[str, Any]:
    """``prices`` are eur, usd, jpy in minor units; with ``every``, an interval, for each time."""
    return {
        "sku": sku,
        "slug": slug,
        "title": title,
        "subtitle": subtitle,
        "category": category,
        "picture": picture,
        "prices": dict(zip(("eur", "usd", "jpy"), prices, strict=True)),
        "units": units,
        "description": description,
        "interval": every,
        "trial_days": trial_days,
    }


GOODS = (
    _good("MUG-FOR-35", "enamel-mug", "Enamel mug", "Forest, 350 ml", "Kitchen", "mug",
          (1800, 1950, 2900), 120,
          "Steel under two coats of enamel. Light enough for a rucksack, and it will outlive it."),
    _good("NBK-DOT-A5", "dot-notebook", "Dot notebook", "A5, 160 pages", "Desk", "notebook",
          (2400, 2600, 3900), 80,
          "Thread-bound, so that it lies flat on every page. The dots are pale enough to ignore."),
    _good("LMP-CLA-BR", "desk-lamp", "Desk lamp", "Clamp, brass", "Desk", "lamp",
          (3300, 3600, 5400), 2,
          "Two joints, one switch, warm light. Clamps to boards up to six centimetres thick."),
    _good("TOT-CAN-NA", "canvas-tote", "Canvas tote", "Natural, 14 oz", "Carry", "tote",
          (2900, 3100, 4700), 60,
          "Stands up by itself when you put it down. Handles long enough for a winter coat."),
    _good("BLK-WOL-GR", "wool-blanket", "Wool blanket", "Grey, 130 × 180 cm", "Home", "blanket",
          (11900, 12900, 19800), 15,
          "New wool, woven loose so that it drapes, with a whipped edge all round."),
    _good("KET-PUR-09", "pour-over-kettle", "Pour-over kettle", "0.9 l, matte steel", "Kitchen",
          "kettle", (6900, 7500, 11400), 0,
          "A spout that does what the hand says. Sold out until the next batch is spun."),
    _good("PRT-LET-30", "letterpress-print", "Letterpress print", "30 × 40 cm, two colours",
          "Home", "print", (4500, 4900, 7400), 25,
          "Pressed by hand into cotton paper. You can feel the north star with a fingertip."),
    _good("PEN-FNT-M", "fountain-pen", "Fountain pen", "Medium nib, black", "Desk", "pen",
          (5200, 5600, 8600), 40,
          "Starts at the first stroke, also on Mondays. Takes bottles and standard cartridges."),
    _good("TRY-OAK-40", "wooden-tray", "Wooden tray", "Oak, 40 × 28 cm", "Home", "tray",
          (3900, 4200, 6400), 30,
          "Turned from one board and oiled. The rim is high enough for a full pot."),
    _good("APR-LIN-IN", "linen-apron", "Linen apron", "Indigo, cross-back", "Kitchen", "apron",
          (4800, 5200, 7900), 35,
          "Nothing to tie. Washed linen that gets better with every stain you get out."),
    _good("COF-BNS-25", "coffee-beans", "Coffee beans", "250 g, whole", "Kitchen", "coffee",
          (1250, 1350, 2000), 200,
          "Roasted on Tuesdays, sent on Wednesdays. Chocolate first, then an orange."),
    _good("CDL-BEE-20", "beeswax-candle", "Beeswax candle", "20 cm, pair", "Home", "candle",
          (1400, 1500, 2300), 90,
          "Smells of honey before it is lit. Burns for seven hours and does not drip."),
    _good("COF-SUB-M", "monthly-coffee", "Monthly coffee", "250 g, whole, to your door", "Kitchen",
          "coffee-monthly", (1200, 1300, 1900), 200,
          "What we roasted that Tuesday, and a note that says who grew it. A new one each month.",
          every="month"),
    _good("PRT-CLB-M", "print-club", "Print club", "One small print a month", "Home",
          "print-club", (900, 990, 1500), 100,
          "A5 on cotton paper, drawn for the month and pressed once. Enough for a wall by winter.",
          every="month", trial_days=14),
)  # fmt: skip
