"""Server-Sent Events: a waiting page hears that it should look again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

import structlog
from flask import Blueprint, Response, current_app, stream_with_context
from flask.blueprints import BlueprintSetupState
from sqlalchemy.exc import SQLAlchemyError

from blueprints import web
from domain.clock import now
from extensions import limiter
from services import live, orders, settings, status_page

log = structlog.get_logger()

bp = Blueprint("live", __name__, url_prefix="/api")

COME_BACK_S = 1  # when a stream has ended, or broken off
SURPLUS_COMES_BACK_S = 3  # at the soonest: each time it costs a look and a request for the page


@bp.record_once
def _open(state: BlueprintSetupState) -> None:
    extensions = state.app.extensions
    extensions["streams"] = live.Streams(extensions["settings"].web_threads)


@bp.get("/orders/<order_or_intent>/sync-status")
@limiter.limit("120 per minute")
def sync_status(order_or_intent: str) -> Response:
    """Rings at once and at every change, until the order is decided or a minute is over.

    One stream too many is told once and sent away for a while, so that it asks now and then.
    """
    case = web.owned(orders.id_of(order_or_intent))
    rings = stream_with_context(_rings(case.attempt.id, case.attempt.shopper_id))
    answer = Response(rings, mimetype="text/event-stream")
    answer.headers["X-Accel-Buffering"] = "no"  # nginx would collect the lines before it sends
    return answer


def _rings(order_id: str, shopper_id: str) -> Iterator[str]:
    """The place is taken when the first line is wanted, so that whoever never reads holds none."""
    streams: live.Streams = current_app.extensions["streams"]
    since = web.waiting_since()
    with streams.place_for(shopper_id) as has_place:
        back_s = COME_BACK_S if has_place else _surplus_pause_s(since)

        def may_stay() -> bool:
            is_wanted = since is None or settings.current().live_updates == "sse"
            return has_place and is_wanted and not streams.is_closing()

        try:
            for case in live.watch(order_id, _still_theirs, may_stay=may_stay, since=since):
                yield _changed(case, back_s) if case else ": still here\n\n"
        except SQLAlchemyError as error:  # who listens comes back, and is told then
            log.error("live.database_unreachable", error=type(error).__name__)


def _still_theirs(order_id: str) -> orders.Dossier | None:
    case = orders.dossier(order_id)
    return case if case and web.may_see(case) else None


def _changed(case: orders.Dossier, back_s: float) -> str:
    told = json.dumps({"syncStatus": orders.sync_status(case)}, separators=(",", ":"))
    return f"event: changed\ndata: {told}\nretry: {round(back_s * 1000)}\n\n"


def _surplus_pause_s(since: datetime | None) -> float:
    """As patient as a page that polls."""
    waited = (now() - since).total_seconds() if since else 0
    return max(SURPLUS_COMES_BACK_S, status_page.pause_s(waited))
