"""The deterministic storm: every choice comes from the seed, so that a seed and a commit of this
repository replay exactly. This is what people see of it: a bar while it blows, then figures, and a
story if it broke."""

from __future__ import annotations

import json
import multiprocessing
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import Any

from storm.run import Outcome, blow
from storm.stage import START
from storm.world import MIXED, World

BEGINNING, ENDING = 40, 15  # lines of a story; what lies between is left out
_WORD = re.compile(r"shopper \d+|[\w-]{6,}")
BAR_WIDTH = 30


def main(
    *,
    seed: int,
    seeds: int,
    checkouts: int,
    as_json: bool,
    strategy: str = MIXED,
    jobs: int = 1,
) -> int:
    """Run ``seeds`` storms from ``seed`` on, in ``jobs`` processes; returns 1 if any promise was
    broken."""
    started = time.perf_counter()
    outcomes = []
    for outcome in _blown(range(seed, seed + seeds), checkouts, strategy, jobs):
        outcomes.append(outcome)
        _bar(len(outcomes), seeds)
        if outcome.violations and not as_json:
            _write(told(outcome))
    figures = _figures(outcomes, checkouts, time.perf_counter() - started)
    _write(json.dumps(figures) if as_json else _summary(figures))
    return 1 if figures["violations"] else 0


def _blown(seeds: range, checkouts: int, strategy: str, jobs: int) -> Iterator[Outcome]:
    """In the order of the seeds, whoever plays them: a seed knows nothing of those before it."""
    play = partial(_in_my_world, checkouts=checkouts, strategy=strategy)
    if jobs == 1:
        yield from map(play, seeds)
        return
    apart = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(seeds)), mp_context=apart) as pool:
        yield from pool.map(play, seeds)


def _in_my_world(seed: int, checkouts: int, strategy: str) -> Outcome:
    return blow(_my_world(), seed, checkouts, strategy)


_my_world = cache(World)  # one per process


def told(outcome: Outcome) -> str:
    """A broken seed as a story, with the way to see it again."""
    lines = [f"\nseed {outcome.seed}: {len(outcome.violations)} broken promise(s)"]
    lines += [f"  {violation}" for violation in outcome.violations[:12]]
    first = outcome.violations[0]
    lines.append(f"the story of {first.about or 'it'}:")
    lines += _story(outcome, first.about)
    lines.append(
        f"again: flask storm --seed {outcome.seed} --checkouts {outcome.checkouts}"
        f" --strategy {outcome.strategy}"
    )
    return "\n".join(lines)


def _story(outcome: Outcome, about: str) -> Iterable[str]:
    """Lines that name the order, and what their speakers did next, until they turned to another
    order: how it began, and how it ended."""
    names = outcome.aliases.get(about, {about})
    others = {name for known in outcome.aliases.values() for name in known} - names
    busy: set[str] = set()
    chosen = []
    for line in outcome.story:
        words = set(_WORD.findall(f"{line[2]} {line[3]}"))
        if words & names or not about:
            busy.add(line[2])
        elif words & others or line[3].startswith("turns"):
            busy.discard(line[2])
        if line[2] in busy:
            chosen.append(line)
    left_out = len(chosen) - BEGINNING - ENDING
    for place, (step, at, who, text) in enumerate(chosen):
        if BEGINNING <= place < BEGINNING + left_out:
            if place == BEGINNING:
                yield f"  … {left_out} lines …"
            continue
        minutes, seconds = divmod(at - START, 60)
        yield f"  {step:>7}  {minutes:>3.0f}:{seconds:04.1f}  {who}: {text}"


def _figures(outcomes: list[Outcome], checkouts: int, took_s: float) -> dict[str, Any]:
    total = len(outcomes) * checkouts
    return {
        "strategy": outcomes[0].strategy,
        "seeds": len(outcomes),
        "checkouts": total,
        **{
            name: sum(getattr(outcome, name) for outcome in outcomes)
            for name in ("paid", "commits", "calls", "crashes", "stalls", "faults")
        },
        "deeds": dict(sorted(sum((outcome.deeds for outcome in outcomes), Counter()).items())),
        "violations": sum(len(outcome.violations) for outcome in outcomes),
        "broken_seeds": [outcome.seed for outcome in outcomes if outcome.violations],
        "broken": [
            {"seed": outcome.seed, "promise": v.promise, "about": v.about, "detail": v.detail}
            for outcome in outcomes
            for v in outcome.violations
        ],
        "took_s": round(took_s, 2),
        "checkouts_per_s": round(total / took_s, 1),
    }


def _summary(figures: dict[str, Any]) -> str:
    f = figures
    return (
        f"{f['strategy']}: {f['seeds']} seeds, {f['checkouts']} checkouts ({f['paid']} paid), "
        f"{f['commits']} commits, {f['calls']} calls to Stripe, {f['crashes']} crashes, "
        f"{f['stalls']} stalls, {f['faults']} faults: {f['violations']} violations. "
        f"{f['took_s']:.1f} s, {f['checkouts_per_s']:.0f} checkouts/s"
    )


def _bar(done: int, of: int) -> None:
    if not sys.stderr.isatty():
        return
    filled = BAR_WIDTH * done // of
    end = "\n" if done == of else ""
    sys.stderr.write(f"\r  {'█' * filled}{'░' * (BAR_WIDTH - filled)}  {done}/{of} seeds{end}")
    sys.stderr.flush()


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
