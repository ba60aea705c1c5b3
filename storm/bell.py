"""Redis on the stage: flags that run out by the virtual clock, one queue, and days when it is down.

It stands behind the shop's own ``Doorbell``, which is used as it is. What is rung here may be lost
at any time, and nothing may depend on it (rule R6).
"""

from __future__ import annotations

import importlib
from collections import deque
from typing import Any

from redis.exceptions import ConnectionError as RedisDown

from storm.stage import Actor, Stage


class Bell:
    """Connection and queue in one: as much of both as the doorbell uses."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._flags: dict[str, float] = {}
        self._jobs: deque[str] = deque()
        self.is_down = False
        self.listeners: list[Actor] = []

    # -- what the doorbell asks of Redis

    def set(self, name: str, value: Any, *, nx: bool, ex: int) -> bool:
        self._answer()
        now = self._stage.clock.seconds
        if nx and self._flags.get(name, 0.0) > now:
            return False
        self._flags[name] = now + ex
        return True

    def delete(self, name: str) -> None:
        self._answer()
        self._flags.pop(name, None)

    # -- what it asks of RQ

    def enqueue(self, job: str, *ids: str, **options: Any) -> None:
        self._answer()
        self._jobs.append(job)
        for listener in self.listeners:
            self._stage.wake(listener)

    # -- what workers and the weather do

    def take(self) -> Any:
        """The function of the next job, or None."""
        if self.is_down or not self._jobs:
            return None
        module, _, function = self._jobs.popleft().rpartition(".")
        return getattr(importlib.import_module(module), function)

    def flush(self) -> None:
        """Everything in Redis is gone."""
        self._flags.clear()
        self._jobs.clear()

    def _answer(self) -> None:
        if self.is_down:
            raise RedisDown("the bell is silent")
