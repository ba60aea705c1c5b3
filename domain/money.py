"""Money as integer minor units, with Stripe's currency table.

Stripe's table is used and not CLDR's, because the amount that counts is the one Stripe charges:
docs.stripe.com/currencies, "zero-decimal" and "three-decimal currencies". ISK and UGX have no minor
unit in daily life, yet Stripe takes them with two decimals (the last two always 00).
"""

from __future__ import annotations

ZERO_DECIMAL = frozenset(
    [
        "bif",
        "clp",
        "djf",
        "gnf",
        "jpy",
        "kmf",
        "krw",
        "mga",
        "pyg",
        "rwf",
        "vnd",
        "vuv",
        "xaf",
        "xof",
        "xpf",
    ]
)
THREE_DECIMAL = frozenset("bhd jod kwd omr tnd".split())
SHOWN_WITHOUT_DECIMALS = frozenset({"isk", "ugx"})
SIGNS = {"eur": "€", "usd": "$", "gbp": "£", "jpy": "¥", "chf": "CHF ", "sek": "SEK "}

LARGEST_AMOUNT = 2**31 - 1  # order totals stay inside a 32-bit column, as Stripe's own limit does


def exponent(currency: str) -> int:
    """How many decimals Stripe's minor unit of ``currency`` has."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def display(amount: int, currency: str) -> str:
    """``1800, "eur"`` -> ``€18.00``; minor units in, text for people out."""
    places = exponent(currency)
    whole, rest = divmod(abs(amount), 10**places)
    shown = f"{whole:,}"
    if places and currency not in SHOWN_WITHOUT_DECIMALS:
        shown += f".{rest:0{places}d}"
    sign = SIGNS.get(currency, currency.upper() + " ")
    return f"{'−' if amount < 0 else ''}{sign}{shown}"
