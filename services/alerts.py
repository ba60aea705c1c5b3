"""What needs somebody right now: derived from what is there, and never stored.

An alert stands while its cause lasts and clears by itself. One more is one more function below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from services import settings

log = structlog.get_logger()

SETTINGS_PAGE = "/admin/settings"


@dataclass(frozen=True, slots=True)
class Alert:
    """``code`` is for programs, ``headline`` and ``detail`` for people, ``link`` where to act."""

    code: str
    headline: str
    detail: str
    link: str


def standing() -> list[Alert]:
    """The alerts that stand now. Never raises: a database that is down is told by its own name."""
    return _asked(_ALERTS)


def notes() -> list[Alert]:
    """What is unusual and chosen so: worth knowing, but it wakes nobody."""
    return _asked(_NOTES)


def _background_sync_off() -> Alert | None:
    if settings.current().background_sync:
        return None
    return Alert(
        "background_sync_off",
        "Background sync is switched off",
        f"{_by_whom('background_sync')} Missed events are not fetched and open orders not looked "
        "at, until it is on again or somebody syncs by hand.",
        f"{SETTINGS_PAGE}#background_sync",
    )


def _landing_lookup_off() -> Alert | None:
    if settings.current().landing_lookup:
        return None
    return Alert(
        "landing_lookup_off",
        "The landing-page lookup is switched off",
        f"{_by_whom('landing_lookup')} Whoever comes back from paying waits for the webhook.",
        f"{SETTINGS_PAGE}#landing_lookup",
    )


def _by_whom(choice: str) -> str:
    """Who set it as it stands, when and why; the last hundred changes are asked."""
    last = next((change for change in settings.changes(100) if choice in change.steps), None)
    if last is None:
        return ""
    return f"{last.actor}, {last.at.day} {last.at:%b, %H:%M}: “{last.reason}”."


def _asked(checks: tuple[Callable[[], Alert | None], ...]) -> list[Alert]:
    found = []
    for check in checks:
        try:
            found.append(check())
        except SQLAlchemyError as error:
            log.warning("alerts.unreadable", check=check.__name__, error=type(error).__name__)
    return [alert for alert in found if alert]


_ALERTS = (_background_sync_off,)
_NOTES = (_landing_lookup_off,)
