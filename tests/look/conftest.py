"""The real shop's pages; one database is enough for how things look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import render_template

from services import orders, status_page
from tests.shop import Shop


@pytest.fixture
def status_of(sqlite_shop: Shop) -> Callable[..., str]:
    """The waiting fragment of a fresh order, with parts of its view replaced."""
    checkout = sqlite_shop.shopper().buy()
    case = orders.dossier(checkout.order_id)
    assert case is not None

    def shown(*, mine: bool = True, flags: dict[str, Any] | None = None, **changes: Any) -> str:
        view = replace(status_page.describe(case, mine=mine), **changes)
        with sqlite_shop.app.test_request_context():
            return render_template("orders/_status.html", view=view, **(flags or {}))

    return shown
