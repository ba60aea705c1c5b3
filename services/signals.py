"""What happens to orders, told inside this process after the commit that made it true.

A handler is called as ``handler(app, order_id=…, version=…, subject=…)``; take ``**more`` too, so
that a later release can say more. ``version`` is the order's at that moment, ``subject`` what it
is about beside the order. It runs in the process that committed (web, worker or clock), with a
database session of its own. It is best effort: a process that dies between the commit and the call
tells nobody, and a handler that raises is logged and not called again. What must not be lost goes
over the signed webhooks of the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from blinker import NamedSignal, Namespace
from flask import Flask, current_app
from sqlalchemy import select

from extensions import HungJob, after_commit, reading
from models import Order

log = structlog.get_logger()

_names = Namespace()
order_confirmed = _names.signal("order.confirmed")
order_shipped = _names.signal("order.shipped")
order_refunded = _names.signal("order.refunded")
order_cancelled = _names.signal("order.cancelled")
subscription_renewed = _names.signal("subscription.renewed")
subscription_ended = _names.signal("subscription.ended")


def send_after_commit(signal: NamedSignal, order_id: str, subject: str) -> None:
    """Call the signal's handlers once the open ``atomic()`` has committed."""
    if signal.receivers:
        app: Any = current_app
        told = {"order_id": order_id, "subject": subject}
        after_commit(partial(_send, app._get_current_object(), signal, told))


def _send(app: Flask, signal: NamedSignal, told: dict[str, str]) -> None:
    for handler in signal.receivers_for(app):
        try:
            _call(app, handler, told)
        except HungJob:
            raise
        except Exception:
            log.exception("signal.handler_failed", signal=signal.name, order=told["order_id"])


def _call(app: Flask, handler: Callable[..., Any], told: dict[str, str]) -> None:
    """In a context of its own, and so with a session of its own: whatever it leaves open or broken
    there is none of ours."""
    with app.app_context():
        with reading() as session:
            mine = select(Order.version).where(Order.id == told["order_id"])
            version = session.scalar(mine)
        handler(app, version=version, **told)
