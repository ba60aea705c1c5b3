"""What a checkout sends, as a program writes it."""

from __future__ import annotations

from typing import Any

from tests.shop import ADDRESS

CONTACT = {"name": ADDRESS["name"], "email": ADDRESS["email"]}
SHIPPING = {"line1": "Sonnenallee 12", "city": "Berlin", "postalCode": "12047", "country": "DE"}


def a_body(**changes: Any) -> dict[str, Any]:
    """The body of a create-checkout-session call; None takes a part out."""
    body = {"contact": CONTACT, "shipping": SHIPPING, **changes}
    return {name: value for name, value in body.items() if value is not None}
