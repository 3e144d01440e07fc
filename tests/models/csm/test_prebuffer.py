import pytest

from models.csm.prebuffer import Lateness, Prebuffer


@pytest.mark.parametrize("rtf", [None, 0.05, 0.59])
def test_a_fast_engine_gives_out_the_first_80_ms_at_once(rtf: float | None) -> None:
    assert Prebuffer().codec_frames(rtf, 50) == 1


def test_a_slower_engine_holds_two_back() -> None:
    assert Prebuffer().codec_frames(0.6, 50) == 2
    assert Prebuffer().codec_frames(0.95, 500) == 2


def test_an_engine_slower_than_real_time_holds_back_what_it_will_lack() -> None:
    assert Prebuffer().codec_frames(1.25, 40) == 8
    assert Prebuffer(most=5).codec_frames(1.25, 40) == 5, "no more than the most"
    assert Prebuffer().codec_frames(1.25, 400) == 10, "no longer than a second"
    assert Prebuffer().codec_frames(10.0, 40) == 2


def test_lateness_is_learnt_and_forgotten() -> None:
    prebuffer = Prebuffer(most=4)
    seen = []
    for late in (1, 3, 1, 0, 0, 0):
        prebuffer.spoken(late)
        seen.append(prebuffer.codec_frames(0.9, 20))
    assert seen == [3, 4, 4, 3, 2, 2]
    assert prebuffer.codec_frames(0.3, 20) == 1


def test_late_is_what_comes_after_the_end_of_the_one_before() -> None:
    lateness = Lateness()
    for at in (1.0, 1.0, 1.05, 1.24):
        lateness.given(at)
    assert lateness.late == 0
    lateness.given(1.33)
    assert lateness.late == 1
    lateness.given(1.41)
    assert lateness.late == 1, "the gap has moved what follows"
