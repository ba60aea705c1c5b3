"""What an admin can change at run time. The environment gives the first value of each.

The choices are one row of the ``settings`` table, so that every process sees a change at once and
setting a value back is the rollback. Reading costs one query by primary key.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import structlog
from flask import current_app
from sqlalchemy import select

from domain.errors import ShopError
from domain.strategies import STRATEGIES, Strategy, choose
from extensions import atomic, db, reading
from models import AuditEntry
from services import leases

log = structlog.get_logger()

ROW = "choices"
LIVE_UPDATES = ("poll", "sse")
LONGEST_REASON = 200


class NotAChoice(ShopError):
    code = "not_a_choice"
    http_status = 422
    headline = "That cannot be set"


@dataclass(frozen=True, slots=True)
class Choices:
    """``rollout_strategy`` gets ``rollout_percent`` (0–100) of the shoppers, by a stable hash of
    their address; None: nobody is rolled out to anything."""

    order_strategy: str
    rollout_strategy: str | None
    rollout_percent: int
    background_sync: bool = True  # off: the reconciler rests, for a diagnosis (rule R7)
    landing_lookup: bool = True  # off: a returning shopper waits for the webhook
    live_updates: str = "poll"

    @property
    def rollout(self) -> tuple[str, int] | None:
        return (self.rollout_strategy, self.rollout_percent) if self.rollout_strategy else None

    def problem(self) -> str | None:
        """What is wrong with them, in a sentence, or None."""
        known = ", ".join(STRATEGIES)
        for name in (self.order_strategy, self.rollout_strategy):
            if name is not None and name not in STRATEGIES:
                return f"There is no strategy {str(name)[:40]!r}; it is one of {known}."
        if not (_is_whole(self.rollout_percent) and 0 <= self.rollout_percent <= 100):
            return "The rollout is a whole percentage from 0 to 100."
        if self.live_updates not in LIVE_UPDATES:
            return f"Live updates are one of {', '.join(LIVE_UPDATES)}."
        if not all(isinstance(flag, bool) for flag in (self.background_sync, self.landing_lookup)):
            return "A flag is on or off."
        return None


def current() -> Choices:
    """The choices as they stand now. A stored one that no longer exists gives way to the
    environment's, and says so in the log."""
    first = _from_environment()
    stored = leases.read(ROW) or {}
    chosen = replace(first, **{name: stored[name] for name in _NAMES if name in stored})
    if problem := chosen.problem():
        log.error("settings.stored_choice_unusable", problem=problem)
        return first
    return chosen


def change(actor: str, reason: str, **wishes: Any) -> Choices:
    """Change what ``wishes`` name, and write who, what and why into the audit log.

    A running checkout keeps the strategy that it began with. Raises NotAChoice; then nothing was
    changed. Saying the same twice changes nothing the second time.
    """
    reason = reason.strip()[:LONGEST_REASON]
    if not reason:
        raise NotAChoice("Say why you change this: whoever reads the log will want to know.")
    unknown = set(wishes) - set(_NAMES)
    if unknown:
        raise NotAChoice(f"There is no setting {', '.join(sorted(unknown))}.")
    before = current()
    after = replace(before, **wishes)
    if problem := after.problem():
        raise NotAChoice(problem)
    old, new = asdict(before), asdict(after)
    changed = [f"{name}: {old[name]} → {new[name]}" for name in _NAMES if old[name] != new[name]]
    if not changed:
        return after
    with atomic() as session:
        leases.put(ROW, new)
        session.add(
            AuditEntry(
                actor=actor,
                action="changed settings",
                subject=ROW,
                detail=f"{'; '.join(changed)} — {reason}",
            )
        )
    log.info("settings.changed", actor=actor, changed=changed)
    return after


def strategy_for(email: str) -> tuple[Strategy, str]:
    """Which strategy the shopper with this address gets on the next checkout, and why."""
    choices = current()
    return choose(email, choices.order_strategy, choices.rollout)


def changes(limit: int = 20) -> list[AuditEntry]:
    """What was changed, newest first."""
    with reading():
        return list(
            db.session.scalars(
                select(AuditEntry)
                .where(AuditEntry.subject == ROW)
                .order_by(AuditEntry.id.desc())
                .limit(limit)
            )
        )


def _from_environment() -> Choices:
    settings = current_app.extensions["settings"]
    name, percent = settings.strategy_rollout or (None, 0)
    return Choices(settings.order_strategy, name, percent, live_updates=settings.live_updates)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_NAMES = tuple(field.name for field in fields(Choices))
