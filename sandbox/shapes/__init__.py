"""The full shape of each object, with every field that Stripe always sends.

Each function returns a new object as it is when it is born; what happens later changes fields.
"""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]

ADDRESS_FIELDS = ("city", "country", "line1", "line2", "postal_code", "state")


def address(given: Shape | None) -> Shape | None:
    """Fill an address up to all its fields, or keep it absent."""
    return None if given is None else {field: given.get(field) for field in ADDRESS_FIELDS}


def shipping(given: Shape | None) -> Shape | None:
    if given is None:
        return None
    extras = {k: given.get(k) for k in ("carrier", "phone", "tracking_number")}
    return {"address": address(given.get("address", {})), "name": given.get("name"), **extras}
