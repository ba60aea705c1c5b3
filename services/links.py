"""Signed links to an order, for guests: order id and link version, revocable by raising it."""

from __future__ import annotations

from flask import current_app
from itsdangerous import BadSignature, URLSafeSerializer

from models import Order

SALT = "order-link"


def token(order: Order) -> str:
    """A token that opens this order until its ``link_version`` is raised."""
    return _serializers()[0].dumps([order.id, order.link_version])


def opens(value: str | None, order: Order) -> bool:
    """Whether a token opens this very order now; signed with any of our keys (rotation)."""
    if not value or len(value) > 300:
        return False
    for serializer in _serializers():
        try:
            return bool(serializer.loads(value) == [order.id, order.link_version])
        except BadSignature:
            continue
    return False


def path(order: Order) -> str:
    """The order's page for whoever has this link."""
    return f"/orders/{order.id}?token={token(order)}"


def _serializers() -> list[URLSafeSerializer]:
    keys = current_app.extensions["settings"].secret_keys
    return [URLSafeSerializer(key, salt=SALT) for key in keys]
