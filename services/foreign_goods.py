"""Take over what a catalogue lists that is kept elsewhere (``CATALOGUE``).

The shop sells from its own ``products``: whoever fills a basket or pays meets no other system.
Words, prices and whether a good is for sale follow the catalogue; stock is the shop's alone.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from flask import current_app
from sqlalchemy import select

from domain.errors import NotFound, ShopError
from domain.money import plain
from extensions import HungJob, atomic, db, reading, retrying
from models import AuditEntry, Product
from services import goods, goods_file
from services.catalogue import Catalogue, Good
from services.cells import guarded

log = structlog.get_logger()

ACTOR = "catalogue"  # in the audit log
EVERY_S = 300  # a price of an hour ago is a price the shopper was shown; of a day ago, an argument
_SHELVED = ("archived goods", "brought back goods")


class NothingListed(ShopError):
    """An empty answer is an outage oftener than an empty shop."""

    code = "nothing_listed"
    headline = "The catalogue lists nothing"


@dataclass(frozen=True, slots=True)
class Synced:
    new: int = 0
    changed: int = 0
    archived: int = 0
    brought_back: int = 0


def by_clock() -> Synced:
    """One round that says what failed instead of raising; the next one comes in five minutes."""
    try:
        return sync()
    except HungJob:
        raise
    except Exception:  # code of the adopter's, and the outages of whatever it asks
        log.exception("goods.sync_failed")
        return Synced()


def sync() -> Synced:
    """Bring the shelf in line with the catalogue; safe to repeat, and all of it or nothing until
    what is gone is archived. Raises NotFound if none is set, NothingListed, BadFile with
    everything that is wrong with what it lists, and whatever the catalogue raises."""
    catalogue: Catalogue | None = current_app.extensions["catalogue"]
    if catalogue is None:
        raise NotFound("No catalogue is set: CATALOGUE names one.")
    return take(catalogue.goods())


def take(listed: Iterable[Good]) -> Synced:
    """Make these the goods that are for sale. Raises as ``sync``."""
    wanted = list(listed)
    if not wanted:
        raise NothingListed("Nothing was changed; the goods on the shelf stay for sale.")
    written, dropped = _written(wanted), _drop_prices(wanted)
    archived, back = _shelve({good.sku for good in wanted})
    synced = Synced(written.new, written.changed + dropped, archived, back)
    if synced != Synced():
        log.info("goods.synced", new=synced.new, changed=synced.changed, archived=archived)
    return synced


def _written(wanted: list[Good]) -> goods_file.Imported:
    """Through the same door as a file that an admin imports: same rules, same locks, same log."""
    currencies = sorted({currency for good in wanted for currency in good.prices})
    columns = ("sku", "slug", *goods_file.TEXTS, *goods_file.PLAN, "units")
    lines = [_line((*columns, *(f"price_{currency}" for currency in currencies)))]
    slugs = _addresses(wanted)
    for good in wanted:
        words = (getattr(good, name) for name in goods_file.TEXTS)
        # What is bought once has no number of intervals.
        plan = (good.interval, good.interval_count, good.trial_days) if good.interval else ("",) * 3
        prices = (plain(good.prices[c], c) if c in good.prices else "" for c in currencies)
        lines.append(_line((good.sku, slugs[good.sku], *words, *plan, good.units, *prices)))
    try:
        return goods_file.read("".join(lines), actor=ACTOR, reason="listed so")
    except goods_file.BadFile as bad:
        raise goods_file.BadFile(_by_sku(bad.problems, lines, wanted)) from bad


def _line(cells: Iterable[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([guarded(str(cell)) for cell in cells])
    return out.getvalue()


def _addresses(wanted: list[Good]) -> dict[str, str]:
    """The slug of each: its own, the one it has here already, or one made from its title."""
    with reading() as session:
        here = {sku: slug for slug, sku in session.execute(select(Product.slug, Product.sku))}
    taken = {*here.values(), *(good.slug for good in wanted)}
    found = {}
    for good in wanted:
        made = _slug(good.title)
        if made in taken:
            made = _slug(f"{made} {good.sku}")
        found[good.sku] = good.slug or here.get(good.sku) or made
        taken.add(found[good.sku])
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[-80:].strip("-")


def _by_sku(problems: list[str], lines: list[str], wanted: list[Good]) -> list[str]:
    """What is wrong, said of a sku: nobody has seen the lines."""
    ends, at = {}, lines[0].count("\n")
    for line, good in zip(lines[1:], wanted, strict=True):
        at += line.count("\n")
        ends[str(at)] = good.sku
    return [
        re.sub(r"^line (\d+)", lambda found: ends.get(found[1], found[0]), problem)
        for problem in problems
    ]


@retrying
def _drop_prices(wanted: list[Good]) -> int:
    """A file leaves a price alone that it does not name; here it is no longer sold for that."""
    listed = {good.sku: set(good.prices) for good in wanted}
    with reading() as session:
        found = session.execute(select(Product.id, Product.sku, Product.prices)).all()
    more = [row.id for row in found if set(row.prices) - listed.get(row.sku, set(row.prices))]
    if not more:
        return 0
    with atomic() as session:
        mine = select(Product).where(Product.id.in_(more)).order_by(Product.id)
        for product in session.scalars(mine.with_for_update(key_share=True)):
            kept = listed[product.sku]
            product.prices = {c: amount for c, amount in product.prices.items() if c in kept}
    return len(more)


def _shelve(listed: set[str]) -> tuple[int, int]:
    """Archive what is no longer listed, and bring back what is again. What a person here has
    archived stays so until a person brings it back: that is how one stops a sale at once."""
    with reading() as session:
        found = session.execute(select(Product.sku, Product.active).order_by(Product.id)).all()
    gone = [sku for sku, active in found if active and sku not in listed]
    back = [sku for sku, active in found if not active and sku in listed and _archived_by_us(sku)]
    for sku in gone:
        goods.put_on_sale(ACTOR, sku, False, reason="no longer listed")
    for sku in back:
        goods.put_on_sale(ACTOR, sku, True, reason="listed again")
    return len(gone), len(back)


def _archived_by_us(sku: str) -> bool:
    last = (
        select(AuditEntry.actor)
        .where(AuditEntry.subject == f"product:{sku}", AuditEntry.action.in_(_SHELVED))
        .order_by(AuditEntry.id.desc())
        .limit(1)
    )
    with reading():
        return db.session.scalar(last) == ACTOR
