"""Stripe's own shapes: which parameters each call takes, what each object and event looks like."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

API_VERSION = "2026-10-28.endive"


@cache
def load() -> dict[str, Any]:
    """Return the contract: ``requests`` by endpoint, ``events`` by type, ``$defs`` by name."""
    here = Path(__file__)
    contract: dict[str, Any] = json.loads(here.with_name("stripe-contract.json").read_text())
    tax = json.loads(here.with_name("tax-contract.json").read_text())
    for part in ("$defs", "requests"):
        contract[part] |= tax[part]
    return contract
