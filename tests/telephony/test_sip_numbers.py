import pytest

from telephony.sip.numbers import digits_of, refusal


@pytest.mark.parametrize(
    "user",
    [
        *(
            "911",
            "112",
            "999",
            "000",
            "110",
            "+112",
            "+1911",
            "+1-911",
            "+44 999",
            "+49112",
            "0044999",
            "011911",
        ),
        *("9911", "0112", "1911", "9 9 9", "(911)", "9.1.1", "911;phone-context=+1", "911,,1", "*31#112"),
        *("112#", "#911", "988", "116123", "sos911", "+91"),
    ],
)
def test_emergency_numbers_are_never_dialled(user: str) -> None:
    assert refusal(user) is not None


@pytest.mark.parametrize(
    "user",
    [
        *(
            "+19005550100",
            "1-900-555-0100",
            "00449098790000",
            "+4490 9879 0000",
            "09098790000",
            "+979123456789",
        ),
        *("+882161234567", "+33899123456", "+49900123456", "0900123456", "011 44 9098790000", "+31900123456"),
    ],
)
def test_premium_numbers_are_never_dialled(user: str) -> None:
    assert refusal(user) is not None


@pytest.mark.parametrize(
    "user",
    [
        *("+15550100123", "15550100123", "+442079460000", "+4989123456", "+4991112345678", "+33123456789"),
        *("+358912345678", "+34911234567", "bob", "ann.smith", "1001", "200", "2001", "+390612345678"),
        *("+6421123456", "4155550100", "+3292345678"),
    ],
)
def test_the_others_may_be(user: str) -> None:
    assert refusal(user) is None


def test_the_operator_adds_beginnings() -> None:
    barred = ("+1 876", "+252", "1001")
    assert refusal("+18765550100", barred) is not None
    assert refusal("+252123456789", barred) is not None
    assert refusal("1001", barred) is not None
    assert refusal("+15550100123", barred) is None
    assert refusal("+15550100123", ("",)) is None


def test_digits() -> None:
    assert digits_of("+1 (555) 010-0123") == "+15550100123"
    assert digits_of("*31#5550100") == "*31#5550100"
    for name in ("bob", "5550100x", "++1", "", "٣٣٣"):
        assert digits_of(name) is None
