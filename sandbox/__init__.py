"""A little Stripe for one's own machine: same API, hosted pay page, signed webhooks, faults.

It knows nothing of the shop. Whoever speaks Stripe's HTTP API can use it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .box import Sandbox
from .chaos import Chaos, Fault
from .courier import Delivery
from .errors import Cut
from .server import Server

__all__ = ["Chaos", "Cut", "Delivery", "Fault", "Sandbox", "Server", "create_sandbox"]


def create_sandbox(
    *,
    webhook_url: str | None = None,
    webhook_secret: str = "whsec_sandbox",  # noqa: S107  a secret of the sandbox, for the sandbox
    journal: Path | None = None,
    clock: Callable[[], float] | None = None,
    seed: int = 0,
    deliver: bool = True,
    public_url: str | None = None,
) -> Sandbox:
    """Make a sandbox; ``start()`` serves it, or call its ``wsgi`` directly.

    ``webhook_secret`` may be several, comma-separated: each signs. With a ``journal`` the
    ledger survives a restart. ``clock`` gives seconds since 1970. With ``deliver=False`` nobody
    delivers webhooks by itself: take them with ``due`` and send each with ``attempt``.
    """
    return Sandbox(
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
        journal=journal,
        clock=clock,
        seed=seed,
        deliver=deliver,
        public_url=public_url,
    )
