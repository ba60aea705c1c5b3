"""What a run says: ratios of two sides, round by round, held against a goal."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Figure:
    """One ratio. ``ours`` and ``theirs`` are the two sides, one number per round, in ``unit``."""

    name: str
    goal: float
    unit: str
    against: str
    at_most: bool = False
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def add(self, ours: float, theirs: float) -> None:
        self.ours.append(ours)
        self.theirs.append(theirs)

    @property
    def rounds(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds: a neighbour that disturbs one of them does not move it."""
        return median(self.rounds)

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal

    @property
    def goal_text(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.goal:g} x {self.against}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "figure": self.name,
            "ratio": round(self.ratio, 3),
            "goal": self.goal,
            "goal_is": "at most" if self.at_most else "at least",
            "met": self.met,
            "against": self.against,
            "unit": self.unit,
            "ours": round(median(self.ours), 3),
            "theirs": round(median(self.theirs), 3),
            "rounds": [round(ratio, 3) for ratio in self.rounds],
        }
