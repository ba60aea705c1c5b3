"""What the database alone allows: the rows that one paid event changes, and nothing else.

One connection, one transaction per event, plain psycopg with its prepared statements: no locks
taken first, nothing read, no rule asked. ``python -m bench.raw DATABASE`` takes the purchases as
JSON lines on its standard input.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench.events import CURRENCY, TOTAL, Purchase


def run(url: str, told: list[Purchase]) -> float:
    """Settle so many purchases in a process of its own; returns how many it did in a second."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.raw", url],
        cwd=Path(__file__).resolve().parent.parent,
        input="\n".join(json.dumps(asdict(one)) for one in told),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return len(told) / float(done.stdout)


def settle_all(connection: psycopg.Connection, told: list[Purchase]) -> float:
    """Returns the seconds it took."""
    started = time.perf_counter()
    for one in told:
        _settle(connection, one)
    return time.perf_counter() - started


def _settle(connection: psycopg.Connection, one: Purchase) -> None:
    moment = datetime.now(UTC)
    order, intent, status = one.attempt_id, one.intent_id, "payment_confirmed"
    with connection.transaction():
        connection.execute(
            "UPDATE stripe_events SET state = 'done', attempt_id = %s, applied_at = %s "
            "WHERE id = %s",
            (order, moment, one.event_id),
        )
        connection.execute(
            "UPDATE orders SET status = %s, payment_status = 'paid', sync_status = 'synced', "
            "payment_intent = %s, paid_at = %s, locked_at = %s, paid_lane = 'webhook', "
            "version = version + 1, updated_at = %s WHERE id = %s",
            (status, intent, moment, moment, moment, order),
        )
        connection.execute(
            "UPDATE checkout_attempts SET state = 'settled', status = %s, hold = 'sold', "
            "closed_at = %s WHERE id = %s",
            (status, moment, order),
        )
        connection.execute(
            "INSERT INTO payments (payment_intent, attempt_id, amount, currency, state, role, "
            "lane, created_at) VALUES (%s, %s, %s, %s, 'succeeded', 'settles', 'webhook', %s)",
            (intent, order, TOTAL, CURRENCY, moment),
        )
        connection.execute(
            "INSERT INTO order_events (order_id, kind, from_status, to_status, cause, actor, "
            "stripe_event_id, detail, at) "
            "VALUES (%s, 'transition', 'pending_payment', %s, 'webhook', '', %s, 'paid', %s)",
            (order, status, one.event_id, moment),
        )
        connection.execute(
            "INSERT INTO outbox (kind, key, order_id, payload, state, tries, next_at, created_at) "
            "VALUES ('receipt', %s, %s, '{}', 'new', 0, %s, %s)",
            (order, order, moment, moment),
        )
        for product, units in one.lines:
            connection.execute(
                "UPDATE products SET on_hand = on_hand - %s, held = held - %s, sold = sold + %s "
                "WHERE id = %s AND held >= %s",
                (units, units, units, product, units),
            )


def _main() -> None:
    told = [Purchase(**json.loads(line)) for line in sys.stdin if line.strip()]
    with psycopg.connect(sys.argv[1]) as connection:
        print(settle_all(connection, told))


if __name__ == "__main__":
    _main()
