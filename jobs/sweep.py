"""What the clock rings for, should a doorbell have been lost."""

from __future__ import annotations

from services import reconcile


def sweep() -> None:
    reconcile.sweep()


def sync() -> None:
    reconcile.by_clock()
