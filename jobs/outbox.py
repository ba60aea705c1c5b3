"""Effects that wait in the outbox."""

from __future__ import annotations

from services import outbox


def drain() -> None:
    outbox.drain()
