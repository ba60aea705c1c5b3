"""The deterministic storm: shoppers, crashes, faults and races on a virtual clock, then the proof.

``flask storm`` runs it. One thread; every choice comes from the seed, so that a seed and a commit
of this repository replay exactly.
"""

from __future__ import annotations

from storm.report import main

__all__ = ["main"]
