"""What an admin can change at run time. The environment gives the first value of each.

The choices are one row of the ``settings`` table, so that every process sees a change at once and
setting a value back is the rollback. Reading costs one query by primary key. Each change is a line
of the audit log that a program can read too, so that one press takes it back.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

import structlog
from flask import current_app
from sqlalchemy import func, select

from domain.clock import now
from domain.errors import Conflict, NotFound, ShopError
from domain.strategies import STRATEGIES, Strategy, choose
from extensions import atomic, db, insert_once, reading, retrying
from models import AuditEntry, Setting
from services import leases

log = structlog.get_logger()

ROW = "choices"
LIVE_UPDATES = ("poll", "sse")
LONGEST_REASON = 200


class NotAChoice(ShopError):
    """``problems`` says what is wrong with which choice, or with the reason."""

    code = "not_a_choice"
    http_status = 422
    headline = "That cannot be set"

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(" ".join(problems.values()))
        self.problems = problems


class Overtaken(Conflict):
    """Somebody else changed the settings after this admin had read them."""

    code = "settings_overtaken"
    headline = "Somebody was faster"

    def __init__(self, last: Change | None) -> None:
        who = f"{last.actor} changed the settings" if last else "The settings were changed"
        why = f" (“{last.reason}”)" if last else ""
        super().__init__(
            f"{who} while you had this page open{why}. Nothing of yours was saved. Below is what "
            "stands now: choose again, and save."
        )


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
        return next(iter(self.problems().values()), None)

    def problems(self) -> dict[str, str]:
        """What is wrong with each, in a sentence."""
        found = {}
        if not _is_strategy(self.order_strategy):
            found["order_strategy"] = _no_strategy(self.order_strategy)
        if self.rollout_strategy is not None and not _is_strategy(self.rollout_strategy):
            found["rollout_strategy"] = _no_strategy(self.rollout_strategy)
        if not (_is_whole(self.rollout_percent) and 0 <= self.rollout_percent <= 100):
            found["rollout_percent"] = "The rollout is a whole percentage from 0 to 100."
        for name in FLAGS:
            if not isinstance(getattr(self, name), bool):
                found[name] = f"{name.replace('_', ' ').capitalize()} is either on or off."
        if self.live_updates not in LIVE_UPDATES:
            found["live_updates"] = f"Live updates are one of {', '.join(LIVE_UPDATES)}."
        return found


@dataclass(frozen=True, slots=True)
class Change:
    """One change that was made; ``steps`` has (before, after) of each choice that it touched."""

    id: int
    at: datetime
    actor: str
    reason: str
    steps: dict[str, tuple[Any, Any]]

    def can_be_undone(self, choices: Choices) -> bool:
        """Whether undoing it would change anything now."""
        return any(getattr(choices, name, old) != old for name, (old, _) in self.steps.items())


FLAGS = ("background_sync", "landing_lookup")
_NAMES = tuple(field.name for field in fields(Choices))
_ROLLOUT = {"rollout_strategy", "rollout_percent"}  # each means nothing without the other


def current() -> Choices:
    """The choices as they stand now. A stored one that no longer exists gives way to the
    environment's, and says so in the log."""
    return _usable(leases.read(ROW))


@retrying
def change(actor: str, reason: str, *, seen: int | None = None, **wishes: Any) -> Choices:
    """Change what ``wishes`` name, and write who, what and why into the audit log.

    A running checkout keeps the strategy that it began with. ``seen`` is the ``last_change`` that
    the actor knew of. Raises NotAChoice, and Overtaken if there is a newer one; then nothing was
    changed. Saying the same twice changes nothing the second time.
    """
    reason = reason.strip()
    with atomic() as session:
        # Locked, so that of two at once the second sees what the first has made of it.
        row = session.scalar(select(Setting).where(Setting.name == ROW).with_for_update())
        before = _usable(row.value if row else None)
        after = _wished(before, reason, wishes)
        old, new = asdict(before), asdict(after)
        steps = {name: (old[name], new[name]) for name in _NAMES if old[name] != new[name]}
        if not steps:
            return after
        if seen not in (None, _last()):
            raise Overtaken(next(iter(_newest(1)), None))
        if row:
            row.value = new
        elif not insert_once(Setting, name=ROW, value=new, updated_at=now()):
            raise Overtaken(next(iter(_newest(1)), None))
        told = json.dumps({"reason": reason, "steps": steps}, ensure_ascii=False)
        session.add(AuditEntry(actor=actor, action="changed settings", subject=ROW, detail=told))
    log.info("settings.changed", actor=actor, steps=steps)
    return after


def undo(actor: str, change_id: int, *, seen: int | None = None) -> Choices:
    """Set back what one change had touched, as a change of its own with its own line in the log.

    Raises NotFound, and what ``change`` raises. Undoing twice changes nothing the second time.
    """
    with reading() as session:
        mine = select(AuditEntry).where(AuditEntry.subject == ROW, AuditEntry.id == change_id)
        entry = session.scalar(mine)
    if entry is None:
        raise NotFound("There is no such change of the settings.")
    made = _read(entry)
    back = {name: old for name, (old, _) in made.steps.items()}
    return change(actor, f"Undo: {made.reason}"[:LONGEST_REASON], seen=seen, **back)


def strategy_for(email: str) -> tuple[Strategy, str]:
    """Which strategy the shopper with this address gets on the next checkout, and why."""
    choices = current()
    return choose(email, choices.order_strategy, choices.rollout)


def changes(limit: int = 20) -> list[Change]:
    """What was changed, newest first."""
    with reading():
        return _newest(limit)


def last_change() -> int:
    """The id of the newest change, 0 before the first. Read it before the choices that it is
    shown with: then a change in between is noticed when they are saved."""
    with reading():
        return _last()


def _wished(before: Choices, reason: str, wishes: dict[str, Any]) -> Choices:
    """Raises NotAChoice, with everything that is wrong."""
    known = {name: value for name, value in wishes.items() if name in _NAMES}
    after = replace(before, **known)
    problems = after.problems()
    problems |= {
        name: f"There is no setting {name[:40]!r}." for name in wishes if name not in known
    }
    if not reason:
        problems["reason"] = "Say why: whoever reads the list of changes will want to know."
    if len(reason) > LONGEST_REASON:
        problems["reason"] = f"Say why in at most {LONGEST_REASON} characters."
    if problems:
        raise NotAChoice(problems)
    return after


def _usable(stored: Any) -> Choices:
    first = _from_environment()
    kept = stored if isinstance(stored, dict) else {}
    chosen = replace(first, **{name: kept[name] for name in _NAMES if name in kept})
    problems = chosen.problems()
    if not problems:
        return chosen
    log.error("settings.stored_choice_unusable", problems=problems)
    gone = set(problems) | (_ROLLOUT if _ROLLOUT & set(problems) else set())
    return replace(chosen, **{name: getattr(first, name) for name in gone})


def _from_environment() -> Choices:
    settings = current_app.extensions["settings"]
    name, percent = settings.strategy_rollout or (None, 0)
    return Choices(settings.order_strategy, name, percent, live_updates=settings.live_updates)


def _newest(limit: int) -> list[Change]:
    mine = select(AuditEntry).where(AuditEntry.subject == ROW)
    found = db.session.scalars(mine.order_by(AuditEntry.id.desc()).limit(limit))
    return [_read(entry) for entry in found]


def _last() -> int:
    return db.session.scalar(select(func.max(AuditEntry.id)).where(AuditEntry.subject == ROW)) or 0


def _read(entry: AuditEntry) -> Change:
    told = json.loads(entry.detail)
    steps = {name: (old, new) for name, (old, new) in told["steps"].items()}
    return Change(entry.id, entry.at, entry.actor, told["reason"], steps)


def _is_strategy(name: object) -> bool:
    return isinstance(name, str) and name in STRATEGIES


def _no_strategy(name: object) -> str:
    return f"There is no strategy {str(name)[:40]!r}; it is one of {', '.join(STRATEGIES)}."


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
