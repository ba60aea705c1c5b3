"""One seed from first light to the last deadline, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime

from storm.cast import DAY_S, HOUR_S, STORM, SYNC_S, Cast
from storm.proof import Proof, Violation, decided
from storm.world import MIXED, TTL_MINUTES, World

QUIET_WITHIN_S = 300.0
DEBITS_S = (10.0, 300.0, 3000.0)
LONG_EVERY, LONGEST_EVERY = 4, 12  # storms that go on for two days, and for six weeks
NIGHT_PACE, WEEKS_PACE = 30.0, 2880.0  # nothing is in a hurry then: a sweep every 15 minutes, a day
MONEY_BACK_EVERY = 3  # storms in which people want their money back
SLUGGISH = 6.0  # the clock's pauses are up to so many times as long as they should be
FORGOTTEN_AFTER_S = 42 * DAY_S

Bug = Callable[[World], AbstractContextManager[None]]


@dataclass(slots=True)
class Outcome:
    """What one seed showed, with the figures of its run."""

    seed: int
    checkouts: int
    strategy: str = MIXED
    fingerprint: str = ""
    violations: list[Violation] = field(default_factory=list)
    story: list[tuple[int, float, str, str]] = field(default_factory=list)
    aliases: dict[str, set[str]] = field(default_factory=dict)
    paid: int = 0
    commits: int = 0
    calls: int = 0
    crashes: int = 0
    stalls: int = 0
    faults: int = 0
    deeds: Counter[str] = field(default_factory=Counter)


def blow(
    world: World, seed: int, checkouts: int, strategy: str = MIXED, bug: Bug | None = None
) -> Outcome:
    """Play one seed. The same seed, number, strategy and commit always play the same."""
    with world.opened(seed, strategy), bug(world) if bug else nullcontext():
        stage = world.stage
        cast = Cast(world, checkouts, is_mixed=strategy == MIXED)
        if seed % MONEY_BACK_EVERY == 0:
            cast.money_back.come_in()
        world.sandbox.debit_s = stage.rng.choice(DEBITS_S)
        stage.dangers = STORM
        stage.run(until=lambda: cast.left == 0)
        cast.calm_down()
        calm_at, by_then = stage.clock.seconds, decided(world)
        stage.run(until_s=calm_at + QUIET_WITHIN_S)
        violations = Proof(world, cast).nothing_is_pending(by_then, calm_at)
        _let_deadlines_pass(world, cast)
        proof = Proof(world, cast)
        violations += proof.all_of_it()
        if seed % LONG_EVERY == 0:
            _days_after(world, cast, weeks=seed % LONGEST_EVERY == 0)
            proof = Proof(world, cast)
            violations += proof.all_of_it()
        cast.deeds.update(_found_in(world))
        outcome = Outcome(
            seed,
            checkouts,
            strategy,
            fingerprint=stage.fingerprint,
            violations=list(dict.fromkeys(violations)),
            paid=proof.paid_orders,
            commits=stage.commits,
            calls=stage.calls,
            crashes=stage.crashes,
            stalls=stage.stalls,
            faults=cast.faults,
            deeds=cast.deeds,
        )
        if violations:
            outcome.story = sorted([*stage.story, *_history(world)], key=lambda line: line[1])
            outcome.aliases = _aliases(world)
        return outcome


def _let_deadlines_pass(world: World, cast: Cast) -> None:
    """Nothing should be left to do but waiting, also for a clock that takes its time: whoever pays
    nothing is only let go by the pass after the deadline."""
    cast.set_pace(1.0, latest=SLUGGISH)
    last_pass_s = SLUGGISH * SYNC_S
    rest = max(TTL_MINUTES * 60, world.sandbox.debit_s) + last_pass_s + QUIET_WITHIN_S
    world.stage.run(until_s=world.stage.clock.seconds + rest)


def _days_after(world: World, cast: Cast, *, weeks: bool) -> None:
    """People come back to orders that have ended long ago, whether the shop still knows them."""
    stage = world.stage
    known = {id for (id,) in world.rows("SELECT id FROM checkout_attempts")}
    cast.set_pace(NIGHT_PACE)
    cast.next_day()
    cast.night_falls()
    stage.run(until_s=stage.clock.seconds + 28 * HOUR_S)
    if weeks:
        cast.set_pace(WEEKS_PACE)
        stage.run(until_s=stage.clock.seconds + FORGOTTEN_AFTER_S)
        cast.weeks_later(known)
        stage.run(until_s=stage.clock.seconds + 2 * HOUR_S)
    cast.day_breaks()
    _let_deadlines_pass(world, cast)


def _found_in(world: World) -> dict[str, int]:
    """What the shop had to do that it rarely has to."""
    asked = {
        "people filled in again": "SELECT COUNT(*) FROM storm_refills",
        "attempts made anew": "SELECT COUNT(*) FROM order_events WHERE detail LIKE 'made anew%'",
        "late payments": "SELECT COUNT(*) FROM exceptions WHERE type = 'late_payment'",
        "provisional orders": "SELECT COUNT(*) FROM storm_births WHERE provisional",
        "renewals": "SELECT COUNT(*) FROM payments WHERE role = 'renewal'",
        "first invoices paid": "SELECT COUNT(*) FROM stripe_legs WHERE kind = 'invoice'"
        " AND state = 'complete'",
        "lines active": "SELECT COUNT(*) FROM order_items i WHERE state = 'active'"
        " AND EXISTS (SELECT 1 FROM subscriptions s WHERE s.checkout_attempt_id = i.order_id"
        " AND s.part = i.sku)",
        "lines past due": "SELECT COUNT(*) FROM order_items WHERE state = 'past_due'",
        "lines ended": "SELECT COUNT(*) FROM order_items WHERE state = 'ended'",
        "lines not started": "SELECT COUNT(*) FROM order_items WHERE state = 'not_started'",
    }
    return {name: world.rows(query)[0][0] for name, query in asked.items()}


def _history(world: World) -> list[tuple[int, float, str, str]]:
    """What the shop wrote into its orders' history, as lines of the story."""
    return [
        (0, datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp(), f"history, {cause}", text)
        for at, cause, text in world.rows(
            "SELECT at, cause, order_id || ': ' || kind || ' '"
            " || COALESCE(COALESCE(from_status, 'nothing') || ' → ' || to_status || ' ', '')"
            " || detail FROM order_events ORDER BY id"
        )
    ]


def _aliases(world: World) -> dict[str, set[str]]:
    """All names that an order goes by in the story: sessions, intents, events, its shopper."""
    names: dict[str, set[str]] = {}
    for order, shopper in world.rows("SELECT id, shopper_id FROM checkout_attempts"):
        names[order] = {order, shopper}
    for order, session in world.rows("SELECT attempt_id, stripe_id FROM stripe_legs"):
        names[order].add(session or order)
    for event in world.sandbox.store.objects["event"].values():
        for order, known in names.items():
            if order in event["data"]:
                known |= {event["id"], event["about"]}
    return names
