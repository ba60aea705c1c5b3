"""A small load generator: keep-alive connections, each sending its next request when answered.

Runs in a process of its own, so that it never waits for the bench's interpreter, and sends bytes
that were made beforehand, so that it takes little of the two cores. ``run`` is what the bench
calls; ``python -m bench.client PORT CONNECTIONS FILE`` is what it starts.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CONNECTIONS = 8  # as many as the server has threads
GIVE_UP_S = 60  # nothing answered for so long: the server hangs


@dataclass(frozen=True)
class Load:
    """What came of a burst; times are seconds, ``started`` and ``ended`` since 1970."""

    statuses: dict[str, int]
    started: float
    ended: float
    p50_ms: float
    p99_ms: float

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    @property
    def per_s(self) -> float:
        return self.requests / (self.ended - self.started)


@dataclass
class _Connection:
    """One keep-alive connection and the answer that it is reading."""

    port: int
    sock: socket.socket = field(init=False)
    received: bytes = b""
    sent_at: float = 0.0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", self.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        self.received = b""
        self.sent_at = time.perf_counter()
        self.sock.sendall(request)

    def answer(self) -> bytes | None:
        """The status and headers of a complete answer, or None while it is still coming."""
        part = self.sock.recv(65536)
        if not part:
            raise ConnectionError("the server hung up in the middle of an answer")
        self.received += part
        head, end, body = self.received.partition(b"\r\n\r\n")
        return head.lower() if end and len(body) >= _length(head.lower()) else None


def run(port: int, requests: Iterable[bytes], connections: int = CONNECTIONS) -> Load:
    """Send every request once, over ``connections`` at a time, and wait for all the answers."""
    with tempfile.TemporaryDirectory(prefix="quittance-load-") as folder:
        file = Path(folder) / "requests"
        with file.open("wb") as written:
            for request in requests:
                written.write(struct.pack("<I", len(request)) + request)
        done = subprocess.run(
            [sys.executable, "-m", "bench.client", str(port), str(connections), str(file)],
            cwd=Path(__file__).resolve().parent.parent,
            stdout=subprocess.PIPE,
            check=True,
        )
    return Load(**json.loads(done.stdout))


def send_all(port: int, requests: list[bytes], connections: int) -> Load:
    waiting = iter(requests)
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    poll = select.epoll()
    open_: dict[int, _Connection] = {}
    for _ in range(min(connections, len(requests))):
        connection = _Connection(port)
        open_[connection.sock.fileno()] = connection
        poll.register(connection.sock, select.EPOLLIN)
    started = time.time()
    for connection in open_.values():
        connection.send(next(waiting))
    while open_:
        ready = poll.poll(GIVE_UP_S)
        if not ready:
            raise TimeoutError(f"no answer for {GIVE_UP_S} s")
        for number, _ in ready:
            connection = open_[number]
            head = connection.answer()
            if head is None:
                continue
            latencies.append(time.perf_counter() - connection.sent_at)
            statuses[head[9:12].decode()] += 1
            request = next(waiting, None)
            if request is None or b"\r\nconnection: close" in head:
                del open_[number]
                connection.sock.close()
            if request is None:
                continue
            if number not in open_:
                connection.open()
                open_[connection.sock.fileno()] = connection
                poll.register(connection.sock, select.EPOLLIN)
            connection.send(request)
    ended = time.time()
    latencies.sort()
    return Load(
        statuses=dict(statuses),
        started=started,
        ended=ended,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
    )


def _length(head: bytes) -> int:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def _read(file: Path) -> Iterator[bytes]:
    content, position = file.read_bytes(), 0
    while position < len(content):
        (length,) = struct.unpack_from("<I", content, position)
        yield content[position + 4 : position + 4 + length]
        position += 4 + length


if __name__ == "__main__":
    load = send_all(int(sys.argv[1]), list(_read(Path(sys.argv[3]))), int(sys.argv[2]))
    print(json.dumps(load.__dict__))
