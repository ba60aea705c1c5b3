"""The deterministic storm: shoppers, crashes, faults and races on a virtual clock, then the proof.

``flask storm`` runs it. One thread; every choice comes from the seed, so that a seed and a commit
of this repository replay exactly.
"""

from __future__ import annotations

from storm.report import main
from storm.world import WAYS_TO_SELL

__all__ = ["WAYS_TO_SELL", "main"]
