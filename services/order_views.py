"""Views of the list of orders that people of the shop have kept: a name for an address of the list.

They are everybody's, in one row of the ``settings`` table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import select

from domain.errors import ShopError
from extensions import atomic, retrying
from models import AuditEntry, Setting
from services import leases
from services.order_list import VIEWS, Wanted

ROW = "order_views"
LONGEST_NAME = 30
MOST = 12  # a row of tabs that nobody reads to its end helps nobody


@dataclass(frozen=True, slots=True)
class View:
    """``wanted`` is what it shows; two views may show the same, but not have the same name."""

    name: str
    wanted: Wanted

    @property
    def said(self) -> str:
        """All that people typed into it, in lower case."""
        return f"{self.name} {self.wanted.q}".lower()


class NotAView(ShopError):
    code = "not_a_view"
    http_status = 422
    headline = "The view was not kept"


def kept() -> list[View]:
    """All of them, oldest first."""
    return _read(leases.read(ROW))


@retrying
def keep(name: str, wanted: Wanted, actor: str) -> None:
    """Keep what the list shows under a name; the same name again means something else from now on.
    Raises NotAView."""
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise NotAView(f"Give it a name of 1 to {LONGEST_NAME} characters.")
    if name.casefold() in {label.casefold() for label, _ in VIEWS.values()}:
        raise NotAView(f"“{name}” is one of the shop’s own views. Give yours another name.")
    if not wanted.filters and not wanted.q:
        raise NotAView("Filter or search first: as it is, it shows what a view of the shop does.")
    with atomic() as session:
        session.scalar(select(Setting).where(Setting.name == ROW).with_for_update())
        others = [view for view in _present() if view.name.casefold() != name.casefold()]
        if len(others) >= MOST:
            raise NotAView(f"There are {MOST} already. Remove one that nobody uses.")
        _write([*others, View(name, wanted)])
        session.add(AuditEntry(actor=actor, action="kept a view", subject="view", detail=name))


@retrying
def remove(name: str, actor: str) -> None:
    """Forget a view; one that is gone already is no mistake."""
    with atomic() as session:
        session.scalar(select(Setting).where(Setting.name == ROW).with_for_update())
        before = _present()
        after = [view for view in before if view.name != name]
        if after != before:
            _write(after)
            session.add(
                AuditEntry(actor=actor, action="removed a view", subject="view", detail=name)
            )


def forget(words: set[str]) -> None:
    """Drop the views that say one of these words (lower case), in the caller's transaction: who is
    searched for by name stands in them."""
    before = _present()
    after = [view for view in before if not any(word in view.said for word in words)]
    if after != before:
        _write(after)


def _present() -> list[View]:
    return _read(leases.read(ROW))


def _write(views: list[View]) -> None:
    leases.put(ROW, [{"name": view.name, "wanted": asdict(view.wanted)} for view in views])


def _read(stored: object) -> list[View]:
    """What an older release has kept and nobody knows any more is read as if it were not there."""
    rows = stored if isinstance(stored, list) else []
    return [View(row["name"], Wanted.read(row["wanted"])) for row in rows]
