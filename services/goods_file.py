"""Goods from a CSV file and into one: all of it or nothing, with a report that names lines.

Columns: ``sku`` and ``title`` are needed; ``slug, subtitle, description, category, picture,
active`` may be there; a column ``price_eur`` (``price_usd`` …) holds a price as people write it;
``units`` is what a new product starts with, ``received`` what has come in of one that exists.
What is bought again and again has an ``interval`` (day, week, month, year) and may have an
``interval_count`` (every so many of them) and ``trial_days``. An empty ``interval`` makes it
something that is bought once. A checkout that is under way keeps what it began with.
What ``write`` writes changes nothing when it is read again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import select

from domain.errors import Conflict, ShopError
from domain.money import LARGEST_AMOUNT, exponent, plain, smallest_step
from domain.plans import INTERVALS
from extensions import atomic, db, reading
from models import AuditEntry, Product, StockMovement
from services.catalogue import CURRENCIES
from services.cells import bare, guarded

TEXTS = {"title": 120, "subtitle": 160, "description": 4000, "category": 60, "picture": 60}
NUMBERS = ("units", "received")
PLAN = ("interval", "interval_count", "trial_days")
KNOWN = {"sku", "slug", "active", *TEXTS, *NUMBERS, *PLAN}
# Stripe takes three years at most (POST /v1/prices, recurring.interval_count); 52 is our own limit.
MOST_OF_AN_INTERVAL = {"day": 52, "week": 52, "month": 36, "year": 3}
MOST_TRIAL_DAYS = 730  # Stripe's limit
PRICE = re.compile(r"price_([a-z]{3})")
MOST_UNITS = 1_000_000
CHUNK = 1000  # products locked by one statement; a database takes so many parameters and no more
_YES, _NO = {"1", "yes", "true", "x"}, {"0", "no", "false", ""}


class BadFile(ShopError):
    """``problems`` has one sentence for each, with its line."""

    code = "file_invalid"
    http_status = 422
    headline = "Nothing was imported"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class PlanOvertaken(Conflict):
    """The goods changed after the plan was shown: the file would do something else by now."""

    code = "plan_overtaken"
    headline = "Somebody was faster"

    def __init__(self) -> None:
        super().__init__(
            "Products changed after you had looked at what this file does. Nothing was imported. "
            "Below is what it would do now: look again, and import it."
        )


@dataclass(frozen=True, slots=True)
class Imported:
    new: int
    changed: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one line does. ``changes`` has (before, after) of each column that it touches, a price
    in minor units; ``units`` come in, on top of the ``came`` that ever did."""

    line: int
    sku: str
    title: str
    is_new: bool
    changes: dict[str, tuple[Any, Any]]
    units: int
    came: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file would do to the goods as they are. ``token`` stands for exactly this."""

    steps: list[Step]  # of the lines that do something
    lines: int
    token: str

    @property
    def new(self) -> int:
        return sum(step.is_new for step in self.steps)

    @property
    def changed(self) -> int:
        return sum(bool(step.changes) and not step.is_new for step in self.steps)

    @property
    def received(self) -> int:
        return sum(step.units for step in self.steps if not step.is_new)


def plan(text: str) -> Plan:
    """Say what ``read`` would do with this file, and do nothing. Raises BadFile."""
    rows = _rows(text)
    with reading():
        return _plan(text, rows, _present(rows))


def write() -> Iterator[str]:
    """The goods as lines of a file that ``read`` takes; ``units`` is what is on hand."""
    with reading() as session:
        goods = session.scalars(select(Product).order_by(Product.sku)).all()
    currencies = [*CURRENCIES, *sorted({c for g in goods for c in g.prices} - set(CURRENCIES))]
    header = [*columns(), *(f"price_{currency}" for currency in currencies), *NUMBERS]
    yield "\ufeff" + _line(header)  # without the mark, spreadsheets take UTF-8 for something else
    for product in goods:
        prices = product.prices
        yield _line(
            [
                *(_cell(product, name) for name in columns()),
                *(plain(prices[c], c) if c in prices else "" for c in currencies),
                str(product.on_hand),
                "0",
            ]
        )


def columns() -> list[str]:
    """The columns that a product has under the same name, in the order of its table."""
    return [column.name for column in Product.__table__.columns if column.name in KNOWN]


def read(text: str, *, seen: str | None = None, actor: str = "", reason: str = "") -> Imported:
    """Import goods, or raise BadFile with every problem at once and change nothing. Importing the
    same file twice changes nothing the second time, but for what it says was ``received``.

    ``seen`` is the token of the plan that ``actor`` has agreed to: if it is no longer the plan, as
    after a double click, PlanOvertaken is raised. What an actor changes stands in the audit log.
    """
    rows = _rows(text)
    new = changed = 0
    with atomic() as session:
        _lock(rows)
        present = _present(rows)
        agreed = _plan(text, rows, present)
        if seen not in (None, agreed.token):
            raise PlanOvertaken
        fresh = []
        for _, row in rows:
            product = present.get(row["sku"])
            if product is None:
                fresh.append((Product(**_columns(row), on_hand=row["units"]), row["units"]))
                new += 1
                continue
            wanted = _wanted(product, row)
            if any(getattr(product, name) != value for name, value in wanted.items()):
                for name, value in wanted.items():
                    setattr(product, name, value)
                changed += 1
            if row["received"]:
                product.on_hand = Product.on_hand + row["received"]
                session.add(_movement(product, "received", row["received"], actor, reason))
                changed += 1
        session.add_all(product for product, _ in fresh)
        session.flush()
        session.add_all(_movement(p, "initial", units, actor, reason) for p, units in fresh)
        if actor:
            session.add_all(_noted(step, actor, reason) for step in agreed.steps)
    return Imported(new, changed)


def _lock(rows: list[tuple[int, dict[str, Any]]]) -> None:
    """The products of the file, in id order like everybody who moves stock."""
    skus = {row["sku"] for _, row in rows}
    found = db.session.execute(select(Product.id, Product.sku).order_by(Product.id))
    ids = [product_id for product_id, sku in found if sku in skus]
    for start in range(0, len(ids), CHUNK):
        some = Product.id.in_(ids[start : start + CHUNK])
        locked = select(Product.id).where(some).order_by(Product.id)
        db.session.execute(locked.with_for_update(key_share=True))


def _present(rows: list[tuple[int, dict[str, Any]]]) -> dict[str, Product]:
    """The goods that are there, by sku. Raises BadFile if the file does not go with them."""
    present = {product.sku: product for product in db.session.scalars(select(Product))}
    slugs = {product.slug: product.sku for product in present.values()}
    problems = []
    for line, row in rows:
        owner = slugs.setdefault(row["slug"], row["sku"])
        if owner != row["sku"]:
            problems.append(f"line {line}: the address {row['slug']} belongs to {owner} already")
        if row["sku"] not in present and row["received"]:
            what = f"{row['sku']} is new, and something of it cannot have been received"
            problems.append(f"line {line}: {what}")
    if problems:
        raise BadFile(problems)
    return present


def _plan(text: str, rows: list[tuple[int, dict[str, Any]]], present: dict[str, Product]) -> Plan:
    steps = []
    for line, row in rows:
        product = present.get(row["sku"])
        units = row["units"] if product is None else row["received"]
        came = 0 if product is None else product.on_hand + product.sold
        step = Step(
            line, row["sku"], row["title"], product is None, _changes(product, row), units, came
        )
        if step.is_new or step.changes or step.units:
            steps.append(step)
    # What ever came is in it where more comes: then one file is received once.
    told = [(step.line, step.changes, step.units, step.units and step.came) for step in steps]
    whole = json.dumps([text, told], default=str)
    return Plan(steps, len(rows), hashlib.sha256(whole.encode()).hexdigest())


def _changes(product: Product | None, row: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(before, after) of each column that the row would change; None where nothing was."""
    wanted = _columns(row) if product is None else _wanted(product, row)
    prices = wanted.pop("prices")
    before = {} if product is None else product.prices
    changes = {name: (getattr(product, name, None), value) for name, value in wanted.items()}
    changes |= {f"price_{c}": (before.get(c), amount) for c, amount in prices.items()}
    return {name: (old, new) for name, (old, new) in changes.items() if old != new}


def _wanted(product: Product, row: dict[str, Any]) -> dict[str, Any]:
    """The columns as they are to be; a price that the row does not name stays."""
    wanted = _columns(row)
    return {**wanted, "prices": {**product.prices, **wanted["prices"]}}


def _noted(step: Step, actor: str, reason: str) -> AuditEntry:
    told = {"reason": reason, "steps": step.changes, "units": step.units}
    detail = json.dumps(told, ensure_ascii=False)
    changed = "imported goods" if step.changes else "received stock"
    action = "added goods" if step.is_new else changed
    return AuditEntry(actor=actor, action=action, subject=f"product:{step.sku}", detail=detail)


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([guarded(cell) for cell in cells])
    return out.getvalue()


def _cell(product: Product, name: str) -> str:
    value = getattr(product, name)
    if name in PLAN and not product.interval:
        return ""  # what is bought once has no number of intervals
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _movement(product: Product, kind: str, units: int, actor: str, reason: str) -> StockMovement:
    why, who = reason or "imported", actor[:120]
    return StockMovement(product_id=product.id, kind=kind, quantity=units, reason=why, actor=who)


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in NUMBERS}


def _rows(text: str) -> list[tuple[int, dict[str, Any]]]:
    """(line, values) of each row. Raises BadFile."""
    if "\0" in text:
        raise BadFile(["this is no text; a spreadsheet can save as CSV UTF-8"])
    lines = text.removeprefix("\ufeff")
    first = lines.partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    # Strict, because a quote that stays open would swallow all lines after it.
    reader = csv.DictReader(io.StringIO(lines), delimiter=separator, strict=True)
    with _said_by_line(reader):
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
    for given in _records(reader):
        line = reader.line_num
        if None in given or None in given.values():
            problems.append(f"line {line}: it has another number of fields than the first line")
            continue
        row = _read_row({k: bare(v.strip()) for k, v in given.items()}, line, problems)
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


def _records(reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    with _said_by_line(reader):
        yield from reader


@contextmanager
def _said_by_line(reader: csv.DictReader[str]) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        line = reader.line_num + 1  # the one after the last that could be read
        raise BadFile([f"line {line}: this cannot be read as CSV: {error}"]) from error


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
    is_chargeable = whole % smallest_step(currency) == 0
    return whole if whole == amount and whole <= LARGEST_AMOUNT and is_chargeable else None
