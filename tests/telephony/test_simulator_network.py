import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony.simulator.network import DownwardLeg, NetworkModel, UpwardLeg

SENT = [number * 0.02 for number in range(1, 2001)]


def test_no_jitter_no_loss_is_a_plain_delay():
    leg = UpwardLeg(NetworkModel(0.06, 0.0, 0.0, 1))
    for sent in SENT:
        arrival = leg.carry(sent)
        assert arrival.at_s == sent + 0.06
        assert not arrival.lost


@given(st.integers(), st.floats(0, 0.2), st.floats(0, 0.2))
def test_order_is_kept_and_nothing_arrives_before_it_was_sent(seed, delay_s, jitter_s):
    leg = UpwardLeg(NetworkModel(delay_s, jitter_s, 0.0, seed))
    latest = 0.0
    for sent in SENT[:100]:
        at_s = leg.carry(sent).at_s
        assert at_s >= max(latest, sent)
        latest = at_s


def test_jitter_is_centred_on_the_delay_and_bounded():
    leg = UpwardLeg(NetworkModel(0.06, 0.015, 0.0, 7))
    # Apart by more than the jitter: keeping the order then moves nothing.
    delays = [leg.carry(sent * 10).at_s - sent * 10 for sent in SENT]
    assert min(delays) >= 0.045 - 1e-9
    assert max(delays) <= 0.075 + 1e-9
    assert sum(delays) / len(delays) == pytest.approx(0.06, abs=0.001)


def test_loss_has_its_rate_in_both_directions_and_they_are_independent():
    network = NetworkModel(0.0, 0.0, 0.1, 3)
    up, down = UpwardLeg(network), DownwardLeg(network)
    lost_up = [up.carry(sent).lost for sent in SENT]
    lost_down = [down.lost(number) for number in range(len(SENT))]
    assert sum(lost_up) / len(SENT) == pytest.approx(0.1, abs=0.025)
    assert sum(lost_down) / len(SENT) == pytest.approx(0.1, abs=0.025)
    assert lost_up != lost_down


def test_a_seed_is_a_network():
    def up(seed):
        leg = UpwardLeg(NetworkModel(0.06, 0.015, 0.05, seed))
        return [leg.carry(sent) for sent in SENT]

    assert up(1) == up(1) != up(2)
    one, other = (DownwardLeg(NetworkModel(0.0, 0.0, 0.5, 9)) for _ in range(2))
    # Asked in any order, an AudioFrame has the same fate.
    assert [one.lost(n) for n in range(50)] == [other.lost(n) for n in reversed(range(50))][::-1]


def test_the_ear_hears_after_delay_and_playout_buffer():
    assert NetworkModel(0.06, 0.015, 0.0, 0).ear_delay_s == pytest.approx(0.075)
