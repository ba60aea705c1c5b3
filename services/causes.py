"""Why something happened: written into the history of an order beside every change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """``lane`` is who brought the news; ``actor`` a person; ``event_id`` Stripe's evt_…"""

    lane: str
    actor: str = ""
    event_id: str | None = None


CHECKOUT = Cause("checkout")
LANDING = Cause("landing")
SYNC = Cause("sync")
EXPIRY = Cause("expiry")
SHOPPER = Cause("shopper")
