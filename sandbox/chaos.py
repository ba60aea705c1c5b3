"""The failures that can be switched on, and the seeded dice that decide whom they hit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from random import Random
from typing import Any

OLD_API_VERSION = "2024-06-20"  # before the shapes of 2025: an endpoint nobody upgraded


@dataclass
class Fault:
    """One way for an API call to fail: the next ``next`` calls, or ``pct`` percent of all.

    ``only`` narrows it to calls like ``"POST /v1/checkout/sessions"``; ``*`` stands for anything.
    """

    next: int = 0
    pct: float = 0.0
    only: str = ""


API_FAULTS = (
    "error_500",
    "stored_500",
    "effect_then_cut",
    "rate_429",
    "conflict_409",
    "hang",
)


@dataclass
class Chaos:
    """All switches, off as delivered. Percentages are 0–100, times are seconds.

    A fault may be assigned as a number (that many next calls) or as a dict of its fields.
    """

    seed: int = 0

    # Webhooks, decided when the event is born.
    drop_pct: float = 0.0  # never sent, and stays undelivered in the event list
    delay_s: float = 0.0  # sent that much later
    duplicate: int = 0  # extra copies of each
    reorder: bool = False  # those that are due together go out shuffled
    old_api_version: bool = False  # events say that they were rendered in an old API version
    # Webhooks, decided at each try.
    wrong_secret_pct: float = 0.0
    stale_signature_pct: float = 0.0

    # API calls.
    error_500: Fault = field(default_factory=Fault)  # before any effect; nothing is kept
    stored_500: Fault = field(default_factory=Fault)  # no effect; kept under the key
    effect_then_cut: Fault = field(default_factory=Fault)  # work done, connection dies
    rate_429: Fault = field(default_factory=Fault)
    conflict_409: Fault = field(default_factory=Fault)
    hang: Fault = field(default_factory=Fault)  # work done, then silence for hang_s
    hang_s: float = 30.0
    only: str = ""  # for every fault that has no filter of its own
    outage: str = ""  # "503": every API call is answered 503; "refused": the line goes dead
    intent_born_late: bool = False  # an open session does not name its intent yet
    events_before_answer: bool = False  # what a call causes is delivered before it is answered

    # Renewals, collected while nobody looks.
    decline_renewals: int = 0  # the next so many tries are declined, whatever the card
    after_retries: str = "cancel"  # or "unpaid", or "past_due": what an unpaid subscription becomes

    def __post_init__(self) -> None:
        self._dice = Random(f"chaos:{self.seed}")  # noqa: S311  repeatable, not secret

    def __setattr__(self, name: str, value: Any) -> None:
        if name in API_FAULTS and not isinstance(value, Fault):
            value = Fault(**value) if isinstance(value, dict) else Fault(next=int(value))
        if name == "outage" and isinstance(value, bool):
            value = "503" if value else ""
        if name == "after_retries" and value not in ("cancel", "unpaid", "past_due"):
            raise ValueError("after_retries is cancel, unpaid or past_due")
        if name == "seed" and hasattr(self, "_dice"):
            self._dice = Random(f"chaos:{value}")  # noqa: S311
        object.__setattr__(self, name, value)

    def hits(self, pct: float) -> bool:
        """Throw the dice; they are not thrown at 0 or 100, so that other decisions stay put."""
        return pct > 0 and (pct >= 100 or self._dice.random() * 100 < pct)

    def declines_renewal(self) -> bool:
        """Whether the bank says no to this try to collect a renewal; each no is used up."""
        if self.decline_renewals < 1:
            return False
        self.decline_renewals -= 1
        return True

    def shuffle(self, things: list[Any]) -> None:
        """Put ``things`` into another order than they had."""
        before = list(things)
        self._dice.shuffle(things)
        if things == before:
            things.reverse()

    def fault_for(self, method: str, path: str) -> str:
        """Name the fault that hits this call, or the empty string; a ``next`` is used up."""
        call = f"{method} {path}"
        for name in API_FAULTS:
            fault: Fault = getattr(self, name)
            if not fault.next and not fault.pct:
                continue
            if not fnmatchcase(call, fault.only or self.only or "*"):
                continue
            if fault.next:
                fault.next -= 1
                return name
            if self.hits(fault.pct):
                return name
        return ""

    def update(self, settings: dict[str, Any]) -> None:
        """Switch what ``settings`` names. Raises ValueError for a switch that does not exist."""
        known = {f.name: f for f in fields(self)}
        for name, value in settings.items():
            if name not in known:
                raise ValueError(f"There is no switch called {name}.")
            try:
                setattr(self, name, _like(getattr(self, name), value))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} cannot be {value!r}.") from error

    def clear(self) -> None:
        """Switch everything off; the dice stay where they are."""
        calm = Chaos(seed=self.seed)
        for f in fields(self):
            setattr(self, f.name, getattr(calm, f.name))

    @property
    def is_calm(self) -> bool:
        """Whether every switch is off."""
        return self.as_dict() == Chaos(seed=self.seed).as_dict()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _like(now: Any, value: Any) -> Any:
    """Read a switch from JSON or a form field, in the type it has."""
    if isinstance(now, Fault):
        return value if isinstance(value, dict) else int(value or 0)
    if isinstance(now, bool):
        return value if isinstance(value, bool) else str(value).lower() in ("1", "true", "on")
    if isinstance(now, str):
        return value if isinstance(value, bool) else str(value)
    return type(now)(value or 0)
