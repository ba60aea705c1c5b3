"""Events that wait in the inbox."""

from __future__ import annotations

from services import inbox


def drain() -> None:
    inbox.drain()
