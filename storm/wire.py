"""The wire between shop and sandbox: Stripe's SDK on one end, the sandbox's WSGI app on the other.

No socket, no waiting. A request takes virtual time to get there and its answer takes time to come
back, and in between anybody else may act or this actor may die.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import stripe

from sandbox import Cut, Sandbox
from storm.stage import Stage

GIVES_UP_AFTER_S = 10.0  # the shop's read timeout
LONGEST_WAY_S = 0.3


class Wire(stripe.HTTPClient):
    """The SDK's HTTP client, on a stage. ``stage`` and ``sandbox`` are set anew for each seed."""

    name = "storm"
    stage: Stage
    sandbox: Sandbox
    on_news: Callable[[], None]

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        """Make one call. Raises the SDK's connection error when the line goes dead."""
        stage, parts = self.stage, urlsplit(url)
        key = (headers or {}).get("Idempotency-Key", "")
        ours = f" (key {key})" if ":" in key else ""  # the SDK's own are chance of the machine's
        call = f"{method.upper()} {parts.path}{ours}"
        stage.calls += 1
        stage.pause(stage.rng.random() * LONGEST_WAY_S)
        try:
            status, said, body = self.speak(method.upper(), parts, headers or {}, post_data)
        except Cut as cut:
            stage.tell(f"{call} is cut off: {cut}")
            stage.pause(GIVES_UP_AFTER_S)
            raise stripe.APIConnectionError(str(cut), should_retry=True) from cut
        stage.tell(f"{call} → {status}{_replayed(said)}{_about(body)}")
        self.on_news()
        stage.pause(stage.rng.random() * LONGEST_WAY_S)
        stage.crossroads(f"after {call} was answered")
        return body, status, said

    def speak(
        self, method: str, parts: Any, headers: Mapping[str, str], post_data: Any
    ) -> tuple[int, dict[str, str], str]:
        """One call to the sandbox's WSGI app, at once and past the stage."""
        sent = post_data.encode() if isinstance(post_data, str) else post_data or b""
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_LENGTH": str(len(sent)),
            "wsgi.input": BytesIO(sent),
            "HTTP_AUTHORIZATION": headers.get("Authorization", ""),
        }
        if "Idempotency-Key" in headers:
            environ["HTTP_IDEMPOTENCY_KEY"] = headers["Idempotency-Key"]
        answer: dict[str, Any] = {}

        def start_response(status: str, said: list[tuple[str, str]]) -> None:
            answer["status"] = int(status.split()[0])
            answer["headers"] = {name.lower(): value for name, value in said}

        body = b"".join(self.sandbox.wsgi(environ, start_response)).decode()
        return answer["status"], answer["headers"], body

    def _sleep_time_seconds(self, num_retries: int) -> float:
        """The SDK's pause before it tries again passes on the stage, not here."""
        self.stage.pause(0.5 * 2 ** (num_retries - 1))
        return 0.0

    def close(self) -> None:
        """Nothing is open."""


def _replayed(headers: Mapping[str, str]) -> str:
    return " (replayed)" if "idempotent-replayed" in headers else ""


def _about(body: str) -> str:
    """The id of what was answered: it stands first in Stripe's objects."""
    start = body.find('"id":"', 0, 40)
    return f" {body[start + 6 : body.index(chr(34), start + 6)]}" if start >= 0 else ""
