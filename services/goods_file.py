"""Goods from a CSV file: all of it or nothing, with a report that names lines.

Columns: ``sku`` and ``title`` are needed; ``slug, subtitle, description, category, picture,
active`` may be there; a column ``price_eur`` (``price_usd`` …) holds a price as people write it;
``units`` is what a new product starts with, ``received`` what has come in of one that exists.
What is bought again and again has an ``interval`` (day, week, month, year) and may have an
``interval_count`` (every so many of them) and ``trial_days``. An empty ``interval`` makes it
something that is bought once. A checkout that is under way keeps what it began with.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import select

from domain.errors import ShopError
from domain.money import LARGEST_AMOUNT, exponent
from domain.plans import INTERVALS
from extensions import atomic
from models import Product, StockMovement

TEXTS = {"title": 120, "subtitle": 160, "description": 4000, "category": 60, "picture": 60}
NUMBERS = ("units", "received")
PLAN = ("interval", "interval_count", "trial_days")
KNOWN = {"sku", "slug", "active", *TEXTS, *NUMBERS, *PLAN}
# Stripe takes three years at most (POST /v1/prices, recurring.interval_count); 52 is our own limit.
MOST_OF_AN_INTERVAL = {"day": 52, "week": 52, "month": 36, "year": 3}
MOST_TRIAL_DAYS = 730  # Stripe's limit
PRICE = re.compile(r"price_([a-z]{3})")
MOST_UNITS = 1_000_000
_YES, _NO = {"1", "yes", "true", "x"}, {"0", "no", "false", ""}


class BadFile(ShopError):
    """``problems`` has one sentence for each, with its line."""

    code = "file_invalid"
    http_status = 422
    headline = "Nothing was imported"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Imported:
    new: int
    changed: int


def read(text: str) -> Imported:
    """Import goods, or raise BadFile with every problem at once and change nothing. Importing the
    same file twice changes nothing the second time, but for what it says was ``received``."""
    rows = _rows(text)
    new = changed = 0
    with atomic() as session:
        present = {product.sku: product for product in session.scalars(select(Product))}
        slugs = {product.slug: product.sku for product in present.values()}
        problems = [
            f"line {line}: the address {row['slug']} belongs to {slugs[row['slug']]} already"
            for line, row in rows
            if slugs.get(row["slug"], row["sku"]) != row["sku"]
        ]
        problems += [
            f"line {line}: {row['sku']} is new, and something of it cannot have been received"
            for line, row in rows
            if row["sku"] not in present and row["received"]
        ]
        if problems:
            raise BadFile(problems)
        for _, row in rows:
            product = present.get(row["sku"])
            if product is None:
                product = Product(**_columns(row), on_hand=row["units"])
                session.add(product)
                session.flush()
                session.add(_movement(product, "initial", row["units"]))
                new += 1
                continue
            wanted = _columns(row)
            wanted["prices"] = {**product.prices, **wanted["prices"]}
            if any(getattr(product, name) != value for name, value in wanted.items()):
                for name, value in wanted.items():
                    setattr(product, name, value)
                changed += 1
            if row["received"]:
                product.on_hand = Product.on_hand + row["received"]
                session.add(_movement(product, "received", row["received"]))
                changed += 1
    return Imported(new, changed)


def _movement(product: Product, kind: str, units: int) -> StockMovement:
    return StockMovement(product_id=product.id, kind=kind, quantity=units, reason="imported")


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in NUMBERS}


def _rows(text: str) -> list[tuple[int, dict[str, Any]]]:
    """(line, values) of each row. Raises BadFile."""
    lines = text.removeprefix("\ufeff")
    first = lines.partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    reader = csv.DictReader(io.StringIO(lines), delimiter=separator)
    header = [(name or "").strip().lower() for name in reader.fieldnames or []]
    strange = [n for n in header if n not in KNOWN and not PRICE.fullmatch(n)]
    problems = [f"line 1: there is no column {name[:40]!r}" for name in strange]
    problems += [f"line 1: the column {n} is missing" for n in ("sku", "title") if n not in header]
    problems += [f"line 1: {n} stands twice" for n in {n for n in header if header.count(n) > 1}]
    if problems:
        raise BadFile(problems)
    reader.fieldnames = header
    rows: list[tuple[int, dict[str, Any]]] = []
    seen: dict[str, int] = {}
    for given in reader:
        line = reader.line_num
        if None in given or None in given.values():
            problems.append(f"line {line}: it has another number of fields than the first line")
            continue
        row = _read_row({k: v.strip() for k, v in given.items()}, line, problems)
        sku = row["sku"]
        if sku in seen:
            problems.append(f"line {line}: {sku} stands in line {seen[sku]} already")
        seen[sku] = line
        rows.append((line, row))
    if not rows and not problems:
        problems.append("line 2: there is nothing to import")
    if problems:
        raise BadFile(problems)
    return rows


def _read_row(given: dict[str, str], line: int, problems: list[str]) -> dict[str, Any]:
    def wrong(what: str) -> None:
        problems.append(f"line {line}: {what}")

    sku = given["sku"]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", sku):
        wrong(f"{sku[:40]!r} is no sku: letters, digits, dots and dashes, 64 at most")
    row: dict[str, Any] = {"sku": sku}
    for name, most in TEXTS.items():
        if name in given:
            row[name] = given[name]
            if len(given[name]) > most:
                wrong(f"{name} is longer than {most} characters")
    if not row["title"]:
        wrong("the title is empty")
    row["slug"] = given.get("slug") or re.sub(r"[^a-z0-9]+", "-", row["title"].lower()).strip("-")
    if not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", row["slug"]) or len(row["slug"]) > 80:
        wrong(f"{row['slug'][:40]!r} is no address: small letters, digits and dashes, 80 at most")
    prices = {}
    for name, text in given.items():
        currency = PRICE.fullmatch(name)
        if currency and text:
            amount = _minor(text, currency[1])
            if amount is None:
                wrong(f"{text[:40]!r} is no price in {currency[1].upper()}")
            else:
                prices[currency[1]] = amount
    row["prices"] = prices
    for name in NUMBERS:
        text = given.get(name) or "0"
        if not _is_whole(text, 0, MOST_UNITS):
            wrong(f"{name} is a whole number from 0 to {MOST_UNITS:,}, not {text[:40]!r}")
            text = "0"
        row[name] = int(text)
    row |= _read_plan(given, wrong)
    if "active" in given:
        if given["active"].lower() not in _YES | _NO:
            wrong(f"active is yes or no, not {given['active'][:40]!r}")
        row["active"] = given["active"].lower() in _YES
    return row


def _read_plan(given: dict[str, str], wrong: Callable[[str], None]) -> dict[str, Any]:
    """How it recurs; nothing if the row does not speak of it."""
    interval, count, trial = (given.get(name, "") for name in PLAN)
    if not interval:
        for name in PLAN[1:]:
            if given.get(name):
                wrong(f"{name} needs an interval beside it: {', '.join(INTERVALS)}")
        once = {"interval": None, "interval_count": 1, "trial_days": 0}
        return once if "interval" in given else {}
    most = MOST_OF_AN_INTERVAL.get(interval.lower())
    if most is None:
        wrong(f"interval is one of {', '.join(INTERVALS)}, not {interval[:40]!r}")
        return {}
    if not _is_whole(count or "1", 1, most):
        wrong(
            f"interval_count is a whole number from 1 to {most} for the interval "
            f"{interval.lower()}, not {count[:40]!r}"
        )
        return {}
    if not _is_whole(trial or "0", 0, MOST_TRIAL_DAYS):
        wrong(f"trial_days is a whole number from 0 to {MOST_TRIAL_DAYS}, not {trial[:40]!r}")
        return {}
    return {
        "interval": interval.lower(),
        "interval_count": int(count or 1),
        "trial_days": int(trial or 0),
    }


def _is_whole(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most


def _minor(text: str, currency: str) -> int | None:
    """``18.00`` or ``18,00`` as minor units of ``currency``; None if it is no such price."""
    if not re.fullmatch(r"[0-9]{1,10}(?:[.,][0-9]{1,3})?", text):
        return None
    try:
        amount = Decimal(text.replace(",", ".")).scaleb(exponent(currency))
    except InvalidOperation:
        return None
    whole = int(amount)
    return whole if whole == amount and whole <= LARGEST_AMOUNT else None
