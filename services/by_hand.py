"""What an admin starts by hand: the same work as the clock's, with a line in the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.clock import now
from domain.errors import ShopError
from services import auth, check, inbox, leases, reconcile
from services.causes import Cause
from services.reconcile import Tally

PROOF = "last_proof"  # of the settings table
PERIODS_H = (1, 24, 72)  # Stripe itself gives up after three days
WAITS_S = 15  # somebody waits for the answer, and a dyno cuts a request at 30 s
MOST_SHOWN = 50  # violations that are kept; whoever has more mends these first


@dataclass(frozen=True, slots=True)
class Proof:
    """What the last check from the counter found. ``checked`` counts what was looked at."""

    at: datetime
    actor: str
    checked: dict[str, int]
    violations: list[dict[str, str]]
    took_s: float

    @property
    def holds(self) -> bool:
        return not self.violations


@dataclass(frozen=True, slots=True)
class Fetched:
    """How many events had never reached us, and what has become of them."""

    missed: int
    done: int
    ignored: int
    waiting: int


class NotAPeriod(ShopError):
    code = "not_a_period"
    http_status = 422
    headline = "Nothing was fetched"

    def __init__(self, known: tuple[int, ...]) -> None:
        super().__init__(f"Choose how far back: {', '.join(map(str, known))} hours.")


def sync_orders(actor: str) -> Tally:
    """One pass over everything open, also over what was looked at a moment ago, as far as it gets
    in 15 s; the rest is counted as skipped and waits for the clock.

    Safe at any time and beside the clock's own pass: both only bring orders in line with Stripe.
    """
    cause = Cause("admin", actor=actor)
    tally = reconcile.sync(cause=cause, due_only=False, budget_s=WAITS_S)
    auth.note(actor, "synced orders", detail=said(tally))
    return tally


def fetch_missed(actor: str, hours: int) -> Fetched:
    """Fetch what Stripe has sent in the last ``hours`` (1, 24, 72) and never reached us, and apply
    it. Raises NotAPeriod and the Stripe errors. Safe at any time: each event counts once.
    """
    if hours not in PERIODS_H:
        raise NotAPeriod(PERIODS_H)
    fresh = reconcile.fetch_events(now() - timedelta(hours=hours))
    inbox.drain()
    states = inbox.states_of(fresh)
    fetched = Fetched(len(fresh), *(states.get(one, 0) for one in ("done", "ignored", "new")))
    auth.note(actor, "fetched events", detail=f"{hours} h: {fetched.missed} missed")
    return fetched


def prove(actor: str) -> Proof:
    """Check every invariant, here and against Stripe's ledger, and keep what came of it.

    It only reads the books; the last one stands until the next.
    """
    return remember(check.run(), actor)


def remember(done: check.Report, actor: str) -> Proof:
    """Keep what a check has found: it lights the page, and stands as an alert until the next."""
    report = done.as_dict()
    proof = {
        "at": now().isoformat(),
        "actor": actor,
        "checked": report["checked"],
        "violations": report["violations"][:MOST_SHOWN],
        "took_s": report["took_s"],
    }
    leases.write(PROOF, proof)
    found = len(report["violations"])
    auth.note(actor, "checked the books", detail=f"{found} found" if found else "they agree")
    return _read(proof)


def last_proof() -> Proof | None:
    """The last one, or None if nobody has checked from the counter yet."""
    kept = leases.read(PROOF)
    return _read(kept) if kept else None


def _read(kept: dict[str, Any]) -> Proof:
    return Proof(**{**kept, "at": datetime.fromisoformat(kept["at"])})


def said(tally: Tally) -> str:
    """The counts as people read them."""
    return f"{tally.synced} synced, {tally.failed} failed, {tally.skipped} skipped"
