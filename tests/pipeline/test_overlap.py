"""Conversations: windows of 32 ms go in, glimpses come 64 ms after they were asked for."""

from collections.abc import Callable, Sequence

import pytest

from models.base import Glimpse
from pipeline.line import LINE_RATE_HZ
from pipeline.overlap import (
    WORDS_PREROLL_SAMPLES,
    BargeIn,
    OverlapJudge,
    UsualLevel,
    Verdict,
    takes_floor,
)

WINDOW = 256
USUAL_DBFS = -20.0
SPEAKS = Glimpse(0.02, 0.0, 0.98, "what about")
MAYBE = Glimpse(0.5, 0.0, 0.5, "you")
LIKELY = Glimpse(0.22, 0.0, 0.78, "you")
HUM = Glimpse(0.95, 0.0, 0.05, "Mm")
YEAH = Glimpse(0.95, 0.0, 0.05, "Yeah")
COUGH = Glimpse(0.0, 0.95, 0.05, "")
STOP = Glimpse(0.01, 0.0, 0.99, "Stop.")

Sees = Callable[[int], Glimpse | None]


class Caller:
    """Speaks over the agent; `sees(number)` is what the glimpse of that number, from 1, will tell."""

    def __init__(
        self,
        sees: Sees = lambda number: YEAH,
        *,
        policy: BargeIn = "polite",
        known: bool = True,
        latency_windows: int = 2,
    ) -> None:
        self.judge = OverlapJudge(policy)
        if known:
            self.judge.usual.hear(1.0, USUAL_DBFS, WINDOW)
        self.asked: list[tuple[int, int, int]] = []
        self.said: list[Verdict] = []
        self._sees = sees
        self._latency = latency_windows * WINDOW
        self._due: list[tuple[int, int]] = []
        self._at = 0

    def speak(
        self, ms: int, *, level_dbfs: float = -15.0, probability: float = 0.95, echo: float = 0.0
    ) -> "Caller":
        for _ in range(round(ms * LINE_RATE_HZ / 1000 / WINDOW)):
            start, self._at = self._at, self._at + WINDOW
            for number, due in [each for each in self._due if each[1] <= start]:
                self.said.append(self.judge.glimpsed(number, self._sees(number)))
                self._due.remove((number, due))
            self.said.append(self.judge.hear(probability, level_dbfs, echo, start, self._at))
            wanted = self.judge.wanted_glimpse()
            if wanted is not None:
                self.asked.append(wanted)
                self._due.append((wanted[0], self._at + self._latency))
        return self

    def pause(self, ms: int) -> "Caller":
        return self.speak(ms, level_dbfs=-60.0, probability=0.02)


def seen(*glimpses: Glimpse | None) -> Sees:
    """These in turn, the last one again and again."""
    return lambda number: glimpses[min(number, len(glimpses)) - 1]


def test_somebody_who_clearly_wants_to_speak_stops_the_agent_at_the_first_glimpse() -> None:
    caller = Caller(seen(SPEAKS)).pause(320).speak(256)
    assert caller.judge.verdict == "stop"
    assert len(caller.asked) == 1
    number, start, end = caller.asked[0]
    began = 320 * 8
    assert (number, start) == (1, began - 800)
    assert end - began == 128 * 8


def test_the_voice_is_turned_down_after_two_windows() -> None:
    caller = Caller().pause(320).speak(32)
    assert caller.judge.verdict == "quiet"
    caller.speak(32)
    assert caller.judge.verdict == "undecided"
    assert caller.judge.start_sample == 320 * 8


def test_a_soft_beginning_turns_the_voice_down_before_the_detector_is_sure() -> None:
    caller = Caller(seen(SPEAKS)).speak(1_600, level_dbfs=-60, probability=0.02)
    began = 1_600 * 8
    caller.speak(64, level_dbfs=-35, probability=0.2)
    assert caller.judge.verdict == "undecided"
    assert caller.judge.start_sample is None, "no voice yet, so no turn"
    assert not caller.asked
    caller.speak(64)
    assert caller.judge.start_sample == began, "the voice began where the line became louder"
    assert caller.asked == [(1, began - 800, began + 128 * 8)]


def test_a_sound_that_is_no_voice_turns_it_down_for_a_moment_only() -> None:
    caller = Caller(seen(SPEAKS)).speak(1_600, level_dbfs=-60, probability=0.02)
    before = len(caller.said)
    caller.speak(96, level_dbfs=-35, probability=0.2).speak(160, level_dbfs=-60, probability=0.02)
    assert caller.said[before + 1 :][:2] == ["undecided", "undecided"]
    assert caller.judge.verdict == "quiet" and not caller.asked
    assert caller.judge.last_say() is None


def test_our_own_echo_turns_nothing_down_however_loud() -> None:
    caller = Caller().speak(1_600, level_dbfs=-60, probability=0.02)
    caller.speak(640, level_dbfs=-35, probability=0.4, echo=0.7)
    assert set(caller.said) == {"quiet"}


@pytest.mark.parametrize("glimpses", [(HUM,), (HUM, MAYBE, HUM), (MAYBE, HUM, HUM)])
@pytest.mark.parametrize("ms", [192, 320, 480, 640])
def test_a_backchannel_is_let_pass_within_400_ms_and_the_agent_never_stops(
    glimpses: Sequence[Glimpse], ms: int
) -> None:
    caller = Caller(seen(*glimpses)).pause(320).speak(ms).pause(640)
    assert "stop" not in caller.said
    assert "keep" in caller.said[: round((320 + 400) / 32) + len(caller.asked)]
    assert caller.judge.verdict == "quiet" and caller.judge.start_sample is None


def test_a_word_that_is_sure_only_late_stops_the_agent_at_the_third_glimpse() -> None:
    caller = Caller(seen(MAYBE, MAYBE, SPEAKS)).pause(320).speak(416)
    assert caller.judge.verdict == "stop" and len(caller.asked) == 3


def test_early_glimpses_need_to_be_surer_than_late_ones() -> None:
    likely = Glimpse(0.2, 0.0, 0.8, "you")
    assert Caller(seen(likely)).pause(64).speak(224, level_dbfs=-16).judge.verdict == "undecided"
    assert Caller(seen(likely)).pause(64).speak(416, level_dbfs=-16).judge.verdict == "stop"


def test_one_look_that_takes_sure_for_sorry_does_not_stop_the_agent() -> None:
    sure, sorry = Glimpse(0.92, 0.0, 0.08, "Sure."), Glimpse(0.03, 0.0, 0.97, "Sorry.")
    caller = Caller(seen(sure, sure, sorry, sure)).pause(64).speak(416, level_dbfs=-21).pause(600)
    assert "stop" not in caller.said


@pytest.mark.parametrize("level_dbfs", [-15.0, -20.0, -27.0])
def test_a_stop_word_stops_whatever_its_level(level_dbfs: float) -> None:
    assert Caller(seen(STOP)).pause(320).speak(320, level_dbfs=level_dbfs).pause(192).judge.verdict == "stop"


def test_talk_to_somebody_else_is_let_pass_however_long() -> None:
    caller = Caller(seen(SPEAKS)).pause(320).speak(2_000, level_dbfs=-30)
    assert "stop" not in caller.said and caller.judge.verdict == "keep" and caller.judge.aside


def test_somebody_who_begins_softly_and_speaks_up_is_heard() -> None:
    caller = Caller(seen(SPEAKS)).pause(320).speak(160, level_dbfs=-30).speak(256)
    assert caller.judge.verdict == "stop"


def test_before_the_caller_has_spoken_a_soft_voice_waits_but_not_for_ever() -> None:
    soft = Caller(seen(SPEAKS), known=False).pause(320).speak(1_024, level_dbfs=-33)
    assert soft.judge.verdict == "keep"
    assert soft.speak(576, level_dbfs=-33).judge.verdict == "stop"
    assert Caller(seen(SPEAKS), known=False).pause(320).speak(256, level_dbfs=-24).judge.verdict == "stop"


def test_before_the_caller_has_spoken_loudness_is_no_evidence() -> None:
    likely = Glimpse(0.42, 0.0, 0.58, "you")
    assert "stop" not in Caller(seen(likely), known=False).speak(416, level_dbfs=-8).pause(400).said
    assert "stop" in Caller(seen(likely)).speak(416, level_dbfs=-8).pause(400).said


def test_a_loud_backchannel_tells_how_loud_the_caller_is() -> None:
    caller = (
        Caller(seen(YEAH, YEAH, YEAH, SPEAKS), known=False).pause(320).speak(352, level_dbfs=-10).pause(640)
    )
    assert "keep" in caller.said and "stop" not in caller.said
    assert "stop" not in caller.speak(960, level_dbfs=-24).pause(400).said


def test_a_long_cough_is_let_pass() -> None:
    caller = Caller(seen(COUGH)).pause(320).speak(1_200)
    assert "stop" not in caller.said and caller.judge.verdict == "keep"


def test_a_click_is_nothing() -> None:
    caller = Caller().pause(320).speak(32).pause(320)
    assert set(caller.said) == {"quiet"} and not caller.asked


def test_okay_and_how_much_takes_the_floor_when_it_goes_further() -> None:
    okay, further = Glimpse(0.99, 0.0, 0.01, "Okay"), Glimpse(0.99, 0.0, 0.01, "Okay, and")
    caller = Caller(seen(okay, okay, okay, further)).pause(320).speak(416)
    assert caller.judge.verdict == "keep"
    assert caller.speak(192).judge.verdict == "stop"


def test_words_that_a_glimpse_adds_behind_the_end_of_a_backchannel_are_not_believed() -> None:
    okay, invented = Glimpse(0.99, 0.0, 0.01, "Okay"), Glimpse(0.99, 0.0, 0.01, "Okay, the end")
    caller = Caller(seen(okay, okay, okay, invented)).pause(320).speak(416).pause(600)
    assert "stop" not in caller.said


def test_a_voice_that_goes_on_takes_the_floor() -> None:
    caller = Caller(seen(HUM)).pause(320).speak(640)
    assert caller.judge.verdict == "keep"
    assert caller.speak(64).judge.verdict == "stop"


@pytest.mark.parametrize(("word", "lasts_ms"), [("Yeah", 544), ("Right.", 544), ("Okay", 608)])
def test_who_sounds_on_when_the_word_that_was_read_must_be_over_takes_the_floor(
    word: str, lasts_ms: int
) -> None:
    reads = Glimpse(0.99, 0.0, 0.01, word)
    caller = Caller(seen(reads)).pause(320).speak(lasts_ms - 32)
    assert caller.judge.verdict == "keep"
    assert caller.speak(32).judge.verdict == "stop"
    assert "stop" not in Caller(seen(reads)).pause(320).speak(lasts_ms - 32).pause(640).said


def test_what_the_detector_hears_behind_a_word_is_not_its_voice() -> None:
    reads = Glimpse(0.99, 0.0, 0.01, "Right")
    caller = Caller(seen(reads)).pause(320).speak(448).speak(160, level_dbfs=-36).pause(640)
    assert "stop" not in caller.said


def test_a_stop_word_is_believed_at_the_first_clear_look_whatever_was_thought_before() -> None:
    wait = Glimpse(0.15, 0.0, 0.85, "Wait")
    caller = Caller(seen(YEAH, wait)).pause(320).speak(320, level_dbfs=-24)
    assert caller.judge.verdict == "stop" and len(caller.asked) == 2
    away = Glimpse(0.15, 0.0, 0.85, "Away")
    assert "stop" not in Caller(seen(YEAH, away)).pause(320).speak(320, level_dbfs=-24).said


def test_the_longer_a_voice_goes_on_the_less_evidence_it_needs() -> None:
    slightly = Glimpse(0.42, 0.0, 0.58, "it")
    short = Caller(seen(slightly), latency_windows=1).pause(320).speak(448, level_dbfs=-16.5).pause(640)
    assert "stop" not in short.said
    longer = Caller(seen(slightly), latency_windows=1).pause(320).speak(640, level_dbfs=-16.5)
    assert longer.judge.verdict == "stop"


def test_without_any_glimpse_a_short_voice_is_let_pass_and_a_long_one_stops() -> None:
    failing = Caller(seen(None)).pause(320).speak(480).pause(400)
    assert "stop" not in failing.said and "keep" in failing.said
    assert Caller(seen(None)).pause(320).speak(840).judge.verdict == "stop"
    slow = Caller(seen(SPEAKS), latency_windows=100).pause(320).speak(448)
    assert slow.judge.verdict == "keep" and len(slow.asked) == 1


def test_a_glimpse_that_comes_after_its_utterance_is_ignored() -> None:
    caller = Caller(seen(YEAH), latency_windows=100).pause(320).speak(192).pause(700).speak(96)
    assert caller.judge.verdict == "undecided"
    assert caller.judge.glimpsed(caller.asked[0][0], SPEAKS) == "undecided"
    assert caller.judge.glimpsed(99, SPEAKS) == "undecided"


def test_our_own_echo_is_no_voice() -> None:
    caller = Caller(seen(SPEAKS)).speak(960, echo=0.8)
    assert set(caller.said) == {"quiet"} and not caller.asked
    assert caller.speak(256).judge.verdict == "stop"


def test_what_is_far_below_the_callers_level_is_no_voice() -> None:
    caller = Caller(seen(SPEAKS)).speak(960, level_dbfs=-39)
    assert set(caller.said) == {"quiet"}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yeah.", "quiet"),
        ("", "quiet"),
        ("Sunday?", "stop"),
        ("Stop.", "stop"),
        ("Top.", "stop"),
        ("Okay, sure.", "quiet"),
    ],
)
def test_the_words_of_what_was_let_pass_are_read(text: str, verdict: Verdict) -> None:
    caller = Caller(seen(LIKELY)).pause(320).speak(256, level_dbfs=-22).pause(640)
    assert caller.judge.verdict == "quiet"
    start_and_end = caller.judge.last_say()
    assert start_and_end is not None
    assert start_and_end[0] == caller.judge.oldest_needed_sample - WORDS_PREROLL_SAMPLES
    assert caller.judge.last_say() is None, "once"
    assert caller.judge.transcribed(text) == verdict


def test_a_short_word_that_only_the_transcriber_takes_for_one_is_no_interruption() -> None:
    caller = Caller(seen(MAYBE)).pause(320).speak(256, level_dbfs=-22).pause(640)
    assert caller.judge.last_say() is not None
    assert caller.judge.transcribed("It hurts.") == "quiet"


def test_words_that_a_transcriber_finds_in_a_hum_are_not_believed_but_a_stop_is() -> None:
    caller = Caller(seen(YEAH)).pause(320).speak(256).pause(640)
    assert caller.judge.last_say() is not None
    assert caller.judge.transcribed("Mr. Woo.") == "quiet"
    caller = Caller(seen(YEAH)).pause(320).speak(256).pause(640)
    assert caller.judge.last_say() is not None
    assert caller.judge.transcribed("No, no.") == "stop"


def test_a_click_while_the_words_are_awaited_does_not_lose_them() -> None:
    caller = Caller(seen(LIKELY)).pause(320).speak(256, level_dbfs=-22).pause(640)
    assert caller.judge.last_say() is not None
    caller.speak(32).pause(320)
    assert caller.judge.transcribed("Stop it, please.") == "stop"


def test_the_words_of_one_utterance_are_not_laid_to_the_next() -> None:
    caller = Caller(seen(LIKELY)).pause(320).speak(256, level_dbfs=-22).pause(640)
    first = caller.judge.last_say()
    assert first is not None
    caller.speak(96)
    assert caller.judge.transcribed("How much is it?") == "stop"
    assert caller.judge.start_sample == first[0] + WORDS_PREROLL_SAMPLES, "the turn begins with the first"


def test_eager_stops_by_duration_alone_and_never_asks() -> None:
    caller = Caller(seen(YEAH), policy="eager").pause(320).speak(128)
    assert caller.judge.verdict == "undecided"
    assert caller.speak(32).judge.verdict == "stop" and not caller.asked
    assert "stop" not in Caller(policy="eager").speak(96).pause(640).said


def test_never_is_never() -> None:
    caller = Caller(seen(STOP), policy="never").pause(320).speak(3_000)
    assert "stop" not in caller.said and not caller.asked
    assert caller.judge.transcribed("Stop!") != "stop"


def test_two_interruptions_within_200_ms_stop_once_and_a_reset_begins_anew() -> None:
    caller = Caller(seen(SPEAKS)).pause(320).speak(256).pause(160).speak(256)
    assert caller.judge.verdict == "stop" and len(caller.asked) == 1
    caller.judge.reset()
    assert caller.judge.verdict == "quiet" and caller.judge.start_sample is None
    assert caller.pause(64).speak(256).judge.verdict == "stop"


def test_the_usual_level_follows_the_caller_and_not_the_silence() -> None:
    usual = UsualLevel()
    assert usual.dbfs is None
    for _ in range(100):
        usual.hear(0.9, -25.0, WINDOW)
        usual.hear(0.1, -70.0, WINDOW)
    assert usual.dbfs == pytest.approx(-25.0, abs=0.1)
    for _ in range(400):
        usual.hear(0.9, -18.0, WINDOW)
    assert usual.dbfs == pytest.approx(-18.0, abs=0.5)


@pytest.mark.parametrize(
    "text", ["Mm-hmm.", "Yeah, yeah.", "Uh-huh.", "I see.", "Okay.", "All right.", "", "Oh, great."]
)
def test_what_listeners_say_takes_no_floor(text: str) -> None:
    assert not takes_floor(text)


@pytest.mark.parametrize(
    "text", ["Stop.", "No.", "Wait, wait.", "I see a problem", "Yes, but", "What?", "Nine."]
)
def test_other_words_take_the_floor(text: str) -> None:
    assert takes_floor(text)


def test_said_aside_only_a_stop_word_takes_the_floor() -> None:
    assert not takes_floor("Did you take the keys?", aside=True)
    assert takes_floor("Wait.", aside=True) and takes_floor("Stop, please.", aside=True)
