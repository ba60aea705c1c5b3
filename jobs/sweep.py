"""What the clock rings for, should a doorbell have been lost."""

from __future__ import annotations

from services import foreign_goods, reconcile


def sweep() -> None:
    reconcile.sweep()


def sync() -> None:
    reconcile.by_clock()


def goods() -> None:
    foreign_goods.by_clock()
