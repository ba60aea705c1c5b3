"""Pages and addresses. Thin: read the request, call one service, render one template."""

from __future__ import annotations

from flask import Flask

from blueprints import (
    admin_account,
    admin_exceptions,
    admin_health,
    admin_jobs,
    admin_order,
    admin_order_page,
    admin_orders,
    admin_people,
    admin_products,
    admin_settings,
    admin_targets,
    admin_webhooks,
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

# One blueprint in many files.
COUNTER = (
    admin_account,
    admin_exceptions,
    admin_health,
    admin_jobs,
    admin_order,
    admin_order_page,
    admin_orders,
    admin_people,
    admin_products,
    admin_settings,
    admin_targets,
    admin_webhooks,
)


def register(app: Flask) -> None:
    """Hang every page into the app; ``/dev/…`` only where nothing is real."""
    pages = (storefront, cart, checkout, orders, webhooks, api, openapi, live, COUNTER[0], ops)
    for module in pages:
        app.register_blueprint(module.bp)
    if app.extensions["settings"].embedded:
        app.register_blueprint(dev.bp)
    web.dress(app)
