"""Ways to get a parcel, with their prices; a shop edits this table."""

from __future__ import annotations

from dataclasses import dataclass

from domain.words import Words


@dataclass(frozen=True, slots=True)
class Delivery:
    """``prices`` in minor units per currency."""

    code: str
    label: Words
    detail: Words
    prices: dict[str, int]
    days: tuple[int, int] | None = None  # working days that it takes, at least and at most


DELIVERIES = {
    delivery.code: delivery
    for delivery in (
        Delivery(
            "standard",
            Words("Parcel, 2–4 working days"),
            Words("To your door, with a tracking link."),
            {"eur": 490, "usd": 590, "jpy": 800},
            days=(2, 4),
        ),
        Delivery(
            "express",
            Words("Express, next working day"),
            Words("Ordered before 15:00, with you tomorrow."),
            {"eur": 1290, "usd": 1490, "jpy": 2200},
            days=(1, 1),
        ),
        Delivery(
            "pickup",
            Words("Collect in the shop"),
            Words("We write to you when it is ready."),
            {"eur": 0, "usd": 0, "jpy": 0},
        ),
    )
}
DEFAULT = "standard"
