"""Money that goes back while the storm blows: an admin gives it, somebody at Stripe's dashboard
gives it past the shop, and a shopper's bank takes it.

What people asked for is written down here as they know it: a request that was never answered may or
may not have counted.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from services import refunds
from storm.watch import PAID

if TYPE_CHECKING:
    from storm.cast import Cast

SELDOM_S, OFTEN_S = 700.0, 40.0
ALL_OF_IT_PCT, TWICE_PCT, RESTOCK_PCT = 35, 40, 50
REASON = "it came broken"


class MoneyBack:
    """``asked`` is what the counter was promised for each order, in minor units; of ``unsure``
    orders it may be more. ``past_the_shop`` is what the dashboard gave back of each payment."""

    def __init__(self, cast: Cast) -> None:
        self.cast, self.world, self.stage, self.rng = cast, cast.world, cast.stage, cast.rng
        self.asked: Counter[str] = Counter()
        self.unsure: set[str] = set()
        self.past_the_shop: Counter[str] = Counter()

    def come_in(self) -> None:
        self.stage.enter("counter", self._give)
        self.stage.enter("dashboard", self._give_past_the_shop)
        self.stage.enter("bank", self._take)

    def touched(self, order: str) -> bool:
        """Whether anybody wanted money of this order back."""
        payments = self.world.rows(
            "SELECT payment_intent FROM payments WHERE attempt_id = ?", order
        )
        return (
            order in self.asked
            or order in self.unsure
            or any(self.past_the_shop[intent] for (intent,) in payments)
        )

    # -- at the counter

    def _give(self) -> None:
        """Now and then two people press at once, or one of them twice."""
        while self._still_blows():
            order = self._some_order()
            if order is None:
                continue
            asks = [self._form(order)]
            if self._by_chance(TWICE_PCT):
                asks.append(asks[0] if self._by_chance(50) else self._form(order))
            sent = [
                (ask["key"], *self.cast.send("counter", partial(refunds.ask, order, **ask)))
                for ask in asks
            ]
            self.cast.deeds["refunds asked for"] += len({ask["key"] for ask in asks})
            promised: dict[str, int] = {}
            for key, actor, answer in sent:
                self.stage.wait_for(actor)
                if answer.value is not None:
                    promised[key] = sum(row.amount or 0 for row in answer.value)
                elif answer.is_lost:
                    self.unsure.add(order)
            self.asked[order] += sum(promised.values())
            self.stage.tell(f"asked for {promised} of {order}")

    def _form(self, order: str) -> dict[str, Any]:
        """All that is left, or part of it; perhaps something goes back on the shelf."""
        ((total,),) = self.world.rows("SELECT total FROM orders WHERE id = ?", order)
        amount = None if self._by_chance(ALL_OF_IT_PCT) else self.rng.randint(1, max(1, total // 2))
        lines = self.world.rows(
            "SELECT id, quantity FROM order_items WHERE order_id = ? ORDER BY id", order
        )
        restock = {}
        if self._by_chance(RESTOCK_PCT):
            item, units = self.rng.choice(lines)
            restock[item] = self.rng.randint(1, units)
        key = f"{self.rng.getrandbits(64):016x}"
        return {
            "amount": amount,
            "restock": restock,
            "reason": REASON,
            "actor": "boss",
            "key": key,
        }

    # -- at Stripe

    def _give_past_the_shop(self) -> None:
        while self._still_blows():
            intent = self._some_payment()
            if intent is None:
                continue
            most = None if self._by_chance(ALL_OF_IT_PCT) else self.rng.randint(1, 900)
            amount = self.world.sandbox.give_back(intent, most)
            if amount:
                self.past_the_shop[intent] += amount
                self.cast.deeds["refunds past the shop"] += 1
                self.stage.tell(f"gives {amount} of {intent} back")
            self.cast.stir()

    def _take(self) -> None:
        """A bank opens a dispute, and decides it soon, or long after the storm."""
        box = self.world.sandbox
        while self._still_blows():
            intent = self._some_payment()
            dispute = intent and box.dispute(intent)
            if not dispute:
                continue
            self.cast.deeds["disputes"] += 1
            self.stage.tell(f"takes {intent} back by {dispute}")
            self.cast.stir()
            self.stage.enter("bank", partial(self._decide, dispute))

    def _decide(self, dispute: str) -> None:
        self.stage.pause(self.rng.uniform(OFTEN_S, 3 * SELDOM_S))
        won = self._by_chance(50)
        self.world.sandbox.decide(dispute, won=won)
        self.stage.tell(f"decides {dispute} for {'the shop' if won else 'the shopper'}")
        self.cast.stir()

    # -- chance

    def _still_blows(self) -> bool:
        self.stage.pause(self.rng.uniform(OFTEN_S, SELDOM_S))
        return self.cast.is_storming

    def _by_chance(self, percent: int) -> bool:
        return self.rng.random() * 100 < percent

    def _some_order(self) -> str | None:
        paid = ", ".join(f"'{status}'" for status in PAID)
        found = self.world.rows(f"SELECT id FROM orders WHERE status IN ({paid}) ORDER BY id")
        return self.rng.choice(found)[0] if found else None

    def _some_payment(self) -> str | None:
        """Of those that count, so that what goes back by itself is told apart."""
        found = self.world.rows(
            "SELECT payment_intent FROM payments WHERE role IN ('settles', 'renewal')"
            " AND state = 'succeeded' ORDER BY payment_intent"
        )
        return self.rng.choice(found)[0] if found else None
