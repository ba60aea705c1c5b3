"""Which call goes where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ApiError
from . import (
    catalogue,
    charges,
    checkout,
    customers,
    discounts,
    intents,
    invoices,
    news,
    payment_methods,
    refunds,
    setup_intents,
    subscriptions,
    taxes,
)

Handler = Callable[..., Any]

TABLE: dict[str, Handler] = {
    **checkout.ROUTES,
    **intents.ROUTES,
    **setup_intents.ROUTES,
    **payment_methods.ROUTES,
    **subscriptions.ROUTES,
    **invoices.ROUTES,
    **charges.ROUTES,
    **refunds.ROUTES,
    **customers.ROUTES,
    **catalogue.ROUTES,
    **discounts.ROUTES,
    **taxes.ROUTES,
    **news.ROUTES,
}


@dataclass(frozen=True)
class Route:
    endpoint: str  # as the contract names it
    handler: Handler
    ids: tuple[str, ...]


def _index() -> dict[tuple[str, int], list[tuple[str, list[str], Handler]]]:
    index: dict[tuple[str, int], list[tuple[str, list[str], Handler]]] = {}
    for endpoint, handler in TABLE.items():
        method, path = endpoint.split(" ")
        parts = path.split("/")
        index.setdefault((method, len(parts)), []).append((endpoint, parts, handler))
    return index


_INDEX = _index()


def find(method: str, path: str) -> Route:
    """Raises ApiError 404 for an address nobody lives at."""
    given = path.split("/")
    for endpoint, parts, handler in _INDEX.get((method, len(given)), ()):
        ids = []
        for want, have in zip(parts, given, strict=True):
            if want == "{id}" and have:
                ids.append(have)
            elif want != have:
                break
        else:
            return Route(endpoint, handler, tuple(ids))
    raise ApiError(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we "
        "can help at https://support.stripe.com/.",
        status=404,
        begun=False,
    )
