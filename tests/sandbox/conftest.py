"""A served sandbox, Stripe's own SDK to call it, and an eye on everything it says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import sandbox
from sandbox import events, server
from sandbox.contract import check
from tests.sandbox.drive import SECRET, Listener, client

ENOUGH = 3  # of each type of event in one test; measuring hundreds alike only takes time


server.NOTICE_STOP_S = 0.002  # two hundred sandboxes are stopped here, each waiting that long


class Watched:
    """The sandbox's WSGI app; remembers what was wrong with any answer of the API."""

    def __init__(self, box: sandbox.Sandbox) -> None:
        self._inner = box.wsgi
        self.problems: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        answer = list(self._inner(environ, start_response))
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/v1/") and method != "OPTIONS":
            problems = check.object_problems(json.loads(b"".join(answer)))
            if "pk_test_" in environ.get("HTTP_AUTHORIZATION", ""):
                # A browser is shown less of an intent, but nothing else.
                problems = [p for p in problems if "is a required property" not in p]
            self.problems += [f"{method} {path}: {p}" for p in problems]
        return answer


@pytest.fixture
def box() -> Iterator[sandbox.Sandbox]:
    """Served over HTTP; nobody delivers webhooks unless the test does.

    Whatever a test makes it say must be something that Stripe could say.
    """
    made = sandbox.create_sandbox(
        webhook_url="http://127.0.0.1:9/hook", webhook_secret=SECRET, deliver=False
    )
    made.wsgi = watched = Watched(made)
    made.start()
    yield made
    made.close()
    assert watched.problems == []
    seen = Counter()
    for record in made.store.objects["event"].values():
        seen[record["type"]] += 1
        if seen[record["type"]] <= ENOUGH:
            event = json.loads(events.render(record))
            assert check.object_problems(event) == [], event["type"]


@pytest.fixture
def api(box: sandbox.Sandbox) -> Any:
    return client(box).v1


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()
