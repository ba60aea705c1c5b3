"""What needs somebody right now: derived from what is there, and never stored.

An alert stands while its cause lasts and clears by itself. One more is one more function below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from domain.clock import now
from domain.money import display
from services import by_hand, dispute_pages, disputes, inbox, leases, metrics, settings
from services.leases import SILENT_AFTER

log = structlog.get_logger()

SETTINGS_PAGE = "/admin/settings"
ORDERS_PAGE = "/admin/orders?view=confirming"
JOBS_PAGE = "/admin/jobs"
HEALTH_PAGE = "/admin/health"
DISPUTES_PAGE = "/admin/orders?view=disputes"

MOST_FAILING = 0.05  # of the orders of the last 24 hours
LONGEST_EVENT_WAIT = timedelta(minutes=10)
LONGEST_NEWS = timedelta(days=1)  # somebody who sends an old event again is forgotten by then


@dataclass(frozen=True, slots=True)
class Alert:
    """``code`` is for programs, ``headline`` and ``detail`` for people, ``link`` where to act;
    ``since`` (UTC) is when its cause began, where that is known."""

    code: str
    headline: str
    detail: str
    link: str
    since: datetime | None = None


def standing() -> list[Alert]:
    """The alerts that stand now. Never raises: a database that is down is told by its own name."""
    return _asked(_ALERTS)


def notes() -> list[Alert]:
    """What is unusual and chosen so: worth knowing, but it wakes nobody."""
    return _asked(_NOTES)


def codes() -> list[str]:
    """Every alert there is, standing or not."""
    return [check.__name__.removeprefix("_") for check in _ALERTS]


def _sync_failing() -> Alert | None:
    """More than 5 of 100 orders cannot be brought in step with Stripe."""
    failing = metrics.undecided().count
    if not failing:
        return None
    enough = round(failing / MOST_FAILING) - failing  # so many in step, and it is 5 of 100
    synced = metrics.synced_count(enough)
    if synced >= enough:
        return None
    return Alert(
        "sync_failing",
        "Syncing with Stripe fails",
        f"{_orders(failing)} could not be brought in step, beside {synced} of the last 24 hours "
        "that are. Does Stripe answer, and does it accept our key? Ask it: flask doctor.",
        ORDERS_PAGE,
    )


def _webhooks_delayed() -> Alert | None:
    """An event from Stripe was stored more than ten minutes ago and is not applied."""
    waiting = metrics.inbox_waiting()
    if waiting.oldest_s <= LONGEST_EVENT_WAIT.total_seconds():
        return None
    return Alert(
        "webhooks_delayed",
        "Events from Stripe wait too long",
        f"{waiting.count} wait, the oldest for {minutes(waiting.oldest_s)}. Is a worker running, "
        "and what does the event’s own error say?",
        "/admin/webhooks",
        since=now() - timedelta(seconds=waiting.oldest_s) + LONGEST_EVENT_WAIT,
    )


def _orders_undecided() -> Alert | None:
    """Something is open for longer than the reconciler should leave it."""
    left = metrics.undecided()
    if not left.count:
        return None
    return Alert(
        "orders_undecided",
        "Orders need a sync by hand",
        f"{_orders(left.count)} should have been held against Stripe by now. Press Sync with "
        "Stripe; if that fails too, its answer says why.",
        ORDERS_PAGE,
        since=left.since,
    )


def _worker_silent() -> Alert | None:
    return _silent("worker", "Events and mails wait until one runs again. Start it: flask worker.")


def _clock_silent() -> Alert | None:
    return _silent(
        "clock", "Nothing expires and lost events are not fetched. Start it: flask clock."
    )


def _clock_off() -> Alert | None:
    """Events of Stripe's are refused for their time, and none has come in since."""
    refused = inbox.last_refused("clock")
    if refused is None or not now() - LONGEST_NEWS < refused <= now():  # ahead: it was set since
        return None
    if inbox.has_heard_since(refused):
        return None
    return Alert(
        "clock_off",
        "This machine’s clock is wrong",
        "Stripe’s events are refused, because their time is more than 300 s off ours. Nothing is "
        "lost: what is missed is fetched. Set the clock by NTP: timedatectl set-ntp true.",
        HEALTH_PAGE,
        since=refused,
    )


def _books_broken() -> Alert | None:
    """The last proof found something, and none since has found it gone."""
    proof = by_hand.last_proof()
    if proof is None or proof.holds:
        return None
    return Alert(
        "books_broken",
        "The books do not agree",
        f"The last check found {len(proof.violations)} thing(s) that should never be. Each is "
        "listed with its repair; check again when it is mended.",
        f"{HEALTH_PAGE}#books",
        since=proof.at,
    )


def _dispute_due() -> Alert | None:
    """A bank waits for an answer, and decides for the shopper if it gets none in time."""
    found = disputes.waiting()
    if not found:
        return None
    sums: Counter[str] = Counter()
    for row in found:
        sums[row.currency] += row.amount
    listed = " and ".join(display(sum_, currency) for currency, sum_ in sums.items())
    one = len(found) == 1
    due = next((row.due_by for row in found if row.due_by), None)
    when = f"by {due.day} {due:%B %Y} ({dispute_pages.time_left(due)})" if due else "in time"
    return Alert(
        "dispute_due",
        "A disputed payment wants an answer",
        f"{'One dispute' if one else f'{len(found)} disputes'} of {listed}: "
        f"{'answer' if one else 'answer the first'} {when}, or the bank decides for the shopper.",
        DISPUTES_PAGE,
        since=min(row.opened_at for row in found),
    )


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


def minutes(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def _silent(who: str, means: str) -> Alert | None:
    """One that has never reported is no silence: `/readyz` names it."""
    last = leases.last_beat(who)
    if last is None or now() - last <= SILENT_AFTER:
        return None
    waited = minutes((now() - last).total_seconds())
    return Alert(
        f"{who}_silent", f"The {who} is silent", f"Since {waited}. {means}", JOBS_PAGE, since=last
    )


def _orders(count: int) -> str:
    return "One order" if count == 1 else f"{count} orders"


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


_ALERTS = (
    _sync_failing,
    _webhooks_delayed,
    _orders_undecided,
    _worker_silent,
    _clock_silent,
    _clock_off,
    _books_broken,
    _dispute_due,
    _background_sync_off,
)
_NOTES = (_landing_lookup_off,)
