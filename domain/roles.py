"""Who may do what at the counter: four roles, each of which may all that the one before it may."""

from __future__ import annotations

VIEWER, PACKER, REFUNDS, ADMIN = "viewer", "packer", "refunds", "admin"

ROLES = {
    VIEWER: "Looks at orders, exceptions, webhooks and health. Changes nothing.",
    PACKER: "Also packs, ships and marks as delivered.",
    REFUNDS: "Also gives money back and sees to exceptions.",
    ADMIN: "Also syncs, sees to jobs, and changes settings and people.",
}
NOBODY = "shopper"  # everybody else, and who was a colleague once

# Who moves money or decides about people is asked for a second factor.
ASKED_FOR_SECOND_FACTOR = frozenset((REFUNDS, ADMIN))

_LADDER = tuple(ROLES)


def is_enough(role: str, needed: str | None) -> bool:
    """Whether ``role`` may do what ``needed`` is needed for; nobody may do what has no rule."""
    if role not in ROLES or needed not in ROLES:
        return False
    return _LADDER.index(role) >= _LADDER.index(needed)
