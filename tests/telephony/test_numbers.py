"""What is dialled, and what never is."""

import pytest

from telephony.numbers import NotDialable, dialable


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+12025550123", "+12025550123"),
        ("+1 (202) 555-0123", "+12025550123"),
        ("+44 20 7946 0018", "+442079460018"),
        ("+49 30 901820", "+4930901820"),
        ("+1 800 555 1234", "+18005551234"),
    ],
)
def test_numbers_are_dialled_in_one_form(written: str, number: str) -> None:
    assert dialable(written) == number


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("911", "emergency"),
        ("112", "emergency"),
        ("+911", "emergency"),
        ("+999", "emergency"),
        ("+19005551234", "premium-rate"),
        ("+449098790123", "premium-rate"),
        ("+499001234567", "premium-rate"),
        ("+491801234567", "shared-cost"),
        ("+447012345678", "personal"),
        ("+8816123456789", "belongs to no country"),
        ("+882990000", "length"),
        ("2025550123", "country's code"),
        ("+1202555", "length"),
        ("+15550100123", "no such number"),
        ("+12025550123 ext 5", "extension"),
        ("sip:someone@example.com", "country's code"),
        ("", "country's code"),
        ("+1202555012３4", "length"),
        ("+" + "1" * 400, "country's code"),
    ],
)
def test_others_are_not(number: str, reason: str) -> None:
    with pytest.raises(NotDialable) as refused:
        dialable(number)
    assert reason in refused.value.reason
