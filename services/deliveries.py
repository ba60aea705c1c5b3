"""How the shop's own signed webhooks fare: each target, what it took last, and what it did not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import select

from domain.errors import NotFound
from extensions import reading
from models import OutboxMessage
from services import announcements, outbox

LOOKED_AT = 500  # the newest messages of all targets
SHOWN = 10  # of each, and what has failed comes first


@dataclass(frozen=True, slots=True)
class Target:
    """``host`` is all that is shown of its address, whose path may hold a secret."""

    code: str
    host: str
    delivered: int
    waiting: int
    dead: int
    last_at: datetime | None
    messages: list[Delivery]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one target; ``name`` is what a replay asks for."""

    name: str
    type: str
    order_id: str | None
    state: str
    tries: int
    error: str | None
    created_at: datetime
    done_at: datetime | None


def targets() -> list[Target]:
    """Every target of the settings, with the newest of what it was told."""
    urls = announcements.targets()
    rows = _newest() if urls else []
    return [_target(url, [row for row in rows if _code(row) == _code_of(url)]) for url in urls]


def replay(name: str, actor: str) -> bool:
    """Send one that gave up again. Raises NotFound for what is no webhook of ours; says whether
    it had given up, so that a second press does nothing."""
    kind, _, _ = name.partition(":")
    if kind != announcements.KIND:
        raise NotFound("There is no such delivery.")
    return outbox.replay(name, actor)


def replay_all(code: str, actor: str) -> int:
    """Send all again that gave up at one target; says how many."""
    dead = [row for row in _newest() if row.state == "dead" and _code(row) == code]
    return sum(outbox.replay(f"{row.kind}:{row.key}", actor) for row in dead)


def _newest() -> list[OutboxMessage]:
    with reading() as session:
        return list(
            session.scalars(
                select(OutboxMessage)
                .where(OutboxMessage.kind == announcements.KIND)
                .order_by(OutboxMessage.id.desc())
                .limit(LOOKED_AT)
            )
        )


def _target(url: str, rows: list[OutboxMessage]) -> Target:
    taken = [row for row in rows if row.state == "done" and row.done_at]
    worst_first = sorted(rows, key=lambda row: ("dead", "new", "done").index(row.state))
    return Target(
        code=_code_of(url),
        host=urlsplit(url).hostname or "",
        delivered=len(taken),
        waiting=_count(rows, "new"),
        dead=_count(rows, "dead"),
        last_at=max((row.done_at for row in taken if row.done_at), default=None),
        messages=[_delivery(row) for row in worst_first[:SHOWN]],
    )


def _delivery(row: OutboxMessage) -> Delivery:
    return Delivery(
        name=f"{row.kind}:{row.key}",
        type=row.key.partition(":")[0],
        order_id=row.order_id,
        state=row.state,
        tries=row.tries,
        error=row.error,
        created_at=row.created_at,
        done_at=row.done_at,
    )


def _count(rows: Iterable[OutboxMessage], state: str) -> int:
    return sum(row.state == state for row in rows)


def _code(row: OutboxMessage) -> str:
    return row.key.rpartition(":")[2]


def _code_of(url: str) -> str:
    return announcements.code_of(url)
