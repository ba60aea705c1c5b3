"""Pages and addresses. Thin: read the request, call one service, render one template."""

from __future__ import annotations

from flask import Flask

from blueprints import (
    admin_settings,
    api,
    cart,
    checkout,
    dev,
    live,
    openapi,
    ops,
    orders,
    storefront,
    web,
    webhooks,
)


def register(app: Flask) -> None:
    """Hang every page into the app; ``/dev/…`` only where nothing is real."""
    counter = admin_settings  # the admin's blueprint, with the settings page in it
    for module in (storefront, cart, checkout, orders, webhooks, api, openapi, live, counter, ops):
        app.register_blueprint(module.bp)
    if app.extensions["settings"].embedded:
        app.register_blueprint(dev.bp)
    web.dress(app)
