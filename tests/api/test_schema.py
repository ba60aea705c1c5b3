"""The API held against its own description, by calls that somebody made up.

schemathesis reads the OpenAPI file as it is served and makes calls that fit it and calls that do
not; each answer must be one that the file names, in the shape that it names.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS

from services import links
from tests.pages.conftest import signed_in
from tests.pages.forms import a_body
from tests.shop import MUG, ORIGIN, Checkout, Shop, outside

# Of each call and kind; the whole takes seconds then. API_EXAMPLES=200 for a long run.
EXAMPLES = int(os.environ.get("API_EXAMPLES", "5"))
PROMISES = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
CALLS = 19  # operations in the file


@pytest.fixture
def bought(sqlite_shop: Shop) -> Checkout:
    shopper = sqlite_shop.shopper()
    checkout = shopper.buy()
    checkout.pay()
    sqlite_shop.deliver_and_work()
    return checkout


@pytest.mark.parametrize("kind", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
def test_every_answer_is_one_that_the_file_names(
    sqlite_shop: Shop, bought: Checkout, kind: GenerationMode, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = sqlite_shop
    config = schemathesis.Config()
    config.projects.default.generation.update(with_security_parameters=False)  # ours are real
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", shop.app, config=config)
    people = everybody(shop, bought)
    ids = [bought.order_id, str(bought.session["payment_intent"]), bought.session_id]
    told: Counter[tuple[str, int]] = Counter()
    checks = [CHECKS.get_one(name) for name in PROMISES]
    spared = [CHECKS.get_one("not_a_server_error")]  # whoever asks if it is ready may hear: 503
    operations = [found.ok() for found in schema.get_all_operations()]

    def try_out(operation: Any) -> None:
        @given(
            case=operation.as_strategy(generation_mode=kind),
            who=st.sampled_from(sorted(people)),
            known=st.one_of(st.none(), st.sampled_from(ids)),
        )
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=EXAMPLES < 50,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        def call(case: Case, who: str, known: str | None) -> None:
            if known:
                make_real(case, known)
            browser, headers = people[who]
            case.headers.update(headers)
            answer = outside(case.call, session=browser, base_url=ORIGIN)
            told[f"{operation.method.upper()} {operation.path}", answer.status_code] += 1
            ready = operation.path == "/readyz"
            case.validate_response(answer, checks=checks, excluded_checks=spared if ready else [])

        call()

    assert len(operations) == CALLS
    for operation in operations:
        try:
            try_out(operation)
        except Unsatisfiable:  # nothing can be wrong with no input, or with any text
            assert kind is GenerationMode.NEGATIVE and not operation.body

    with capsys.disabled():
        if EXAMPLES > 50:
            print(f"\n{kind}: {told.total()} calls", *sorted(told.items()), sep="\n")  # noqa: T201


def make_real(case: Case, known: str) -> None:
    """Let a made-up call name something that there is."""
    for name in case.path_parameters or {}:
        case.path_parameters[name] = known
    if not isinstance(case.body, dict):
        return
    for name in ("checkoutAttemptId", "paymentIntentId"):
        if isinstance(case.body.get(name), str):
            case.body[name] = known
    items = case.body.get("items")
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("sku"), str):
            item["sku"] = MUG
            break


def everybody(shop: Shop, bought: Checkout) -> dict[str, tuple[FlaskClient, dict[str, str]]]:
    """All kinds of callers: their browser, and the headers that they send."""
    open_ = shop.shopper()
    open_.json("PUT", "/api/cart", {"items": [{"sku": MUG, "quantity": 1}]})
    assert open_.json("POST", "/api/payments/create-checkout-session", a_body()).status_code == 201
    people = {
        "owner": bought.shopper,
        "admin": signed_in(shop),
        "shopper": open_,
        "guest": shop.shopper(),
    }
    callers = {
        name: (person.browser, {"X-CSRFToken": person.token()}) for name, person in people.items()
    }
    order = shop.order(bought.order_id)
    assert order
    bearer = {"Authorization": f"Bearer {links.token(order)}"}
    return {
        **callers,
        "program": (shop.app.test_client(), bearer),
        "nobody": (shop.app.test_client(), {}),
    }
