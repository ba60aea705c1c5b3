"""What the sandbox remembers: objects by kind, in memory, with an optional journal on disk."""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

KIND_OF_PREFIX = {
    "cs": "checkout.session",
    "pi": "payment_intent",
    "seti": "setup_intent",
    "ch": "charge",
    "py": "charge",
    "re": "refund",
    "pyr": "refund",
    "du": "dispute",
    "cus": "customer",
    "pm": "payment_method",
    "sub": "subscription",
    "in": "invoice",
    "inpay": "invoice_payment",
    "prod": "product",
    "price": "price",
    "shr": "shipping_rate",
    "txn": "balance_transaction",
    "promo": "promotion_code",
}

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH = 24

Record = dict[str, Any]


class Agenda:
    """Ids in the order in which their time comes; equal times keep the order of entry."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []
        self._turn = 0

    def add(self, at: float, id: str) -> None:
        self._turn += 1
        heapq.heappush(self._heap, (at, self._turn, id))

    def reached(self, now: float) -> tuple[float, str] | None:
        """Take out the earliest id whose time has come, and when that was."""
        if not self._heap or self._heap[0][0] > now:
            return None
        at, _, id = heapq.heappop(self._heap)
        return at, id

    def next_time(
        self, is_live: Callable[[float, str], bool] = lambda at, id: True
    ) -> float | None:
        """The earliest time that still means something; what no longer does is let go."""
        while self._heap and not is_live(self._heap[0][0], self._heap[0][2]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def clear(self) -> None:
        self._heap.clear()


class Store:
    """Objects in the shape the API shows them, and beside each what only the sandbox knows.

    A change is a changed object followed by ``put``; ``commit`` writes what was put since the
    last one as lines of JSON, so that a sandbox started again on the same journal carries on.
    The caller holds the sandbox's lock.
    """

    def __init__(self, journal: Path | None, seed: int) -> None:
        self.objects: defaultdict[str, dict[str, Record]] = defaultdict(dict)
        self.aside: dict[str, Record] = {}
        self._changed: dict[tuple[str, str], None] = {}
        self._journal = journal
        self._seed = seed
        runs = 0
        if journal is not None and journal.exists():
            self._read(journal)
            runs = self.aside.get("journal", {}).get("runs", 0) + 1
        self._start(runs)

    def _start(self, runs: int) -> None:
        # A new stretch of ids for each start: the old stretch is used up already.
        self._ids = Random(f"{self._seed}:{runs}")  # noqa: S311  repeatable, not secret
        self.put({"object": "meta", "id": "journal"}, runs=runs)
        if self._journal is not None:
            self._compact(self._journal)

    def new_id(self, prefix: str, length: int = ID_LENGTH) -> str:
        return prefix + "".join(self._ids.choices(ALPHABET, k=length))

    def put(self, obj: Record, **aside: Any) -> Record:
        """Remember ``obj`` under its kind and id, new or changed."""
        kind, id = obj["object"], obj["id"]
        self.objects[kind][id] = obj
        if aside:
            self.aside.setdefault(id, {}).update(aside)
        if self._journal is not None:
            self._changed[kind, id] = None
        return obj

    def drop(self, obj: Record) -> None:
        self.objects[obj["object"]].pop(obj["id"], None)
        self.aside.pop(obj["id"], None)
        if self._journal is not None:
            self._changed[obj["object"], obj["id"]] = None

    def clear(self) -> None:
        """Forget everything; ids go on, so that none is ever given twice."""
        runs = self.aside["journal"]["runs"] + 1
        self.objects.clear()
        self.aside.clear()
        self._changed.clear()
        self._start(runs)

    def commit(self) -> None:
        """Append what changed to the journal, if there is one."""
        if self._journal is None or not self._changed:
            return
        self._file.write("".join(self._line(kind, id) for kind, id in self._changed))
        self._file.flush()
        self._changed.clear()

    def close(self) -> None:
        if self._journal is not None:
            self._file.close()

    def _line(self, kind: str, id: str) -> str:
        obj = self.objects[kind].get(id)
        entry = {"kind": kind, "id": id, "object": obj, "aside": self.aside.get(id)}
        return json.dumps(entry, separators=(",", ":")) + "\n"

    def _read(self, journal: Path) -> None:
        for line in journal.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a sandbox that was killed while writing it
            kind, id = entry["kind"], entry["id"]
            if entry["object"] is None:
                self.objects[kind].pop(id, None)
                self.aside.pop(id, None)
                continue
            self.objects[kind][id] = entry["object"]
            if entry["aside"] is not None:
                self.aside[id] = entry["aside"]

    def _compact(self, journal: Path) -> None:
        fresh = journal.with_suffix(".new")
        with fresh.open("w") as file:
            for kind, group in self.objects.items():
                file.writelines(self._line(kind, id) for id in group)
        fresh.replace(journal)
        self._file = journal.open("a")
        self._changed.clear()
