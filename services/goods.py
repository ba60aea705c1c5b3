"""Goods at the counter: what an admin sees of a product, and changes of it and of its stock.

Every change has a reason and stands in the audit log, in a form that a program can read too, under
``product:<sku>``. A checkout that is under way keeps the prices of its snapshot.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, tuple_
from sqlalchemy.exc import IntegrityError

from domain.errors import Conflict, NotFound, ShopError
from domain.money import LARGEST_AMOUNT, amount_of, plain
from extensions import atomic, db, reading, retrying
from models import AuditEntry, Product, StockMovement
from services import goods_file, stock
from services.catalogue import CURRENCIES
from services.goods_file import MOST_UNITS, TEXTS, BadFile, Imported, Plan

PAGE = 50
LATEST = 20  # movements and changes that a product's page shows at once
FEW = 5  # fewer than that, and the shelf says how many are left
LONGEST_REASON = 150  # a movement has 200 characters, and a correction says from what to what
LARGEST_FILE = 1024 * 1024  # bytes
MOST_LINES = 5000

WORDS = ("title", "subtitle", "description", "category")
_FREE: Any = Product.on_hand - Product.held
VIEWS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "all": ("All", ()),
    "for-sale": ("For sale", (Product.active, _FREE > 0)),
    "low": ("Running low", (Product.active, _FREE > 0, _FREE < FEW)),
    "sold-out": ("Sold out", (Product.active, _FREE <= 0)),
    "archived": ("Archived", (Product.active.is_(False),)),
}
_CHANGES = (
    "added goods",
    "changed goods",
    "imported goods",
    "archived goods",
    "brought back goods",
)


class NotGoods(ShopError):
    """``problems`` says what is wrong with which field."""

    code = "not_goods"
    http_status = 422
    headline = "Nothing was saved"

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(" ".join(problems.values()))
        self.problems = problems


class Overtaken(Conflict):
    """Somebody else changed the product after this admin had read it."""

    code = "goods_overtaken"
    headline = "Somebody was faster"

    def __init__(self, last: Change | None) -> None:
        who = f"{last.actor} changed this product" if last else "This product was changed"
        why = f" (“{last.reason}”)" if last and last.reason else ""
        super().__init__(
            f"{who} while you had this page open{why}. Nothing of yours was saved. Below is what "
            "stands now: change it again, and save."
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a product; ``steps`` has (before, after) of each column, a price as
    ``price_eur`` in minor units."""

    at: datetime
    actor: str
    action: str
    reason: str
    steps: dict[str, tuple[Any, Any]]


# -- looking


def page(view: str, wanted: str = "", after: str | None = None) -> list[Product]:
    """Products by title, one more than fits on a page; ``after`` is the sku of the last one."""
    where = list(VIEWS.get(view, VIEWS["all"])[1])
    if wanted:
        where.append(_matches(wanted))
    name: Any = func.lower(Product.title)
    with reading() as session:
        if after:
            last = session.execute(select(name, Product.id).where(Product.sku == after)).first()
            if last:
                where.append(tuple_(name, Product.id) > tuple_(*last))
        found = select(Product).where(*where).order_by(name, Product.id).limit(PAGE + 1)
        return list(session.scalars(found))


def view_counts() -> dict[str, int]:
    """How many products each view has."""
    counts = [func.count().filter(*where) if where else func.count() for _, where in VIEWS.values()]
    with reading() as session:
        row = session.execute(select(*counts).select_from(Product)).one()
    return dict(zip(VIEWS, row, strict=True))


def find(sku: str) -> Product:
    """Raises NotFound."""
    with reading() as session:
        return _found(session.scalar(select(Product).where(Product.sku == sku)))


def version_of(product: Product) -> str:
    """Another one after every change of what is on the product's form."""
    told = json.dumps([*(getattr(product, name) for name in WORDS), product.prices], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def movements(product: Product, before: int | None = None) -> list[StockMovement]:
    """Newest first, one more than is shown at once; ``before`` is the id of the last one."""
    mine = select(StockMovement).where(StockMovement.product_id == product.id)
    if before is not None:
        mine = mine.where(StockMovement.id < before)
    with reading() as session:
        return list(session.scalars(mine.order_by(StockMovement.id.desc()).limit(LATEST + 1)))


def changes(product: Product) -> list[Change]:
    """The latest changes that are no movements, newest first."""
    with reading():
        return _changes(product.sku, LATEST)


# -- changing


def add(actor: str, fields: Mapping[str, str]) -> Product:
    """A new product with what it starts with. ``fields`` are as typed: sku, title, ``price_eur``,
    units … Raises NotGoods, with everything that is wrong."""
    columns, problems = _read(fields, CURRENCIES)
    sku = fields.get("sku", "")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", sku):
        problems["sku"] = "A sku has letters, digits, dots and dashes, 64 at most."
    units = whole(fields.get("units") or "0")
    if units is None or units > MOST_UNITS:
        problems["units"] = f"Units are a whole number from 0 to {MOST_UNITS:,}."
    if problems:
        raise NotGoods(problems)
    try:
        with atomic() as session:
            product = Product(
                **columns, sku=sku, slug=_free_slug(columns["title"], sku), on_hand=units
            )
            session.add(product)
            session.flush()
            session.add(
                StockMovement(
                    product_id=product.id,
                    kind="initial",
                    quantity=units,
                    reason="added",
                    actor=actor[:120],
                )
            )
            _note(actor, "added goods", sku, "", units=units)
    except IntegrityError as error:
        taken = f"There is a product {sku} already: open it, or choose another sku."
        raise NotGoods({"sku": taken}) from error
    return product


@retrying
def change(actor: str, sku: str, fields: Mapping[str, str], *, reason: str, seen: str) -> bool:
    """Change what the form names; ``seen`` is the ``version_of`` what the actor saw.

    Says whether anything was different. Raises NotFound, NotGoods, and Overtaken if it has changed
    meanwhile; then nothing was changed.
    """
    with atomic() as session:
        # Locked, so that of two at once the second sees what the first has made of it.
        mine = select(Product).where(Product.sku == sku).with_for_update(key_share=True)
        product = _found(session.scalar(mine))
        if seen != version_of(product):
            raise Overtaken(next(iter(_changes(sku, 1)), None))
        wanted, problems = _read(fields, currencies_of(product))
        _raise_if(problems | _no_reason(reason))
        old = _flat({name: getattr(product, name) for name in wanted})
        new = _flat(wanted)
        steps = {name: (old.get(name), new.get(name)) for name in {**old, **new}}
        steps = {name: (was, is_) for name, (was, is_) in steps.items() if was != is_}
        for name, value in wanted.items():
            setattr(product, name, value)
        if steps:
            _note(actor, "changed goods", sku, reason, steps=steps)
    return bool(steps)


@retrying
def put_on_sale(actor: str, sku: str, active: bool, *, reason: str) -> bool:
    """Bring a product back, or archive it. A checkout that is under way ends as it would have.

    Says whether anything was different. Raises NotFound, NotGoods.
    """
    _raise_if(_no_reason(reason))
    with atomic() as session:
        mine = select(Product).where(Product.sku == sku).with_for_update(key_share=True)
        product = _found(session.scalar(mine))
        if product.active == active:
            return False
        product.active = active
        _note(actor, "brought back goods" if active else "archived goods", sku, reason)
    return True


@retrying
def receive(actor: str, sku: str, units: str, *, reason: str, came: int) -> int:
    """So many came in; ``came`` is on_hand + sold as the actor saw it, so that a second press
    books nothing. Returns the units. Raises NotFound, NotGoods, StockMoved."""
    number = whole(units)
    problems = _no_reason(reason)
    if number is None or not 1 <= number <= MOST_UNITS:
        problems["units"] = f"Type how many came in: a whole number from 1 to {MOST_UNITS:,}."
    _raise_if(problems)
    assert number is not None
    with atomic() as session:
        product_id = _found(session.scalar(select(Product.id).where(Product.sku == sku)))
        _note(actor, "received stock", sku, reason, units=number)
        stock.receive(product_id, number, came=came, reason=reason, actor=actor)
    return number


@retrying
def correct(actor: str, sku: str, to: str, *, reason: str, on_hand: int) -> bool:
    """There are ``to`` on hand; ``on_hand`` is how many the actor saw here.

    Says whether that is different. Raises NotFound, NotGoods, StockMoved, BelowHeld.
    """
    number = whole(to)
    problems = _no_reason(reason)
    if number is None or number > MOST_UNITS:
        problems["on_hand"] = f"Type how many you counted: a whole number to {MOST_UNITS:,}."
    _raise_if(problems)
    assert number is not None
    if number == on_hand:
        return False
    with atomic() as session:
        product_id = _found(session.scalar(select(Product.id).where(Product.sku == sku)))
        _note(actor, "corrected stock", sku, reason, steps={"on_hand": (on_hand, number)})
        why = f"corrected from {on_hand:,} to {number:,}: {reason}"
        stock.correct(product_id, number, on_hand=on_hand, reason=why, actor=actor)
    return True


# -- files


def plan_file(content: bytes) -> Plan:
    """Say what ``import_file`` would do, and do nothing. Raises BadFile."""
    return _within_limits(goods_file.plan(_text(content)))


@retrying
def import_file(actor: str, content: bytes, *, seen: str, name: str = "") -> Imported:
    """Do what the plan with the token ``seen`` says, all of it or nothing. Raises BadFile, and
    PlanOvertaken if the file would do something else by now."""
    text = _text(content)
    _within_limits(goods_file.plan(text))
    reason = f"imported from {name}" if name else "imported"
    try:
        return goods_file.read(text, seen=seen, actor=actor, reason=reason[:LONGEST_REASON])
    except IntegrityError as error:  # somebody added one of these between our look and our writing
        raise goods_file.PlanOvertaken from error


def _text(content: bytes) -> str:
    if len(content) > LARGEST_FILE:
        raise BadFile([f"the file is larger than {LARGEST_FILE // 1024:,} KiB: split it"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadFile([f"line {line}: this is not UTF-8; save it as CSV UTF-8"]) from error


def _within_limits(plan: Plan) -> Plan:
    if plan.lines > MOST_LINES:
        raise BadFile([f"the file has {plan.lines:,} lines, and {MOST_LINES:,} are the most"])
    return plan


# -- words and numbers


def whole(text: str) -> int | None:
    """A whole number as people write it, also ``1,200``; None if it is none."""
    digits = text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", text) else text
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 9 else None


def currencies_of(product: Product) -> list[str]:
    """The shop's, and what this product was given a price in besides."""
    return [*CURRENCIES, *sorted(set(product.prices) - set(CURRENCIES))]


def _read(
    fields: Mapping[str, str], currencies: list[str] | tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The columns that were typed, and what is wrong with which field."""
    columns: dict[str, Any] = {name: fields.get(name, "") for name in WORDS}
    problems = {
        name: f"{name.capitalize()}: {most:,} characters at most."
        for name, most in TEXTS.items()
        if len(columns.get(name, "")) > most
    }
    if not columns["title"]:
        problems["title"] = "Give it a title."
    columns["prices"] = prices = {}
    for currency in currencies:
        text = fields.get(f"price_{currency}", "")
        amount = amount_of(text, currency) if text else None
        if amount is not None and amount <= LARGEST_AMOUNT:
            prices[currency] = amount
        elif text:
            example = plain(1850, currency)
            problems[f"price_{currency}"] = f"Type the price in {currency.upper()} like {example}."
    if not prices and not problems:
        problems[f"price_{currencies[0]}"] = "Give it a price in one currency at least."
    return columns, problems


def _flat(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the form, one price a name."""
    prices = {f"price_{currency}": amount for currency, amount in columns["prices"].items()}
    return {**{name: columns[name] for name in WORDS}, **prices}


def _no_reason(reason: str) -> dict[str, str]:
    if not reason:
        return {"reason": "Say why: whoever reads the history will want to know."}
    if len(reason) > LONGEST_REASON:
        return {"reason": f"Say why in at most {LONGEST_REASON} characters."}
    return {}


def _raise_if(problems: dict[str, str]) -> None:
    if problems:
        raise NotGoods(problems)


def _free_slug(title: str, sku: str) -> str:
    """The address of a new product: its title, and its sku where that is taken or says nothing."""
    plain_title, plain_sku = (
        re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") for text in (title[:60], sku)
    )
    taken = select(Product.id).where(Product.slug == plain_title)
    if plain_title and db.session.scalar(taken) is None:
        return plain_title
    return f"{plain_title}-{plain_sku}".strip("-")[-80:].strip("-")


# -- the database


def _matches(wanted: str) -> ColumnElement[bool]:
    like = "%" + wanted.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    columns = (Product.title, Product.sku, Product.subtitle, Product.category)
    return or_(*(column.ilike(like, escape="\\") for column in columns))


def _found(what: Any) -> Any:
    if what is None:
        raise NotFound("There is no such product. It may have another sku.")
    return what


def _note(actor: str, action: str, sku: str, reason: str, **told: Any) -> None:
    detail = json.dumps({"reason": reason, **told}, ensure_ascii=False)
    db.session.add(AuditEntry(actor=actor, action=action, subject=f"product:{sku}", detail=detail))


def _changes(sku: str, limit: int) -> list[Change]:
    mine = select(AuditEntry).where(
        AuditEntry.subject == f"product:{sku}", AuditEntry.action.in_(_CHANGES)
    )
    found = db.session.scalars(mine.order_by(AuditEntry.id.desc()).limit(limit))
    return [_change(entry) for entry in found]


def _change(entry: AuditEntry) -> Change:
    told = json.loads(entry.detail)
    steps = {name: (old, new) for name, (old, new) in told.get("steps", {}).items()}
    return Change(entry.at, entry.actor, entry.action, told.get("reason", ""), steps)
