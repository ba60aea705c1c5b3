"""What is for sale: look-ups for the storefront, the demo's goods, and how a catalogue that is kept
elsewhere says what it has (``services.foreign_goods`` takes it over)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import func, or_, select

from domain.errors import NotFound, UnknownProduct
from domain.words import Words
from extensions import atomic, db, reading
from models import Product, StockMovement
from services import language

PAGE = 12
CURRENCIES = ("eur", "usd", "jpy")
SORTS = {
    "name": (Product.title.asc(), Product.id.asc()),
    "new": (Product.id.desc(),),
}


@dataclass(frozen=True, slots=True)
class Good:
    """Something for sale, as another catalogue describes it. ``prices`` are minor units by
    currency; ``units`` is what the shop starts with when it sees the sku for the first time, and
    nothing later; ``slug`` is its address, made from the title if left out. What is bought again
    and again has an ``interval`` (day, week, month, year)."""

    sku: str
    title: str
    prices: Mapping[str, int]
    units: int = 0
    slug: str = ""
    subtitle: str = ""
    description: str = ""
    category: str = ""
    picture: str = ""  # the name of a drawing in static/products
    interval: str = ""
    interval_count: int = 1
    trial_days: int = 0


class Catalogue(Protocol):
    """A catalogue that is kept elsewhere; ``CATALOGUE=module:Class`` names it, and one is made
    without arguments when the shop starts."""

    def goods(self) -> Iterable[Good]:
        """All that is for sale now. Raise if it cannot be read to the end: what is not in it is
        taken off the shelf. Called by a worker, outside any transaction; give what you ask a
        timeout."""
        ...


def by_slug(slug: str) -> Product:
    """Raises NotFound; an archived product keeps its page, so that old links explain themselves."""
    with reading() as session:
        product = session.scalar(select(Product).where(Product.slug == slug))
    if product is None:
        raise NotFound(Words("There is no such product in this shop."))
    return product


def by_sku(sku: str) -> Product:
    """Raises UnknownProduct."""
    with reading() as session:
        product = session.scalar(select(Product).where(Product.sku == sku))
    if product is None:
        raise UnknownProduct(sku)
    return product


def search(
    *, query: str = "", category: str = "", sort: str = "name", currency: str, offset: int = 0
) -> tuple[list[Product], int]:
    """A page of products for sale in ``currency`` and how many there are in all."""
    price = Product.prices[currency].as_integer()
    orders: dict[str, Any] = {**SORTS, "price": (price.asc(),), "-price": (price.desc(),)}
    where = [Product.active, price.is_not(None)]
    if category:
        where.append(Product.category == category)
    if query:
        like, meant = f"%{_escaped(query)}%", language.meant(query)
        read = (Product.title, Product.subtitle)
        where.append(
            or_(
                *(column.ilike(like, escape="\\") for column in read),
                *(column.in_(meant) for column in read),
            )
        )
    with reading() as session:
        found = session.scalars(
            select(Product)
            .where(*where)
            .order_by(*orders.get(sort, SORTS["name"]), Product.id)
            .offset(offset)
            .limit(PAGE)
        ).all()
        count = session.scalar(select(func.count()).select_from(Product).where(*where)) or 0
    return list(found), count


def categories() -> list[str]:
    with reading() as session:
        return list(
            session.scalars(
                select(Product.category)
                .where(Product.active, Product.category != "")
                .distinct()
                .order_by(Product.category)
            )
        )


def stock_up(goods: Iterable[dict[str, Any]]) -> int:
    """Add products that are not there yet; each dict has a Product's columns and ``units``.

    Safe to repeat: a sku that exists is left as it is. Returns how many were new.
    """
    with atomic() as session:
        present = set(session.scalars(select(Product.sku)))
        new = [dict(good) for good in goods if good["sku"] not in present]
        units = {good["sku"]: good.pop("units") for good in new}
        products = [Product(**good, on_hand=units[good["sku"]]) for good in new]
        session.add_all(products)
        session.flush()
        session.add_all(
            StockMovement(product_id=product.id, kind="initial", quantity=product.on_hand)
            for product in products
        )
    return len(new)


def is_empty() -> bool:
    with reading():
        return db.session.scalar(select(Product.id).limit(1)) is None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
