from __future__ import annotations

import pytest
import stripe

from tests.sandbox.drive import event_types, paid_intent


def charge_of(api, intent):
    return api.payment_intents.retrieve(intent, {"expand": ["latest_charge"]}).latest_charge


def test_a_refund_without_an_amount_gives_back_all_that_is_left(box, api):
    intent = paid_intent(box, api)
    api.refunds.create({"payment_intent": intent, "amount": 1000})

    rest = api.refunds.create({"payment_intent": intent, "metadata": {"refund_row": "7"}})

    charge = charge_of(api, intent)
    assert (rest.amount, rest.status, rest.metadata["refund_row"]) == (3150, "succeeded", "7")
    assert (charge.amount_refunded, charge.refunded) == (4150, True)
    assert event_types(box)[-2:] == ["refund.created", "charge.refunded"]


def test_a_partial_refund_leaves_the_charge_not_refunded(box, api):
    intent = paid_intent(box, api)
    api.refunds.create({"charge": charge_of(api, intent).id, "amount": 1000})

    charge = charge_of(api, intent)
    assert (charge.amount_refunded, charge.refunded) == (1000, False)


def test_no_more_goes_back_than_came_in(box, api):
    intent = paid_intent(box, api)
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded amount"):
        api.refunds.create({"payment_intent": intent, "amount": 4151})
    api.refunds.create({"payment_intent": intent})

    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.refunds.create({"payment_intent": intent})

    assert caught.value.code == "charge_already_refunded"
    assert len(box.ledger()["refunds"]) == 1


def test_an_unpaid_intent_has_nothing_to_refund(api):
    intent = api.payment_intents.create({"amount": 2000, "currency": "eur"})

    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge"):
        api.refunds.create({"payment_intent": intent.id})


def test_a_refund_may_fail_after_it_succeeded_and_the_money_counts_again(box, api):
    intent = paid_intent(box, api, "4000000000005126")
    refund = api.refunds.create({"payment_intent": intent})
    assert refund.status == "succeeded"

    box.advance(box.refund_s)

    failed = api.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert charge_of(api, intent).amount_refunded == 0
    assert event_types(box)[-3:] == ["refund.failed", "refund.updated", "charge.refund.updated"]


def test_a_refund_may_wait_before_it_arrives(box, api):
    intent = paid_intent(box, api, "4000000000007726")
    refund = api.refunds.create({"payment_intent": intent})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")

    box.advance(box.refund_s)

    assert api.refunds.retrieve(refund.id).status == "succeeded"


def test_refunds_are_listed_by_payment_and_only_a_waiting_one_can_be_canceled(box, api):
    intent, other = paid_intent(box, api), paid_intent(box, api)
    refund = api.refunds.create({"payment_intent": intent})
    api.refunds.create({"payment_intent": other})

    assert [r.id for r in api.refunds.list({"payment_intent": intent}).data] == [refund.id]
    with pytest.raises(stripe.InvalidRequestError, match="can be canceled"):
        api.refunds.cancel(refund.id)


def test_refund_metadata_can_be_changed(box, api):
    refund = api.refunds.create({"payment_intent": paid_intent(box, api)})

    assert api.refunds.update(refund.id, {"metadata": {"why": "late"}}).metadata["why"] == "late"
    assert event_types(box)[-1] == "refund.updated"


@pytest.mark.parametrize(
    ("words", "end"), [("winning_evidence", "won"), ("losing_evidence", "lost")]
)
def test_a_dispute_takes_the_money_away_until_it_is_decided(box, api, words, end):
    intent = paid_intent(box, api, "4000000000000259")
    (dispute,) = api.disputes.list({"payment_intent": intent}).data
    assert (dispute.status, dispute.amount) == ("needs_response", 4150)
    assert charge_of(api, intent).disputed is True
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.refunds.create({"payment_intent": intent})
    assert caught.value.code == "charge_disputed"

    api.disputes.update(dispute.id, {"evidence": {"uncategorized_text": words}})

    assert api.disputes.retrieve(dispute.id).status == end
    told = event_types(box)
    assert "charge.dispute.funds_withdrawn" in told
    assert ("charge.dispute.funds_reinstated" in told) is (end == "won")
    assert told[-1] == "charge.dispute.closed"


def test_a_dispute_that_is_accepted_is_lost(box, api):
    intent = paid_intent(box, api, "4000000000000259")
    (dispute,) = api.disputes.list({"payment_intent": intent}).data

    assert api.disputes.close(dispute.id).status == "lost"


def test_the_balance_adds_up_over_charge_refund_and_fee(box, api):
    intent = paid_intent(box, api)
    api.refunds.create({"payment_intent": intent, "amount": 150})

    entries = api.balance_transactions.list().data

    assert sorted(e.amount for e in entries) == [-150, 4150]
    assert all(e.net == e.amount - e.fee for e in entries)
