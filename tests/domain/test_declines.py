"""Declines in plain words: what happened, what helps, and what is nobody's business."""

from __future__ import annotations

import pytest

from domain import declines

# Codes that say something about the person, or that a thief would like to hear of.
SILENT = (
    "fraudulent", "lost_card", "stolen_card", "pickup_card", "restricted_card",
    "merchant_blacklist", "security_violation", "highest_risk_level", "generic_decline",
)  # fmt: skip


@pytest.mark.parametrize("code", [*SILENT, "a_code_of_tomorrow", "", None])
def test_what_only_the_owner_of_the_card_may_know_reads_as_a_plain_decline(code):
    assert declines.of(code) is declines.PLAIN
    assert declines.PLAIN.what == "Your bank declined the payment."


@pytest.mark.parametrize(
    ("code", "what", "do"),
    [
        ("insufficient_funds", "There was not enough money on the card.", "another card"),
        ("expired_card", "The card has expired.", "another card"),
        ("incorrect_cvc", "The security code was not right.", "check what you entered"),
        ("incorrect_number", "The card number was not right.", "check what you entered"),
        ("authentication_required", "could not confirm that it was you", "confirm the payment"),
        ("processing_error", "technical problem", "a few minutes"),
        ("card_velocity_exceeded", "reached its limit", "raise the limit"),
        ("do_not_honor", "gave no reason", "ask your bank"),
        ("duplicate_transaction", "just made", "look at your orders first"),
    ],
)
def test_what_a_shopper_can_act_upon_is_said(code, what, do):
    decline = declines.of(code)

    assert what in decline.what
    assert do in decline.do


@pytest.mark.parametrize("code", sorted(declines.DECLINES))
def test_every_decline_says_what_happened_and_what_to_do(code):
    decline = declines.of(code)

    for sentence in (decline.what, decline.do):
        assert sentence.endswith(".")
        assert "declin" not in sentence, "that is what the plain one says"
        assert code not in sentence
