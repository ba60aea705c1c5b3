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


def smallest_step(currency: str) -> int:
    """What every amount that can be charged is a multiple of: Stripe wants the last digit of three
    decimals to be 0, and the two decimals of currencies that have none in daily life to be 00."""
    if currency in THREE_DECIMAL:
        return 10
    return 100 if currency in SHOWN_WITHOUT_DECIMALS else 1


def amount_of(text: str, currency: str) -> int | None:
    """``"18.00", "eur"`` -> ``1800``: what a person typed, or None if it is no amount in this
    currency that can be charged. A point or a comma, no thousands."""
    places = exponent(currency)
    whole, _, rest = (
        text.strip().removeprefix(SIGNS.get(currency, "")).replace(",", ".").partition(".")
    )
    digits = whole + rest
    if not (digits.isascii() and digits.isdecimal() and whole and len(whole) <= 12):
        return None
    if len(rest) > places:
        return None
    amount = int(whole + rest.ljust(places, "0"))
    return None if amount % smallest_step(currency) else amount


def plain(amount: int, currency: str) -> str:
    """``1800, "eur"`` -> ``18.00``: as one types it into a field."""
    places = exponent(currency)
    digits = str(amount).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def display(amount: int, currency: str) -> str:
    """``1800, "eur"`` -> ``€18.00``; minor units in, text for people out."""
    places = exponent(currency)
    whole, rest = divmod(abs(amount), 10**places)
    shown = f"{whole:,}"
    if places and currency not in SHOWN_WITHOUT_DECIMALS:
        shown += f".{rest:0{places}d}"
    sign = SIGNS.get(currency, currency.upper() + " ")
    return f"{'−' if amount < 0 else ''}{sign}{shown}"
