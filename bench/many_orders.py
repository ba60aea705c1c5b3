"""``python -m bench.many_orders``: the counter's list with a million orders against ten thousand.

The same pages are asked of two shops in turns, on one PostgreSQL; one JSON line for each, as in
``python -m bench``. A page that is listed costs all that it shows: rows, views with their counts,
alerts. Goal: at most twice as long with a hundred times as many orders.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlencode

import psycopg
import requests

from bench.figures import Figure
from bench.servers import ROOT, Servers, Unavailable

GOAL = 2.0
FEW, MANY = 10_000, 1_000_000
LIST = "/admin/orders"
# Orders of a shop that works: few wait and few are to be sent, whatever lies behind it; some of
# what lies behind was never paid, some was refunded. One customer in a thousand has a rare name.
ROWS = """
CREATE TEMP TABLE made AS SELECT n, gen_random_uuid()::text AS id,
  now() - (%(orders)s - n) * interval '40 seconds' AS at,
  CASE WHEN n > %(orders)s - 40 THEN 'pending_payment' WHEN n > %(orders)s - 400 THEN
  'payment_confirmed' WHEN n %% 50 = 0 THEN 'expired' ELSE 'delivered' END AS status,
  (ARRAY['Maya Lindqvist', 'Jonas Weber', 'Priya Raman', 'Tom Okafor', 'Hanna Kowalski',
  'Sam Ito', 'Ben Adler', 'Aoife Byrne'])[1 + n %% 8] AS name FROM generate_series(1, %(orders)s) n;
UPDATE made SET name = 'Zoë Ünalan' WHERE n %% 1000 = 7;
INSERT INTO checkout_attempts (id, shopper_id, strategy, payment_ui, fingerprint, snapshot,
  currency, subtotal, shipping, total, state, status, is_processing, hold, lines_out, deadline,
  created_at, closed_at, purged_at, next_look_at)
SELECT id, id, 'order_first', 'hosted', '', '{"lines": []}', 'eur', 1800, 490, 2290,
  CASE status WHEN 'pending_payment' THEN 'open' WHEN 'expired' THEN 'closed' ELSE 'settled' END,
  status, false, 'sold', true, at + interval '1 hour', at, at, at,
  now() + interval '1 day' FROM made;
INSERT INTO orders (id, checkout_attempt_id, number, strategy, status, payment_status,
  is_provisional, sync_status, sync_attempts, currency, subtotal, discount, shipping, tax, total,
  refunded, name, email, payment_intent, paid_at, paid_lane, link_version, version, created_at,
  updated_at, address)
SELECT id, id, 10000 + n, 'order_first', status, CASE status WHEN 'pending_payment' THEN 'pending'
  WHEN 'expired' THEN 'cancelled' ELSE CASE WHEN n %% 100 = 3 THEN 'refunded' ELSE 'paid' END END,
  false, 'synced', 0, 'eur', 1800 + n %% 5000, 0, 490, 0, 2290 + n %% 5000,
  CASE WHEN n %% 100 = 3 AND status = 'delivered' THEN 2290 ELSE 0 END, name,
  lower(split_part(name, ' ', 1)) || n || '@example.com',
  CASE WHEN status IN ('delivered', 'payment_confirmed') THEN 'pi_' || n END,
  CASE WHEN status IN ('delivered', 'payment_confirmed') THEN at + interval '20 seconds' END,
  'webhook', 1, 1, at, at, '{}' FROM made;
INSERT INTO order_items (order_id, sku, title, subtitle, picture, unit_amount, quantity, state)
SELECT id, 'SKU-' || n %% 200, 'Thing ' || n %% 200, '', '', 1800, 1, 'active' FROM made;
INSERT INTO payments (payment_intent, attempt_id, amount, currency, state, role, part, method,
  charge_id, lane, created_at)
SELECT 'pi_' || n, id, 2290, 'eur', 'succeeded', 'settles', '',
  'Visa ···· ' || lpad((n %% 10000)::text, 4, '0'), 'ch_' || n, 'webhook', at
  FROM made WHERE status IN ('delivered', 'payment_confirmed');
"""


@dataclass
class Counter:
    """Somebody at the counter of one of the two shops."""

    origin: str
    browser: requests.Session

    def ms(self, wish: dict[str, str]) -> float:
        """How long one page took."""
        started = time.perf_counter()
        answer = self.browser.get(f"{self.origin}{LIST}?{urlencode(wish)}", timeout=120)
        took = time.perf_counter() - started
        if answer.status_code != 200 or "Sign out" not in answer.text:
            raise Unavailable(f"{wish} was answered {answer.status_code}")
        return took * 1000


def main() -> int:
    asked = _arguments()
    with ExitStack() as stack:
        try:
            servers = Servers(stack)
            few = _open(servers, "few", asked.few)
            many = _open(servers, "many", asked.many)
        except Unavailable as reason:
            print(f"not measured: {reason}", file=sys.stderr)
            return 2
        for name, wish in _wishes(asked.few):
            figure = Figure(name, GOAL, "ms", f"{asked.few:,} orders", at_most=True)
            for side in (few, many):
                side.ms(wish)  # the first one reads from the disk
            for _ in range(asked.rounds):
                ours = median(many.ms(wish) for _ in range(5))
                figure.add(ours, median(few.ms(wish) for _ in range(5)))
            print(json.dumps(figure.as_dict()), flush=True)
    return 0


def _wishes(few: int) -> list[tuple[str, dict[str, str]]]:
    """What is asked, of orders that both shops have."""
    number = few // 2 - few // 2 % 1000 + 8
    third = {"after": f"{time.time() - 40 * few / 3:.6f}_0"}
    views = ("to-ship", "confirming", "exceptions", "refunds", "disputes", "ended")
    return [
        ("order_list", {}),
        ("order_list_a_third_down", third),
        *((f"view_{view}", {"view": view}) for view in views),
        ("search_email", {"q": f"maya{number}@example.com"}),
        ("search_part_of_a_rare_name", {"q": "ünal"}),
        ("search_part_of_a_common_name", {"q": "lindq"}),
        ("search_part_of_no_name", {"q": "xyzzy"}),
        ("search_number", {"q": f"NL-{10000 + number}"}),
        ("search_amount", {"q": "23.98"}),
        ("search_last4", {"q": "0108"}),
        ("search_payment", {"q": f"pi_{number}"}),
        ("filter_refunded", {"payment": "refunded"}),
        ("filter_product_and_amount", {"sku": "SKU-7", "least": "20"}),
    ]


def _open(servers: Servers, name: str, orders: int) -> Counter:
    """A shop with so many orders, and somebody signed in at its counter."""
    database = f"{servers.postgres}/{name}"
    with psycopg.connect(f"{servers.postgres}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    env = {**servers.env, "DATABASE_URL": database}
    servers.env = env
    servers.upgrade_shop()
    started = time.monotonic()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # no keys to be looked up
        for statement in filter(str.strip, ROWS.split(";\n")):
            connection.execute(statement, {"orders": orders})
        connection.execute("VACUUM ANALYZE")
    took = time.monotonic() - started
    print(f"{orders:,} orders made in {took:.0f} s", file=sys.stderr, flush=True)
    web = servers.web("app:create_app()", name, DATABASE_URL=database)
    link = subprocess.run(
        [sys.executable, "-m", "flask", "admin", "create", "bench@example.com"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    return _signed_in(f"http://127.0.0.1:{web.port}", link.rpartition("token=")[2])


def _signed_in(origin: str, token: str) -> Counter:
    browser = requests.Session()
    page = browser.get(f"{origin}/admin/login?token={token}", timeout=30).text
    found = re.search(r'name="csrf-token" content="([^"]+)"', page)
    form = {"token": token, "csrf_token": found[1] if found else ""}
    answer = browser.post(f"{origin}/admin/login", data=form, timeout=30)
    if "Sign out" not in answer.text:
        raise Unavailable(f"nobody is let in: {answer.status_code}")
    return Counter(origin, browser)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.many_orders", description=__doc__)
    parser.add_argument("--few", type=int, default=FEW)
    parser.add_argument("--many", type=int, default=MANY)
    parser.add_argument("--rounds", type=int, default=5, help="how often each pair is measured")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
