"""The only door to Stripe. Nothing outside this package imports its SDK."""

from __future__ import annotations

from flask import current_app

from gateway.client import StripeGateway

__all__ = ["StripeGateway", "current_gateway"]


def current_gateway() -> StripeGateway:
    """The gateway of the running app."""
    gateway: StripeGateway = current_app.extensions["stripe_gateway"]
    return gateway
