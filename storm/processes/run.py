"""One storm of processes, from an empty folder to a verdict."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from storm.processes.bots import Admin, Crowd, Street, goods
from storm.processes.checker import Books, Verdict, judge
from storm.processes.faults import Fault, Weather
from storm.processes.house import House

QUIET_WITHIN_S = 300.0
LOOK_EVERY_S = 2.0
CROWD_MAY_TAKE = 5.0  # times the storm's length, plus a minute: a slow machine is no defect

Step = Callable[[House], None]


@dataclass
class Result:
    """What one storm showed."""

    seed: int
    checkouts: int
    began_at: float
    calm_at: float = 0.0
    took_s: float = 0.0
    quiet_after_s: float | None = None
    faults: list[Fault] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    street: Street = field(default_factory=Street)
    verdict: Verdict = field(default_factory=Verdict)
    settled: list[tuple[float, float]] = field(default_factory=list)  # paid when, confirmed after
    failures_inside: int = 0
    failures_outside: list[tuple[float, int, str]] = field(default_factory=list)
    check: str = ""  # what `flask check` said, if it did not hold

    @property
    def holds(self) -> bool:
        return (
            self.verdict.is_clean
            and self.quiet_after_s is not None
            and not (self.failures_outside or self.trouble or self.street.slips or self.check)
        )

    def figures(self) -> dict[str, Any]:
        broken = self.verdict.broken
        waits = sorted(wait for _, wait in self.settled)
        return {
            "seed": self.seed,
            "checkouts": self.checkouts,
            **dict(sorted(self.verdict.figures.items())),
            "faults": len(self.faults),
            **{
                name: len(broken.get(name, ()))
                for name in ("lost", "duplicated", "oversold", "amount errors", "second receipts")
            },
            "5xx in fault windows": self.failures_inside,
            "5xx outside": len(self.failures_outside),
            "requests": sum(self.street.answers.values()),
            "unanswered": self.street.silences,
            "quiet after s": self.quiet_after_s,
            "pending": len(self.verdict.pending),
            "confirmed within s, median": round(waits[len(waits) // 2], 1) if waits else None,
            "confirmed within s, longest": round(waits[-1], 1) if waits else None,
            "trouble": self.trouble + self.street.slips,
            "flask check": self.check or "holds",
            "took s": round(self.took_s),
            "holds": self.holds,
        }


def blow(
    *,
    seed: int,
    checkouts: int,
    minutes: float,
    say: Callable[[str], None],
    every_s: float = 6.0,
    during: Step | None = None,
    root: Path | None = None,
    keep: Path | None = None,
) -> Result:
    """Play one storm; ``say`` is told how it goes, once a second. ``during`` is done in the middle
    of it, with everything running."""
    folder = Path(tempfile.mkdtemp(prefix="quittance-storm-"))
    result = Result(seed, checkouts, time.time())
    where: dict[str, Any] = {"root": root} if root else {}
    try:
        house = House(folder, seed, **where)
        try:
            _play(house, result, minutes * 60, every_s, during, say)
        finally:
            house.close()
    finally:
        if keep:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    result.took_s = time.time() - result.began_at
    return result


def _play(
    house: House,
    result: Result,
    lasts_s: float,
    every_s: float,
    during: Step | None,
    say: Callable[[str], None],
) -> None:
    say("the shop opens")
    house.open()
    (house.folder / "goods.csv").write_text(goods())
    imported = house.runs("products", "import", str(house.folder / "goods.csv"))
    if imported.returncode:
        raise RuntimeError(imported.stderr)
    street, seed = result.street, result.seed
    admin = Admin(house, street, seed)
    admin.begin()
    weather = Weather(house, seed, lasts_s, every_s=every_s)
    crowd = Crowd(house, street, result.checkouts, seed, lasts_s * 0.95)
    result.began_at = began = time.time()
    crowd.begin()
    weather.begin()
    middle = began + lasts_s / 2
    give_up_at = began + lasts_s * CROWD_MAY_TAKE + 60
    while not (crowd.is_gone and weather.is_over):
        time.sleep(1.0)
        if during and time.time() > middle:
            during(house)
            during = None
        if time.time() > give_up_at:
            result.trouble.append("the shoppers did not come to an end")
            break
        say(_line(result, weather))
    admin.end()
    weather.calm_down()
    result.faults, result.calm_at = weather.faults, time.time()
    result.trouble += weather.trouble
    _wait_for_quiet(house, result, say)
    for failure in street.failures:
        # 503 and 502 say what is wrong and that it passes; 500 is a defect in any weather.
        if failure[1] != 500 and weather.excuses(failure[0]):
            result.failures_inside += 1
        else:
            result.failures_outside.append(failure)
    _note_settling(house, result)
    checked = house.runs("check")
    result.check = "" if checked.returncode == 0 else checked.stdout[-3000:] + checked.stderr[-500:]


def _wait_for_quiet(house: House, result: Result, say: Callable[[str], None]) -> None:
    """Look from outside until nothing is left to do, at most as long as is promised."""
    while True:
        result.verdict = judge(_books(house, result))
        waited = time.time() - result.calm_at
        if result.verdict.is_clean:
            result.quiet_after_s = round(waited, 1)
            return
        if waited > QUIET_WITHIN_S:
            return
        say(f"calm for {waited:.0f} s, {len(result.verdict.pending)} under way")
        time.sleep(LOOK_EVERY_S)


def _books(house: House, result: Result) -> Books:
    exported = house.runs("export", "--format", "jsonl")
    if exported.returncode:
        raise RuntimeError(f"flask export: {exported.stderr[-1000:]}")
    return Books.read(
        house.at_stripe("GET", "ledger"),
        house.list_at_stripe("/v1/checkout/sessions"),
        exported.stdout,
        list(house.mail.mails),
        result.street.checkouts,
    )


def _note_settling(house: House, result: Result) -> None:
    """When each order was confirmed, seen from when its shopper had paid."""
    orders = {row["id"]: row for row in _books(house, result).shop["order"]}
    for told in result.street.checkouts:
        paid_at = orders.get(told.order_id, {}).get("paid_at")
        if told.paid and paid_at:
            wait = _seconds(paid_at) - told.paid[0][0]
            result.settled.append((told.paid[0][0], max(0.0, wait)))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _line(result: Result, weather: Weather) -> str:
    street = result.street
    people = list(street.checkouts)
    paid = sum(bool(one.paid) for one in people)
    seen = sum(bool(one.seen_paid_at) for one in people)
    done = sum(one.ended for one in people)
    now = ", ".join(sorted(weather.now)) or "calm"
    minutes, seconds = divmod(int(time.time() - result.began_at), 60)
    return (
        f"{minutes}:{seconds:02} {done}/{result.checkouts} checkouts, {paid} paid, {seen} seen, "
        f"{len(street.failures)} 5xx, {street.silences} unanswered | {now}"
    )
