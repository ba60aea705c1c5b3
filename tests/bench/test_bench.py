"""The bench measures what it says: its client, its events, its figures, and one tiny run."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench import client, events, goods
from bench.figures import Figure
from bench.servers import SECRET
from tests.plugins.services import cannot_run

ROOT = Path(__file__).resolve().parent.parent.parent


class _Counter(BaseHTTPRequestHandler):
    """Answers 200, but 503 to an empty body, and hangs up after every tenth answer."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(body)
        answer = b"" if not body else b"thank you"
        self.send_response(200 if body else 503)
        self.send_header("Content-Length", str(len(answer)))
        if len(self.bodies) % 10 == 0:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def _post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_the_client_sends_every_request_once_and_counts_the_answers() -> None:
    _Counter.bodies = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Counter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wanted = [str(number).encode() for number in range(60)]
    try:
        load = client.run(server.server_port, [*map(_post, wanted), _post(b"")], connections=4)
    finally:
        server.shutdown()
        server.server_close()

    assert sorted(_Counter.bodies) == sorted([*wanted, b""])
    assert load.statuses == {"200": 60, "503": 1}
    assert load.requests == 61
    assert 0 < load.ended - load.started < 30


def test_an_event_is_a_signed_paid_session_of_the_size_that_is_promised() -> None:
    purchase = goods.purchases(1)[0]

    head, _, body = events.request(purchase, "/webhook").partition(b"\r\n\r\n")

    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    stamp, mac = (part.split("=", 1)[1] for part in headers["Stripe-Signature"].split(","))
    expected = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256)
    assert hmac.compare_digest(mac, expected.hexdigest())
    assert len(body) == 4_800 == int(headers["Content-Length"])
    session = json.loads(body)["data"]["object"]
    assert (session["payment_status"], session["metadata"]) == (
        "paid",
        {"checkout_attempt_id": purchase.attempt_id},
    )


def test_no_two_purchases_share_an_id() -> None:
    made = goods.purchases(1_000)

    for name in ("attempt_id", "session_id", "intent_id", "event_id"):
        assert len({getattr(one, name) for one in made}) == 1_000
    assert len({len(events.body(one)) for one in made}) == 1


def test_a_figure_is_the_median_of_its_rounds_and_not_moved_by_one_bad_one() -> None:
    figure = Figure("ingest_vs_hello", 0.3, "requests/s", "hello")
    for ours, theirs in ((40, 100), (1, 100), (36, 100)):
        figure.add(ours, theirs)

    said = figure.as_dict()

    assert said["ratio"] == 0.36
    assert said["met"] is True
    assert said["rounds"] == [0.4, 0.01, 0.36]


@pytest.mark.parametrize(("ratio", "met"), [(4.0, True), (4.1, False)])
def test_a_cost_may_be_at_most_its_goal(ratio: float, met: bool) -> None:
    figure = Figure("ingest_cpu", 4.0, "ms", "hello", at_most=True)
    figure.add(ratio, 1.0)

    assert figure.met is met


def test_a_tiny_run_measures_every_figure_with_all_work_done(
    request: pytest.FixtureRequest,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    if done.returncode == 2:
        cannot_run(request.config, "the bench", done.stderr.strip()[-300:])

    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["figure"] for one in said] == [
        "ingest_vs_hello",
        "ingest_vs_handwritten",
        "ingest_cpu",
        "paid_vs_handwritten",
        "drain_vs_raw",
        "page_beside_streams",
    ]
    assert all(one["ratio"] > 0 and one["ours"] > 0 and one["theirs"] > 0 for one in said)
