"""Small rules that several endpoints share: money, addresses on the web, metadata."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ..errors import ApiError, bad_parameter

Obj = dict[str, Any]

MOST = 99_999_999  # eight digits, in any currency
THREE_DECIMALS = frozenset("bhd jod kwd omr tnd".split())
CURRENCIES = frozenset(
    "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp "
    "byn bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip "
    "gmd gnf gtq gyd hkd hnl htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt "
    "lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr "
    "nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd "
    "std szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xof xpf yer zar "
    "zmw".split()
)
# Stripe refuses less than about half a dollar; these are its figures for common currencies.
MINIMUM = {
    "usd": 50, "eur": 50, "chf": 50, "cad": 50, "aud": 50, "nzd": 50, "sgd": 50, "brl": 50,
    "gbp": 30, "jpy": 50, "dkk": 250, "nok": 300, "sek": 300, "pln": 200, "czk": 1500,
    "hkd": 400, "mxn": 1000, "huf": 17_500, "ron": 200, "inr": 50,
}  # fmt: skip


def check_currency(currency: str, param: str) -> str:
    """The currency in lower case. Raises ApiError for one that Stripe does not have."""
    known = currency.lower()
    if known not in CURRENCIES:
        raise bad_parameter(
            f"Invalid currency: {known}. Stripe currently supports these currencies: "
            f"{', '.join(sorted(CURRENCIES))}",
            param,
        )
    return known


def check_amount(amount: int, currency: str, param: str, least: int = 0) -> None:
    """Raises ApiError for an amount, in minor units, that no charge can have."""
    if amount < least:
        raise bad_parameter(
            f"This value must be greater than or equal to {least}.",
            param,
            "parameter_invalid_integer",
        )
    if amount > MOST:
        raise ApiError(
            "Amount must be no more than 999,999.99.", code="amount_too_large", param=param
        )
    if currency in THREE_DECIMALS and amount % 10:
        raise ApiError(
            f"Invalid amount: the last digit of an amount in {currency} must be 0.",
            code="invalid_charge_amount",
            param=param,
        )


def check_minimum(amount: int, currency: str, param: str) -> None:
    least = MINIMUM.get(currency, 1)
    if amount < least:
        raise ApiError(
            f"The total must convert to at least {least} in {currency}'s smallest unit; "
            f"it is {amount}.",
            code="amount_too_small",
            param=param,
        )
    check_amount(amount, currency, param)


def check_url(url: str | None, param: str) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise bad_parameter("Not a valid URL", param, "url_invalid")


def merge_metadata(obj: Obj, params: Obj) -> None:
    """Set the given keys, unset those given empty; given as a whole empty, unset all."""
    if "metadata" not in params:
        return
    given = params["metadata"]
    merged = {} if given is None else {**obj["metadata"], **given}
    obj["metadata"] = {k: v for k, v in merged.items() if v != ""}
