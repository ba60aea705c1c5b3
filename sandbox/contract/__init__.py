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
    contract: dict[str, Any] = json.loads(
        Path(__file__).with_name("stripe-contract.json").read_text()
    )
    return contract
