"""How the sandbox's pages look: templates, money, headers, and the outcomes to choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from werkzeug import Response

from . import cards

Obj = dict[str, Any]

HERE = Path(__file__).parent
SYMBOLS = {"eur": "€", "usd": "$", "gbp": "£", "jpy": "¥", "cad": "CA$", "aud": "A$"}
NO_DECIMALS = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
THREE_DECIMALS = frozenset("bhd jod kwd omr tnd".split())


@dataclass(frozen=True)
class Outcome:
    """A button that pays in one click, and what then befalls the news of it.

    ``saves`` is its label where a card is saved instead, empty when it means nothing there.
    """

    name: str
    label: str
    hint: str
    way: str = "4242424242424242"
    webhooks: str = ""
    saves: str = ""


GROUPS: tuple[tuple[str, tuple[Outcome, ...]], ...] = (
    (
        "The card",
        (
            Outcome("pays", "Pays", "4242 … 4242", saves="Is saved"),
            Outcome("declined", "Declined", "No reason given", "4000000000000002", "", "Declined"),
            Outcome("insufficient", "Not enough funds", "… 9995", "4000000000009995"),
            Outcome("expired_card", "Card expired", "… 0069", "4000000000000069", "", "Expired"),
            Outcome(
                "asks", "Bank asks first", "Its page follows", "4000002760003184", "", "Bank asks"
            ),
            Outcome("later_declined", "", "… 0341", "4000000000000341", "", "Saved, never pays"),
        ),
    ),
    (
        "A bank debit",
        (
            Outcome("debit", "Arrives later", "Waits, then paid", "bank_debit", "", "Is saved"),
            Outcome(
                "bounces", "Bounces later", "Waits, then fails", "bank_debit_fails", "", "Bounces"
            ),
        ),
    ),
    (
        "Paid, but the shop hears of it",
        (
            Outcome("late", "20 seconds late", "", webhooks="late", saves="20 seconds late"),
            Outcome("lost", "Never", "It has to ask", webhooks="lost", saves="Never"),
            Outcome("twice", "Twice", "", webhooks="twice", saves="Twice"),
            Outcome(
                "shuffled",
                "In the wrong order",
                "",
                webhooks="shuffled",
                saves="In the wrong order",
            ),
        ),
    ),
    (
        "Afterwards",
        (
            Outcome("disputed", "Disputed", "The money goes back", "4000000000000259"),
            Outcome("wrong_amount", "Wrong amount", "1.00 less than due", "wrong_amount"),
            Outcome("expires", "Time runs out", "Nothing is paid", saves="Time runs out"),
        ),
    ),
)
OUTCOMES = {outcome.name: outcome for _, group in GROUPS for outcome in group}


def groups(
    offered: Callable[[cards.Way], bool], *, saving: bool = False, without: Iterable[str] = ()
) -> list[tuple[str, list[Outcome]]]:
    """The outcomes that can be chosen where these ways to pay are offered, or to save."""
    shown = []
    for title, outcomes in GROUPS:
        kept = [
            o
            for o in outcomes
            if (o.saves if saving else o.label)
            and o.name not in without
            and offered(cards.way(o.way))
        ]
        words = title.replace("Paid", "Saved") if saving else title
        shown += [(words, kept)] if kept else []
    return shown


@cache
def templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = money
    return environment


def money(minor: int, currency: str) -> str:
    """Minor units as people write them."""
    places = 0 if currency in NO_DECIMALS else 3 if currency in THREE_DECIMALS else 2
    figure = f"{minor / 10**places:,.{places}f}"
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{figure}" if symbol else f"{figure} {currency.upper()}"


def render(
    name: str, *, back_to: str = "", status: int = 200, scripts: bool = False, **facts: Any
) -> Response:
    """A page that may only use its own style, and whose forms may lead back to the shop.

    ``scripts`` lets it run the sandbox's own, as those that are framed need to.
    """
    response = Response(
        templates().get_template(name).render(**facts), status, mimetype="text/html"
    )
    own = "script-src 'self'; connect-src 'self'; " if scripts else ""
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; {own}style-src 'self'; img-src 'self' data:; base-uri 'none'; "
        f"frame-ancestors 'self' {back_to}; form-action 'self' {back_to}"
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
