from __future__ import annotations

import json
from collections import Counter

import pytest
import stripe

import sandbox
from tests.sandbox.drive import (
    SECRET,
    a_session,
    client,
    deliver_all,
    event_types,
    http_call,
    open_session,
    paid_intent,
)

CREATE = "POST /v1/checkout/sessions"


def create(api, key="k1"):
    return api.checkout.sessions.create(a_session(), {"idempotency_key": key})


def sessions(box):
    return list(box.store.objects["checkout.session"])


# -- webhooks -------------------------------------------------------------------------------------


def test_dropped_webhooks_never_come_but_the_event_list_has_them(box, api):
    box.chaos.drop_pct = 100
    paid_intent(box, api)
    box.advance(4 * 86_400)

    assert deliver_all(box) == []
    missed = api.events.list({"delivery_success": False, "type": "payment_intent.succeeded"})
    assert len(missed.data) == 1


def test_some_of_the_webhooks_are_dropped_by_a_percentage(box, api):
    box.chaos.drop_pct = 30
    for _ in range(40):
        paid_intent(box, api)

    assert 100 < len(deliver_all(box)) < 180  # of 200


def test_delayed_webhooks_set_out_later(box, api):
    box.chaos.delay_s = 20
    paid_intent(box, api)

    box.advance(19)
    assert deliver_all(box) == []
    box.advance(1)
    assert len(deliver_all(box)) == 5


def test_duplicated_webhooks_are_the_same_event_again(box, api):
    box.chaos.duplicate = 2
    api.customers.create({"name": "Maya"})

    ids = [event["id"] for event in deliver_all(box)]
    assert len(ids) == 3
    assert len(set(ids)) == 1


def test_reordered_webhooks_are_all_there_in_another_order(box, api):
    box.chaos.reorder = True
    paid_intent(box, api)

    types = [event["type"] for event in deliver_all(box)]
    assert types != event_types(box)
    assert sorted(types) == sorted(event_types(box))


@pytest.mark.parametrize("switch", ["wrong_secret_pct", "stale_signature_pct"])
def test_a_bad_signature_does_not_verify_and_the_next_try_does(box, api, switch):
    setattr(box.chaos, switch, 100)
    api.customers.create({"name": "Maya"})

    def verify(body, headers):
        try:
            stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
        except stripe.SignatureVerificationError:
            return 400
        return 200

    assert box.attempt(box.due()[0], verify) == 400
    box.chaos.clear()
    box.advance(2)
    assert box.attempt(box.due()[0], verify) == 200


def test_events_can_claim_an_old_api_version(box, api):
    box.chaos.old_api_version = True
    api.customers.create({"name": "Maya"})

    assert deliver_all(box)[0]["api_version"] == "2024-06-20"


@pytest.mark.parametrize(
    ("webhooks", "now", "later"),
    [("late", 0, 5), ("lost", 0, 0), ("twice", 10, 0), ("shuffled", 5, 0)],
)
def test_one_payment_can_have_its_own_trouble(box, api, webhooks, now, later):
    trouble, calm = open_session(api), open_session(api)
    box.pay(trouble, webhooks=webhooks)
    box.pay(calm)

    intents = {id: api.checkout.sessions.retrieve(id).payment_intent for id in (trouble, calm)}

    def about(events, session):
        known = (session, intents[session])
        return [
            e["type"]
            for e in events
            if e["data"]["object"]["id"] in known
            or e["data"]["object"].get("payment_intent") in known
        ]

    sent = deliver_all(box)
    assert len(about(sent, calm)) == 5
    assert len(about(sent, trouble)) == now
    if webhooks == "shuffled":
        assert about(sent, trouble) != about(sent, calm)
    box.advance(20)
    assert len(deliver_all(box)) == later


# -- API calls ------------------------------------------------------------------------------------


def test_a_500_before_any_effect_is_healed_by_the_same_key(box, api):
    box.chaos.error_500 = 1

    with pytest.raises(stripe.APIError) as caught:
        create(api)
    assert caught.value.http_status == 500
    assert sessions(box) == []
    assert create(api).status == "open"


def test_a_stored_500_is_replayed_and_has_no_effect(box, api):
    box.chaos.stored_500 = 1

    for _ in range(2):
        with pytest.raises(stripe.APIError) as caught:
            create(api)
    assert caught.value.headers["Idempotent-Replayed"] == "true"
    assert sessions(box) == []
    assert create(api, "k2").status == "open"


def test_a_cut_after_the_effect_loses_the_answer_but_not_the_work(box, api):
    box.chaos.effect_then_cut = 1

    with pytest.raises(stripe.APIConnectionError):
        create(api)
    assert len(sessions(box)) == 1
    again = create(api)

    assert sessions(box) == [again.id]
    assert again.last_response.headers["Idempotent-Replayed"] == "true"


def test_the_sdks_own_retry_survives_a_cut(box):
    box.chaos.effect_then_cut = 1

    session = create(client(box, max_network_retries=2).v1)

    assert sessions(box) == [session.id]


def test_too_many_requests_are_not_retried_by_the_sdk(box):
    box.chaos.rate_429 = 1

    with pytest.raises(stripe.RateLimitError) as caught:
        create(client(box, max_network_retries=2).v1)
    assert caught.value.json_body["error"]["code"] == "rate_limit"
    assert sessions(box) == []


def test_a_conflict_is_retried_by_the_sdk(box):
    box.chaos.conflict_409 = 1

    create(client(box, max_network_retries=1).v1)

    assert [r["status"] for r in box.requests] == [409, 200]


def test_a_hung_call_does_its_work_and_answers_in_the_end(box, api):
    box.chaos.hang, box.chaos.hang_s = 1, 0.05

    assert create(api).status == "open"


def test_faults_hit_only_the_calls_they_are_meant_for(box, api):
    box.chaos.error_500 = {"next": 1, "only": CREATE}

    api.customers.create({"name": "Maya"})
    id = create_after_failure(api)

    assert api.checkout.sessions.expire(id).status == "expired"


def create_after_failure(api):
    with pytest.raises(stripe.APIError):
        create(api)
    return create(api).id


def test_one_filter_serves_every_fault_that_has_none(box, api):
    box.chaos.only = "POST /v1/refunds"
    box.chaos.error_500.pct = 100

    create(api)
    with pytest.raises(stripe.APIError):
        api.refunds.create({"payment_intent": "pi_x"})


def test_a_percentage_of_calls_fails(box, api):
    box.chaos.rate_429.pct = 50
    answers = Counter()
    for n in range(60):
        try:
            api.customers.create({"name": f"{n}"})
            answers["ok"] += 1
        except stripe.RateLimitError:
            answers["limited"] += 1

    assert answers["ok"] > 10
    assert answers["limited"] > 10


@pytest.mark.parametrize(
    ("outage", "error"), [("503", stripe.APIError), ("refused", stripe.APIConnectionError)]
)
def test_in_an_outage_no_call_gets_through_and_shoppers_can_still_pay(box, api, outage, error):
    session = create(api)
    box.chaos.outage = outage

    with pytest.raises(error):
        api.checkout.sessions.retrieve(session.id)
    assert http_call(session.url)[0] == 200
    assert box.pay(session.id)["outcome"] == "paid"
    box.chaos.outage = ""
    assert api.checkout.sessions.retrieve(session.id).status == "complete"


def test_an_intent_born_late_is_named_by_its_session_only_when_complete(box, api):
    box.chaos.intent_born_late = True
    id = open_session(api)
    box.pay(id, "4000000000000002")

    assert "payment_intent.payment_failed" in event_types(box)
    assert api.checkout.sessions.retrieve(id).payment_intent is None
    box.pay(id)
    assert api.checkout.sessions.retrieve(id).payment_intent.startswith("pi_")


def test_events_can_arrive_before_the_answer_to_the_call(box, api):
    heard = []
    box.inline_sender = lambda body, headers: heard.append(json.loads(body)["type"]) or 200
    box.chaos.events_before_answer = True

    api.customers.create({"name": "Maya"})

    assert heard == ["customer.created"]


def test_a_driver_without_http_gets_the_cut_raised():
    box = sandbox.create_sandbox(deliver=False)
    box.chaos.outage = "refused"
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/v1/customers",
        "HTTP_AUTHORIZATION": "Bearer sk_test_x",
    }

    with pytest.raises(sandbox.Cut):
        box.wsgi(environ, lambda *_: None)
    box.chaos.outage, box.chaos.hang = "", 1
    with pytest.raises(sandbox.Cut):  # it could not wait: the time is not the real one
        box.wsgi(environ, lambda *_: None)


# -- the panel ------------------------------------------------------------------------------------


def test_switches_are_read_and_set_over_http(box, api):
    url = f"{box.url}/_sandbox/chaos"
    settings = {"drop_pct": 10, "error_500": {"next": 2}, "rate_429": 1, "outage": False}
    status, _, told = http_call(url, "POST", as_json=settings)

    assert status == 200
    assert json.loads(told)["error_500"] == {"next": 2, "pct": 0.0, "only": ""}
    assert (box.chaos.drop_pct, box.chaos.rate_429.next) == (10.0, 1)
    assert json.loads(http_call(url)[2]) == json.loads(told)
    http_call(url, "POST", as_json={"clear": True})
    assert box.chaos.is_calm


@pytest.mark.parametrize(
    "settings", [{"no_such": 1}, {"drop_pct": "many"}, {"error_500": {"x": 1}}]
)
def test_a_switch_that_is_not_there_is_refused(box, settings):
    status, _, told = http_call(f"{box.url}/_sandbox/chaos", "POST", as_json=settings)

    assert status == 400
    assert json.loads(told)["error"]


def test_the_panel_shows_and_sets_every_switch_as_a_plain_form(box, api):
    paid_intent(box, api)
    deliver_all(box, status=503)
    page = http_call(f"{box.url}/_sandbox/")[2]

    for name in box.chaos.as_dict():
        assert name == "seed" or f'name="{name}' in page, name
    assert "checkout.session.completed" in page
    assert "503 after 1 try" in page
    form = {"drop_pct": "5", "reorder": "on", "hang.next": "2", "hang.pct": "0", "outage": "503"}
    status, headers, _ = http_call(f"{box.url}/_sandbox/chaos", "POST", form=form)
    assert (status, headers["Location"]) == (303, "/_sandbox/")
    assert (box.chaos.reorder, box.chaos.hang.next, box.chaos.outage) == (True, 2, "503")
    off = http_call(f"{box.url}/_sandbox/chaos", "POST", form={**form, "clear": "1"})
    assert (off[0], box.chaos.is_calm) == (303, True), "though a browser sends every switch along"


def test_everything_a_test_needs_can_be_done_over_http(box, api):
    def post(name, **asked):
        return json.loads(http_call(f"{box.url}/_sandbox/{name}", "POST", as_json=asked)[2])

    def get(name):
        return json.loads(http_call(f"{box.url}/_sandbox/{name}")[2])

    id = open_session(api)
    assert post("pay", session=id, card="4000 0027 6000 3184")["outcome"] == "asks"
    assert post("authenticate", session=id)["outcome"] == "paid"
    assert get("ledger")["payments"][0]["status"] == "succeeded"
    assert get("requests")[0]["path"] == "/v1/checkout/sessions"
    assert [d["state"] for d in get("deliveries")] == ["waiting"] * 6
    assert post("flush")["tried"] == 6  # nobody listens there, and each is tried
    assert {d["tries"] for d in get("deliveries")} == {1}
    assert post("clock", advance_s=60)["ahead_s"] == pytest.approx(60, abs=1)
    post("reset")
    assert get("ledger")["payments"] == []
    assert len(api.webhook_endpoints.list().data) == 1
