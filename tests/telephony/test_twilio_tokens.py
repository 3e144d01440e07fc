import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony.twilio.errors import TokenRefused
from telephony.twilio.tokens import StreamTokens


class Wall:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_opens_its_own_call_once() -> None:
    tokens = StreamTokens(("secret",), 60.0, Wall())
    token = tokens.issue("CA1")
    assert len(token) < 400  # name and value of a Parameter stay below 500
    with pytest.raises(TokenRefused, match="another call"):
        tokens.redeem(token, "CA2")
    tokens.redeem(token, "CA1")
    with pytest.raises(TokenRefused, match="used before"):
        tokens.redeem(token, "CA1")
    tokens.redeem(tokens.issue("CA1"), "CA1")


def test_it_expires() -> None:
    wall, clock = Wall(), Wall()
    tokens = StreamTokens(("secret",), 60.0, wall, clock)
    others = StreamTokens(("secret",), 60.0, wall)
    token = tokens.issue("CA1")
    wall.now += 60
    clock.now += 60
    for either in (tokens, others):
        with pytest.raises(TokenRefused, match="expired"):
            either.redeem(token, "CA1")


@pytest.mark.parametrize("jump_s", [3_600, -3_600])
def test_a_clock_that_is_set_while_a_stream_is_on_its_way_costs_no_call(jump_s: float) -> None:
    wall, clock = Wall(), Wall()
    tokens = StreamTokens(("secret",), 60.0, wall, clock)
    token = tokens.issue("CA1")
    wall.now += jump_s
    clock.now += 1
    tokens.redeem(token, "CA1")
    with pytest.raises(TokenRefused, match="used before"):
        tokens.redeem(token, "CA1")


def test_a_clock_that_jumps_ahead_and_back_makes_no_token_good_again() -> None:
    wall = Wall()
    tokens = StreamTokens(("secret",), 60.0, wall)
    token = tokens.issue("CA1")
    tokens.redeem(token, "CA1")
    wall.now += 3_600
    tokens.redeem(tokens.issue("CA2"), "CA2")
    wall.now -= 3_600
    with pytest.raises(TokenRefused, match="used before"):
        tokens.redeem(token, "CA1")


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telephony.twilio.tokens._MOST_REMEMBERED", 10)
    tokens = StreamTokens(("secret",), 60.0, Wall())
    for number in range(50):
        tokens.redeem(tokens.issue(f"CA{number}"), f"CA{number}")
        tokens.issue("CA of a stream that never comes")
    assert (len(tokens._used), len(tokens._own)) == (10, 10)


def test_used_ones_are_forgotten_only_a_day_after_they_expired() -> None:
    wall = Wall()
    tokens = StreamTokens(("secret",), 60.0, wall)
    first = tokens.issue("CA1")
    tokens.redeem(first, "CA1")
    wall.now += 59
    tokens.redeem(tokens.issue("CA2"), "CA2")
    with pytest.raises(TokenRefused, match="used before"):
        tokens.redeem(first, "CA1")
    wall.now += 86_400 + 61
    tokens.redeem(tokens.issue("CA3"), "CA3")
    assert len(tokens._used) == 1


def test_rotation_accepts_what_either_secret_signed() -> None:
    wall = Wall()
    before = StreamTokens(("old",), 60.0, wall).issue("CA1")
    tokens = StreamTokens(("new", "old"), 60.0, wall)
    tokens.redeem(before, "CA1")
    with pytest.raises(TokenRefused):
        StreamTokens(("old",), 60.0, wall).redeem(tokens.issue("CA1"), "CA1")


@pytest.mark.parametrize(
    "token",
    [None, "", "x", "1.2.3", "1.2.3.4.5", "2.1800000060.n.s", "1.x.n.s", "1.-5.n.s", "1.\u0661.n.s", "1..n.s",
     "1." + "9" * 5000 + ".n.s", "1.1800000060.\ud800.\ud800", "1.1800000060.n."],
)  # fmt: skip
def test_what_is_not_a_token(token: str | None) -> None:
    with pytest.raises(TokenRefused):
        StreamTokens(("secret",), 60.0, Wall()).redeem(token, "CA1")


@given(st.integers(0, 200), st.characters())
def test_no_changed_token_passes(position: int, character: str) -> None:
    tokens = StreamTokens(("secret",), 60.0, Wall())
    token = tokens.issue("CA1")
    at = position % len(token)
    changed = token[:at] + character + token[at + 1 :]
    if changed != token:
        with pytest.raises(TokenRefused):
            tokens.redeem(changed, "CA1")
    tokens.redeem(token, "CA1")
