"""The comparison of lines: what a talker notes, and a short call over all three."""

import os

import numpy as np
import pytest

from bench.lines import Talker, gap_figures, line_figures
from telephony import g711

LOUD = np.full(160, 5_000, np.int16)
QUIET = np.zeros(160, np.int16)


def test_a_talker_waits_for_the_agent_to_finish_and_times_the_answer() -> None:
    words = [bytes([n]) * 160 for n in range(3)]
    talker = Talker(words, turns=2)
    said: list[tuple[float, bytes]] = []
    for n in range(400):
        now = n * 0.02
        audio = talker.next_audio(now)
        if audio in words:
            said.append((now, audio))
        # A greeting of one second, then an answer 0.3 s behind each turn's end, half a second long.
        turn_ends = [at + 0.02 for at, audio in said if audio == words[-1]]
        sounds = now < 1.0 or any(0.3 <= now - end < 0.8 for end in turn_ends)
        talker.heard(LOUD if sounds else QUIET, now)
    assert [audio for _, audio in said] == words * 2
    assert said[0][0] == pytest.approx(1.0 + 0.6, abs=0.05)
    assert talker.gaps_s == pytest.approx([0.3, 0.3], abs=0.021)
    assert talker.done


def test_an_agent_that_says_nothing_is_not_spoken_to() -> None:
    talker = Talker([b"\0" * 160], turns=1)
    for n in range(500):
        assert set(talker.next_audio(n * 0.02)) == {g711.SILENCE}
        talker.heard(QUIET, n * 0.02)
    assert not talker.done


def test_the_difference_is_that_of_the_medians() -> None:
    sip, audiosocket = [330.0, 320.0, 325.0], [280.0, 290.0, 300.0]
    figures = line_figures({"twilio": [300.0, 310.0, 900.0], "sip": sip, "audiosocket": audiosocket})
    assert figures["gap_difference_ms"] == 20
    assert figures["gap_sip_p50_ms"] == 325
    assert figures["gap_twilio_max_ms"] == 900
    assert figures["gap_turns"] == 3


@pytest.mark.realtime
def test_one_turn_over_each_line() -> None:
    (core, *_) = sorted(os.sched_getaffinity(0))
    tone = g711.encode((8_000 * np.sin(np.arange(160) * 0.4)).astype(np.int16))
    figures = gap_figures(core, [tone] * 40, 1)
    assert figures["gap_turns"] == 1
    for name in ("twilio", "sip", "audiosocket"):
        wait = figures[f"gap_{name}_p50_ms"]
        assert isinstance(wait, float) and 200 < wait < 5_000
