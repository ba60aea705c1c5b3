"""The counter's page of whom the shop tells, and how that fares."""

from __future__ import annotations

import re

import pytest

from models import OutboxMessage
from services import outbox
from tests.counter.door import Colleague, audit
from tests.counter.scenes import a_paid_order
from tests.pages.conftest import signed_in
from tests.seams.sink import Sink
from tests.seams.test_webhooks_out import for_hours, states
from tests.shop import Shop

PAGE = "/admin/webhook-targets"


@pytest.mark.accept("X21")
def test_a_target_that_takes_everything_says_so(lite: Shop, sink: Sink) -> None:
    order = a_paid_order(lite)
    lite.work()

    page = signed_in(lite).get(PAGE).text

    assert "127.0.0.1" in page and "/orders<" not in page, "a path may hold a secret"
    assert "All taken" in page and "order.confirmed" in page
    assert f'href="/admin/orders/{order.order_id}"' in page
    assert "Send again" not in page


@pytest.mark.accept("X21")
def test_what_gave_up_is_sent_again_by_a_press(lite: Shop, sink: Sink) -> None:
    sink.answers = [502] * 500
    a_paid_order(lite)
    a_paid_order(lite)
    for_hours(lite, 150)  # the second rests until the first has given up
    admin = signed_in(lite)
    page = admin.get(PAGE).text
    assert "2 gave up" in page and "answered 502" in page
    name = re.search(r'name="delivery" value="([^"]+)"', page)
    code = re.search(r'name="target" value="([^"]+)"', page)
    assert name and code
    sink.answers = []

    assert admin.post(f"{PAGE}/replays", {"delivery": name[1]}).status_code == 303
    assert "It is sent again." in admin.get(PAGE).text
    outbox.drain()
    assert sorted(states(lite)) == ["dead", "done"]
    admin.post(f"{PAGE}/replays", {"delivery": name[1]})
    assert "Nothing was waiting for that" in admin.get(PAGE).text
    admin.post(f"{PAGE}/replays", {"target": code[1]})
    outbox.drain()

    assert states(lite) == ["done", "done"] and len(sink.types) == 2
    assert [row.state for row in lite.exceptions()] == ["resolved"] * 2
    assert len(audit(lite, "replayed")) == 2


@pytest.mark.parametrize("form", [{}, {"delivery": "receipt:x"}, {"delivery": "refund:1"}])
def test_nothing_but_webhooks_is_sent_again_there(lite: Shop, form: dict[str, str]) -> None:
    order = a_paid_order(lite)
    form = {name: value.replace("x", order.order_id) for name, value in form.items()}

    answer = signed_in(lite).post(f"{PAGE}/replays", form)

    assert answer.status_code == 404
    assert {row.state for row in lite.rows(OutboxMessage)} <= {"done", "new"}


def test_a_viewer_sees_and_presses_nothing(lite: Shop, sink: Sink) -> None:
    sink.answers = [502] * 500
    a_paid_order(lite)
    for_hours(lite, 73)
    viewer = Colleague(lite, "viewer@example.com")
    viewer.comes_by_link("viewer")

    page = viewer.get(PAGE).text

    assert "1 gave up" in page and "Send again" not in page
    assert viewer.post(f"{PAGE}/replays", {"target": "x"}).status_code == 403


def test_a_shop_that_tells_nobody_says_how_to_begin(any_database: Shop) -> None:
    assert "WEBHOOK_TARGETS" in signed_in(any_database).get(PAGE).text
