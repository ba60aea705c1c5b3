"""The storm holds, replays exactly, and is strong enough to find what was planted for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storm import bugs
from storm.report import main, told
from storm.run import Outcome, blow
from storm.world import World

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS, CHECKOUTS = 20, 15


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One app for all storms of this module; each seed makes it new."""
    yield World()


@pytest.fixture(scope="module")
def calm(world: World) -> list[Outcome]:
    """Twenty storms over the shop as it is."""
    return [blow(world, seed, CHECKOUTS) for seed in range(1, SEEDS + 1)]


@pytest.mark.accept("O26", "O25", "X26")
@pytest.mark.fault("F1", "F2", "F3", "F4", "F5", "F7", "F8", "F9", "F16", "F17", "F24", "F29")
def test_no_promise_is_broken_in_twenty_storms(calm: list[Outcome]) -> None:
    broken = [told(outcome) for outcome in calm if outcome.violations]

    assert not broken, "\n".join(broken)


def test_the_storms_do_blow(calm: list[Outcome]) -> None:
    assert sum(outcome.crashes for outcome in calm) > SEEDS
    assert sum(outcome.stalls for outcome in calm) > SEEDS
    assert sum(outcome.faults for outcome in calm) > SEEDS
    assert sum(outcome.paid for outcome in calm) > SEEDS * CHECKOUTS // 4


def test_the_same_seed_plays_the_same_again(world: World, calm: list[Outcome]) -> None:
    again = blow(world, 7, CHECKOUTS)

    assert again.fingerprint == calm[6].fingerprint
    assert len({outcome.fingerprint for outcome in calm}) == SEEDS


def test_another_process_plays_the_same_seed_the_same(calm: list[Outcome]) -> None:
    script = (
        "from storm.run import blow; from storm.world import World;"
        f"print(blow(World(), 3, {CHECKOUTS}).fingerprint)"
    )
    environment = {"PYTHONHASHSEED": "5", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert done.stdout.strip() == calm[2].fingerprint, done.stderr


@pytest.mark.parametrize("name", bugs.BUGS)
def test_a_planted_bug_is_caught_within_twenty_seeds(world: World, name: str) -> None:
    took = next(
        (
            seed
            for seed in range(1, SEEDS + 1)
            if blow(world, seed, CHECKOUTS, bugs.BUGS[name]).violations
        ),
        None,
    )

    sys.stdout.write(f"{name}: caught after {took} seed(s)\n")
    assert took is not None, f"{name} escaped {SEEDS} storms: the storm is too weak"


def test_half_of_a_pair_alone_is_hidden_by_the_other_guard(world: World) -> None:
    """Receipts owed per event do no harm while the inbox's key lets each event in once."""
    outcomes = [blow(world, seed, CHECKOUTS, bugs.receipt_per_event) for seed in range(1, 6)]

    assert [v for outcome in outcomes for v in outcome.violations] == []


def test_a_broken_seed_tells_its_story_and_how_to_see_it_again(world: World) -> None:
    broken = next(
        outcome
        for outcome in (blow(world, s, CHECKOUTS, bugs.release_before_asking) for s in range(1, 21))
        if outcome.violations
    )

    story = told(broken)

    assert broken.violations[0].about in story
    assert "pays cs_" in story
    assert f"flask storm --seed {broken.seed} --checkouts {CHECKOUTS}" in story


def test_the_command_gives_figures(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(seed=1, seeds=1, checkouts=3, as_json=True)
    figures = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (figures["seeds"], figures["checkouts"], figures["violations"]) == (1, 3, 0)
    assert figures["commits"] > 0
