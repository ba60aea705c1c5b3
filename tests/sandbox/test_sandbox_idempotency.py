from __future__ import annotations

import threading

import pytest
import stripe

from tests.sandbox.drive import a_session, client, open_session, paid_intent


def create(api, key, **changes):
    return api.checkout.sessions.create(a_session(**changes), {"idempotency_key": key})


def sessions(box):
    return list(box.store.objects["checkout.session"])


def test_the_same_key_and_parameters_give_the_first_answer_again(box, api):
    first = create(api, "k1")
    box.pay(first.id)
    again = create(api, "k1")

    assert again.to_dict() == first.to_dict()  # as it was then, not as it is now
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert again.last_response.headers["Idempotency-Key"] == "k1"
    assert again.last_response.headers["Original-Request"] == first.last_response.request_id
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert sessions(box) == [first.id]


def test_the_same_key_with_other_parameters_is_an_error(box, api):
    create(api, "k1")

    with pytest.raises(stripe.IdempotencyError):
        create(api, "k1", client_reference_id="another")
    with pytest.raises(stripe.IdempotencyError):
        api.refunds.create({"payment_intent": "pi_x"}, {"idempotency_key": "k1"})
    assert len(sessions(box)) == 1


def test_a_refused_request_leaves_its_key_free(box, api):
    with pytest.raises(stripe.InvalidRequestError):
        create(api, "k1", mode=None)

    assert create(api, "k1").status == "open"


def test_an_error_of_the_work_itself_is_kept(box, api):
    intent = paid_intent(box, api)
    too_much = {"payment_intent": intent, "amount": 9999}

    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            api.refunds.create(too_much, {"idempotency_key": "r1"})

    assert caught.value.headers["Idempotent-Replayed"] == "true"


def test_a_key_is_forgotten_after_a_day(box, api):
    first = create(api, "k1")
    box.advance(86_400)

    assert create(api, "k1").id != first.id


def test_a_key_longer_than_255_characters_is_refused(api):
    with pytest.raises(stripe.IdempotencyError):
        create(api, "k" * 256)


def test_a_key_in_use_is_a_conflict_and_not_a_second_session(box, api):
    box.chaos.hang = {"next": 1, "only": "POST /v1/checkout/sessions"}
    box.chaos.hang_s = 60
    patient = client(box, http_client=stripe.RequestsClient(timeout=0.2))

    with pytest.raises(stripe.APIConnectionError):
        create(patient.v1, "k1")
    with pytest.raises(stripe.APIError) as caught:
        create(api, "k1")
    box.advance(60)

    assert caught.value.http_status == 409
    assert caught.value.json_body["error"]["code"] == "idempotency_key_in_use"
    assert create(api, "k1").id == sessions(box)[0]
    assert len(sessions(box)) == 1


def test_twenty_calls_at_once_with_one_key_make_one_session(box, api):
    ids: list[str] = []

    def call() -> None:
        ids.append(create(client(box, max_network_retries=5).v1, "k1").id)

    threads = [threading.Thread(target=call) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 20
    assert set(ids) == set(sessions(box))
    assert len(sessions(box)) == 1


def test_a_read_takes_no_notice_of_a_key(box, api):
    id = open_session(api)
    options = {"idempotency_key": "k1"}
    before = api.checkout.sessions.retrieve(id, {}, options)
    box.pay(id)

    after = api.checkout.sessions.retrieve(id, {}, options)
    assert (before.status, after.status) == ("open", "complete")
