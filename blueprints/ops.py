"""For load balancers and people with pagers."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from services import alerts, health

bp = Blueprint("ops", __name__)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """This process answers."""
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Everything a shop needs, each named; 503 when one is dead. An alert makes nothing unready,
    and is only named here: who and why is for admins."""
    parts = health.parts()
    ready = all(part["ok"] for part in parts.values())
    answer = {
        "status": "ok" if ready else "not ready",
        "parts": parts,
        "alerts": [{"code": one.code, "headline": one.headline} for one in alerts.standing()],
    }
    return jsonify(answer), 200 if ready else 503
