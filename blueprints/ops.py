"""For load balancers and people with pagers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue

from extensions import limiter
from services import alerts, exposition, health

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


@bp.get("/metrics")
@limiter.limit("60 per minute")  # a scrape costs some queries, and anybody may ask
def metrics() -> ResponseReturnValue:
    """The figures for Prometheus; they name nobody. 503 while the database does not answer."""
    return Response(exposition.text(), content_type=exposition.CONTENT_TYPE)
