"""One seed from first light to the last deadline, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime

from storm.cast import STORM, Cast
from storm.proof import Proof, Violation, decided
from storm.world import TTL_MINUTES, World

QUIET_WITHIN_S = 300.0
DEBITS_S = (10.0, 300.0, 3000.0)

Bug = Callable[[World], AbstractContextManager[None]]


@dataclass(slots=True)
class Outcome:
    """What one seed showed, with the figures of its run."""

    seed: int
    checkouts: int
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


def blow(world: World, seed: int, checkouts: int, bug: Bug | None = None) -> Outcome:
    """Play one seed. The same seed, number and commit always play the same."""
    with world.opened(seed), bug(world) if bug else nullcontext():
        stage = world.stage
        cast = Cast(world, checkouts)
        world.sandbox.debit_s = stage.rng.choice(DEBITS_S)
        stage.dangers = STORM
        stage.run(until=lambda: cast.left == 0)
        cast.calm_down()
        calm_at, by_then = stage.clock.seconds, decided(world)
        stage.run(until_s=calm_at + QUIET_WITHIN_S)
        violations = Proof(world, cast).nothing_is_pending(by_then, calm_at)
        cast.latest = 6.0  # nothing should be left to do but waiting
        rest = max(TTL_MINUTES * 60, world.sandbox.debit_s) + QUIET_WITHIN_S
        stage.run(until_s=stage.clock.seconds + rest)
        proof = Proof(world, cast)
        violations += proof.all_of_it()
        outcome = Outcome(
            seed,
            checkouts,
            fingerprint=stage.fingerprint,
            violations=list(dict.fromkeys(violations)),
            paid=len(proof.settled_by),
            commits=stage.commits,
            calls=stage.calls,
            crashes=stage.crashes,
            stalls=stage.stalls,
            faults=cast.faults,
        )
        if violations:
            outcome.story = sorted([*stage.story, *_history(world)], key=lambda line: line[1])
            outcome.aliases = _aliases(world)
        return outcome


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
