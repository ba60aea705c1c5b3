"""Spoiling what was right: real documents, changed in ways that hurt, by a seed."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from random import Random
from typing import Any

TIMES = float(os.environ.get("FUZZ", "1"))  # FUZZ=50 make test PYTEST_ARGS=tests/fuzz

DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**40, 1e308, -0.0, 0.5),
    *("", " ", "0", "-1", "1e9", "NaN", "null", "\x00", "a\x00b", "\ud800", "\u202e", "é" * 300),
    *("x" * 5000, "' OR 1=1 --", "{{7*7}}", "<script>alert(1)</script>", "../../etc/passwd"),
    *("=1+1", "evt_1", "pi_1", "cs_1", [], {}, [[]], [None], {"id": None}, {"object": "event"}),
    DEEP,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every place of a document, as what holds it and its key there."""
    found: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        one = todo.pop()
        keys: Any = one.keys() if isinstance(one, dict) else range(len(one))
        for key in list(keys):
            found.append((one, key))
            if isinstance(one[key], dict | list) and one[key] is not DEEP:
                todo.append(one[key])
    return found


def document(right: Any, dice: Random) -> Any:
    """A copy with one to four places made wrong: another type, a value that hurts, gone, doubled,
    or what belongs somewhere else."""
    spoiled = copy.deepcopy(right)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        all_ = places(spoiled)
        if not all_:
            break
        holder, key = dice.choice(all_)
        how = dice.random()
        if how < 0.6:
            # A copy: what is spoiled next may be inside it, and would stay so for all that follow.
            value = dice.choice(NASTY)
            holder[key] = value if value is DEEP else copy.deepcopy(value)
        elif how < 0.75:
            del holder[key]
        elif how < 0.9:
            other, at = dice.choice(all_)
            if at in other if isinstance(other, dict) else at < len(other):
                holder[key] = copy.deepcopy(other[at])
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            name = dice.choice(("id", "object", "status", "amount", "metadata"))
            holder[name] = copy.deepcopy(holder[key])
    return spoiled


def text(document_: Any, dice: Random) -> bytes:
    """As JSON that is now and then no JSON any more, or says a name twice."""
    written = json.dumps(document_, separators=(",", ":")).encode("utf-8", "surrogatepass")
    how = dice.random()
    if how < 0.80:
        return written
    if how < 0.86:
        return written[: dice.randrange(len(written) + 1)]
    if how < 0.90:
        at = dice.randrange(len(written) + 1)
        return written[:at] + dice.randbytes(dice.randrange(1, 9)) + written[at:]
    if how < 0.94:
        return written[:-1] + b',"id":"evt_2","livemode":true,"data":{}}'
    if how < 0.97:
        return b"[" * dice.randrange(1, 40_000) + written
    return written.replace(b":", b": NaN ,", 1)


Spoiler = Callable[[str, Random], str]

SIGNATURES: dict[str, Spoiler] = {
    "as it is": lambda right, dice: right,
    "cut": lambda right, dice: right[: dice.randrange(len(right))],
    "doubled": lambda right, dice: f"{right},{right}",
    "only zeros": lambda right, dice: right[:-64] + "0" * 64,
    "upper case": lambda right, dice: right.upper(),
    "other scheme": lambda right, dice: right.replace("v1=", "v0="),
    "many": lambda right, dice: right + ",v1=00" * dice.randrange(1, 2000),
    "no comma": lambda right, dice: right.replace(",", ";"),
    "wordy time": lambda right, dice: "t=soon," + right.partition(",")[2],
    "huge time": lambda right, dice: f"t={'9' * dice.randrange(1, 400)}," + right.partition(",")[2],
    "not ASCII": lambda right, dice: right + "\xe9",
    "spaces": lambda right, dice: right.replace("=", " = "),
    "none": lambda right, dice: "",
}
