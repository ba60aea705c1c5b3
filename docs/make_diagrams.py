"""Draw the sequence diagrams of the strategies: ``.venv/bin/python -m docs.make_diagrams``.

Two pictures for each: how it goes when it goes well, and the other ways it can go. When an order
is born and its lines leave the basket is read from ``domain.strategies``, so that the pictures say
what the shop does; a test draws them again and compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from domain.strategies import STRATEGIES, Moment, Strategy

PICTURES = Path(__file__).resolve().parent / "pictures"

WIDTH, MARGIN = 1000, 16
HEAD_H, TAB_H, ROW_H, TEXT_H = 44, 26, 34, 15
PLACES = {"browser": 84, "shop": 274, "stripe": 464, "clock": 636}  # x of each lifeline
NAMES = {"browser": "Browser", "shop": "Shop", "stripe": "Stripe", "clock": "Worker, clock"}
OUTSIDE = ("browser", "stripe")
CARD_X, CARD_W, CARD_LABEL_W = 728, 256, 62

STYLE = """
  :root { color-scheme: light dark }
  .paper { fill: #f5f3ed } .box { fill: #fffefb; stroke: #15201e; stroke-width: 1.4 }
  .out { fill: #e1eef0; stroke: #0b5563; stroke-width: 1.4 }
  .card { fill: #fffefb; stroke: #8a938f } .tab { fill: #15201e } .tab-text { fill: #fffefb }
  .life { stroke: #8a938f; stroke-dasharray: 3 4 } .cut { stroke: #8a938f }
  .way { fill: none; stroke: #15201e; stroke-width: 1.4; marker-end: url(#tip) }
  .ring { fill: none; stroke: #8a5a00; stroke-width: 1.4; stroke-dasharray: 5 4;
          marker-end: url(#tip) }
  .tip { fill: #15201e } text { fill: #15201e } .s { fill: #45524e }
  .b { font-weight: 700 } .c { text-anchor: middle } .new { fill: #0b5563; font-weight: 700 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0f1413 } .box { fill: #1e2523; stroke: #b6c0bc }
    .out { fill: #12323a; stroke: #86ccd8 } .card { fill: #171d1b; stroke: #6b7673 }
    .tab { fill: #edf0ed } .tab-text { fill: #0f1413 } .life, .cut { stroke: #6b7673 }
    .way { stroke: #edf0ed } .ring { stroke: #f3c671 } .tip { fill: #edf0ed }
    text { fill: #edf0ed } .s { fill: #b6c0bc } .new { fill: #86ccd8 }
  }
"""


@dataclass(frozen=True, slots=True)
class Part:
    """One way it can go."""

    title: str


@dataclass(frozen=True, slots=True)
class Says:
    """One tells another; ``maybe`` draws what is optional, or only a doorbell."""

    speaker: str
    hearer: str
    text: str
    maybe: bool = False


@dataclass(frozen=True, slots=True)
class Does:
    """Something happens in one place."""

    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Holds:
    """What the database holds from here on."""

    attempt: str
    order: str
    lines: str
    stock: str
    page: str
    person: str
    event: str = "–"


Step = Part | Says | Does | Holds


def main() -> int:
    for name, picture in pictures().items():
        (PICTURES / name).write_text(picture)
        sys.stdout.write(f"docs/pictures/{name}\n")
    return 0


def pictures() -> dict[str, str]:
    """Every picture by its file's name."""
    drawn = {}
    for strategy in STRATEGIES.values():
        stem = strategy.name.replace("_", "-")
        drawn[f"{stem}.svg"] = draw(f"{stem}: paid", list(_paid(strategy)))
        drawn[f"{stem}-other-ways.svg"] = draw(f"{stem}: other ways", list(_other(strategy)))
    return drawn


# -- what happens


def _paid(strategy: Strategy) -> Iterator[Step]:
    started, settled = _at(strategy, Moment.START), _settled(strategy)
    yield Part("Pay is pressed")
    yield Says("browser", "shop", "Pay")
    yield Does("shop", "one transaction")
    yield replace(started, page="being opened")
    yield Says("shop", "stripe", "open a session")
    yield Says("stripe", "shop", "its id and address")
    yield started
    yield Says("shop", "browser", "303 to the payment page")

    yield Part("Paid, and the webhook comes first")
    yield Says("browser", "stripe", "pays")
    yield Says("stripe", "shop", "webhook: completed")
    yield Does("shop", "store it, commit")
    yield replace(started, event="new")
    yield Says("shop", "stripe", "200")
    yield Says("shop", "clock", "ring, through Redis", maybe=True)
    yield Does("clock", "settle: one commit")
    yield settled
    yield Says("clock", "browser", "receipt by mail")
    yield Says("browser", "shop", "GET /checkout/success")
    yield Says("shop", "browser", "thank you")
    yield Does("clock", "next sync: forget")
    yield replace(settled, person="forgotten")

    yield Part("Paid, and the shopper is back first: the webhook is late")
    yield Says("browser", "stripe", "pays")
    yield Says("browser", "shop", "GET /checkout/success")
    returned = _at(strategy, Moment.RETURN)
    if returned != started:
        yield Does("shop", "one transaction")
        yield returned
    yield Says("shop", "stripe", "how does it stand?")
    yield Says("stripe", "shop", "paid (within 3 s)")
    yield Does("shop", "settle: one commit")
    yield replace(settled, event="–")
    yield Says("shop", "browser", "thank you")
    yield Says("stripe", "shop", "webhook: completed")
    yield Says("shop", "clock", "ring, through Redis", maybe=True)
    yield Does("clock", "told twice: noted")
    yield settled


def _other(strategy: Strategy) -> Iterator[Step]:
    started, settled = _at(strategy, Moment.START), _settled(strategy)
    at_start = strategy.order_born == Moment.START
    on_return = strategy.order_born == Moment.RETURN

    def ended(how: str, *, was_back: bool) -> Holds:
        order = how if at_start else "none"
        if on_return and was_back:
            order = f"none, or {how}"
        return replace(
            started,
            attempt=f"closed, {how}",
            order=order,
            lines="in the basket",
            stock="released",
            page="expired",
        )

    yield Part("Paid, but no webhook comes, and the shopper does not come back")
    yield Says("browser", "stripe", "pays")
    yield Does("clock", "sync, by the clock")
    yield Says("clock", "stripe", "what happened?")
    yield Says("stripe", "clock", "event: completed")
    yield Does("clock", "store, then settle")
    yield settled

    yield Part("Cancelled: the shopper leaves the payment page")
    yield Says("browser", "shop", "GET /checkout/cancel")
    yield Says("shop", "stripe", "how does it stand?")
    yield Says("stripe", "shop", "open")
    yield started
    yield Says("shop", "browser", "try again? change basket?")
    yield Says("browser", "shop", "change basket")
    yield Says("shop", "stripe", "expire the session")
    yield Says("stripe", "shop", "expired, else: paid")
    yield Does("shop", "settle: one commit")
    yield ended("cancelled", was_back=False)

    yield Part("The time is up")
    yield Does("clock", "past the deadline")
    yield Says("clock", "stripe", "expire the session")
    yield Says("stripe", "clock", "expired, else: paid")
    yield Does("clock", "settle: one commit")
    yield ended("expired", was_back=True)
    yield Does("clock", "a day later: forget")
    yield replace(ended("expired", was_back=True), person="forgotten")

    yield Part("Tried again, before the end or up to a day after it")
    yield Says("browser", "shop", "try again")
    yield Says("shop", "stripe", "expire the old session")
    yield Says("stripe", "shop", "expired, else: paid")
    yield Does("shop", "one transaction")
    again = replace(
        started,
        attempt="open, new deadline",
        order="none, or pending" if on_return else started.order,
        lines="where they are" if on_return else started.lines,
    )
    yield replace(again, page="another being opened")
    yield Says("shop", "stripe", "open another session")
    yield Says("stripe", "shop", "its id and address")
    yield replace(again, page="the other open")
    yield Says("shop", "browser", "303 to the payment page")

    late = ended("expired", was_back=True)
    yield Part("Paid after the end, and the goods can be taken again")
    yield Says("stripe", "shop", "webhook: succeeded")
    yield Says("shop", "clock", "ring, through Redis", maybe=True)
    yield Does("clock", "settle: one commit")
    person = "in the order" if at_start else "kept, or from Stripe"
    yield replace(settled, page="ended", person=person)

    yield Part("Paid after the end, and they cannot")
    yield Says("stripe", "shop", "webhook: succeeded")
    yield Says("shop", "clock", "ring, through Redis", maybe=True)
    yield Does("clock", "settle: one commit")
    yield replace(late, event="done; exception open")
    yield Says("clock", "stripe", "refund, if set so", maybe=True)


def _at(strategy: Strategy, moment: Moment) -> Holds:
    """An open checkout once a moment has come."""
    is_born = moment >= strategy.order_born
    word = "pending, provisional" if strategy.provisional else "pending_payment"
    return Holds(
        attempt="open",
        order=word if is_born else "none",
        lines="out" if moment >= strategy.lines_leave_cart else "in the basket",
        stock="held",
        page="open",
        person="kept",
    )


def _settled(strategy: Strategy) -> Holds:
    return replace(
        _at(strategy, Moment.PAYMENT),
        attempt="settled",
        order="payment_confirmed, paid",
        stock="sold",
        page="complete",
        event="done",
    )


# -- how it is drawn


def draw(title: str, steps: list[Step]) -> str:
    """One picture: lifelines, what is said between them, and cards of what the database holds."""
    body: list[str] = []
    y, card_bottom, before = MARGIN + HEAD_H + 14, 0, None
    for step in steps:
        match step:
            case Part():
                y = max(y, card_bottom) + (14 if before else 0)
                body += _tab(step, y)
                y += TAB_H + 22
                before, card_bottom = None, 0
            case Says():
                body += _arrow(step, y)
                y += ROW_H
            case Does():
                body += _box(step, y)
                y += ROW_H + 2
            case Holds():
                top = max(y - ROW_H - 12, card_bottom + 8)
                body += _card(step, before, top)
                before, card_bottom = step, top + _card_height()
                y = max(y, card_bottom - ROW_H)
    height = max(y, card_bottom) + MARGIN
    heads = [part for place in PLACES for part in _head(place, height)]
    told = "; ".join(step.title for step in steps if isinstance(step, Part))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            'font-family="system-ui, sans-serif" font-size="12.5" role="img" '
            'aria-labelledby="t d">',
            f'<title id="t">{escape(title)}</title>',
            f'<desc id="d">{escape(told)}.</desc>',
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto"><path class="tip" d="M0 0 10 5 0 10z"/></marker>'
            f"<style>{STYLE}</style></defs>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            *heads,
            *body,
            "</svg>\n",
        )
    )


def _head(place: str, height: int) -> list[str]:
    x = PLACES[place]
    kind = "out" if place in OUTSIDE else "box"
    return [
        f'<path class="life" d="M{x} {MARGIN + HEAD_H - 6}V{height - MARGIN}"/>',
        f'<rect class="{kind}" x="{x - 66}" y="{MARGIN}" width="132" height="34" rx="8"/>',
        f'<text class="b c" x="{x}" y="{MARGIN + 22}">{NAMES[place]}</text>',
    ]


def _tab(part: Part, y: int) -> list[str]:
    width = 24 + round(len(part.title) * 7.7)
    return [
        f'<path class="cut" d="M{MARGIN} {y}H{WIDTH - MARGIN}"/>',
        f'<rect class="tab" x="{MARGIN}" y="{y}" width="{width}" height="{TAB_H - 2}" rx="4"/>',
        f'<text class="b tab-text" x="{MARGIN + 12}" y="{y + 17}">{escape(part.title)}</text>',
        f'<text class="b" x="{CARD_X}" y="{y + 17}">The database holds</text>',
    ]


def _arrow(step: Says, y: int) -> list[str]:
    start, end = PLACES[step.speaker], PLACES[step.hearer]
    inward = 4 if end > start else -4
    kind = "ring" if step.maybe else "way"
    middle = (start + end) // 2
    # Text on a wide strip of paper, so that the lifelines it crosses do not strike it through.
    width = round(len(step.text) * 6.3) + 8
    return [
        f'<rect class="paper" x="{middle - width // 2}" y="{y - 16}" width="{width}" height="15"/>',
        f'<text class="c" x="{middle}" y="{y - 4}">{escape(step.text)}</text>',
        f'<path class="{kind}" d="M{start + inward} {y + 3}H{end - inward}"/>',
    ]


def _box(step: Does, y: int) -> list[str]:
    x, width = PLACES[step.where], 24 + round(len(step.text) * 6.3)
    return [
        f'<rect class="box" x="{x - width // 2}" y="{y - 15}" width="{width}" height="24" rx="6"/>',
        f'<text class="c" x="{x}" y="{y + 1}">{escape(step.text)}</text>',
    ]


def _card_height() -> int:
    return len(Holds.__slots__) * TEXT_H + 14


def _card(step: Holds, before: Holds | None, y: int) -> list[str]:
    drawn = [
        f'<rect class="card" x="{CARD_X}" y="{y}" width="{CARD_W}" height="{_card_height()}" '
        'rx="6"/>'
    ]
    for number, name in enumerate(Holds.__slots__):
        line, value = y + 18 + number * TEXT_H, getattr(step, name)
        is_new = before is None or getattr(before, name) != value
        drawn += [
            f'<text class="s" x="{CARD_X + 10}" y="{line}">{name}</text>',
            f'<text class="{"new" if is_new else "s"}" x="{CARD_X + 10 + CARD_LABEL_W}" '
            f'y="{line}">{escape(value)}</text>',
        ]
    return drawn


if __name__ == "__main__":
    sys.exit(main())
