"""The one clock. Everything that asks the time asks here, and SQL gets it as a parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

Source = Callable[[], datetime]


def _wall_clock() -> datetime:
    return datetime.now(UTC)


_source: Source = _wall_clock


def now() -> datetime:
    """The present moment, timezone-aware UTC."""
    return _source()


@contextmanager
def running_on(source: Source) -> Iterator[None]:
    """Let every reader of the clock see ``source`` instead; tests and storms move time with it."""
    global _source
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before
