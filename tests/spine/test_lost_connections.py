"""A connection to the database that dies midway is said as that, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from extensions import atomic, db, in_transaction, reading
from services import cart
from storm.processes.servers import for_libpq
from tests.shop import Shop


@pytest.fixture
def connection_dies(postgres_shop: Shop, postgres_url: str) -> Iterator[Callable[[], None]]:
    """Call it inside a transaction: the server hangs up on whoever asked last."""
    with psycopg.connect(for_libpq(postgres_url), autocommit=True) as console:

        def die() -> None:
            backend = db.session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            console.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))

        yield die


@pytest.mark.fault("F28")
def test_a_connection_lost_while_reading_is_an_outage_and_no_riddle(
    connection_dies: Callable[[], None],
) -> None:
    with pytest.raises(OperationalError), reading() as session:
        connection_dies()
        session.execute(text("SELECT 1"))

    assert not in_transaction()
    with reading() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1


@pytest.mark.fault("F28")
def test_a_connection_lost_after_the_last_read_stops_nobody_who_comes_later(
    connection_dies: Callable[[], None],
) -> None:
    with pytest.raises(OperationalError), reading():
        connection_dies()

    assert not in_transaction()
    with atomic() as session:
        session.execute(text("SELECT 1"))


@pytest.mark.fault("F28")
def test_a_page_whose_connection_dies_says_that_it_is_back_in_a_moment(
    postgres_shop: Shop, connection_dies: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = cart.view

    def view_of_a_dying_shop(*args: object) -> object:
        with reading() as session:
            connection_dies()
            session.execute(text("SELECT 1"))
        return view(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(cart, "view", view_of_a_dying_shop)
    answer = postgres_shop.shopper().get("/cart")

    assert answer.status_code == 503
    assert "Back in a moment" in answer.text
