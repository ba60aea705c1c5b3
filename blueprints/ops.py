"""For load balancers and people with pagers."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from services import health

bp = Blueprint("ops", __name__)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """This process answers."""
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Everything a shop needs, each named; 503 when one is dead."""
    parts = health.parts()
    ready = all(part["ok"] for part in parts.values())
    return jsonify(status="ok" if ready else "not ready", parts=parts), 200 if ready else 503
