"""Policies of when a turn is over: what each does in turns whose truth is known, and what is made of it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench import endpoints_evidence, endpoints_smart_turn
from bench.corpus import Condition, Turn
from bench.endpoints import OURS, SMART_TURN, Curve, report
from bench.endpoints_evidence import Pause, WatchedTurn, watched
from bench.endpoints_picture import Point, frontier
from bench.endpoints_policies import (
    Delays,
    Step,
    committed_s,
    learning,
    ours,
    play,
    score,
    silence,
    smart_turn,
)
from bench.endpoints_words import PULL, PULL_BESIDE_MODEL, Cue, cue
from models.base import Samples
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedTranscriber

DELAYS = Delays(text_s=0.4, ends_s=0.5, audible_s=0.6)
RATE_HZ = 8000


def watched_turn(
    *pauses: Pause, end_s: float, voice: str = "ruth", id_: str = "t", spans: int | None = None
) -> WatchedTurn:
    count = len(pauses) if spans is None else spans
    return WatchedTurn(id_, "number", voice, end_s, ((0.0, 1.0),) * count, ("",) * count, pauses)


def said(
    begins_s: float, over_s: float | None, text: str = "Yes.", ends: float = 0.5, sound: float = 0.5
) -> Pause:
    return Pause(begins_s, over_s, text, ends, sound)


NUMBER = watched_turn(
    said(1.0, 1.9, "My number is", 0.0001, 0.9),
    said(3.05, None, "My number is 321, 102, 6991.", 0.9),
    end_s=3.0,
)
QUESTION = watched_turn(said(2.05, None, "Are you open?", 0.95, 0.99), end_s=2.0, id_="q")


def test_silence_alone_cuts_off_at_a_pause_that_is_longer() -> None:
    (patient,) = play([NUMBER], silence(1.0))
    (hasty,) = play([NUMBER], silence(0.7))
    assert (patient.cut_off, hasty.cut_off) == (False, True)
    assert patient.dead_air_s == pytest.approx(1.05), "from the truth, not from the detector's last window"
    assert hasty.dead_air_s == pytest.approx(0.75), "as if it had not been cut off before"


def test_speech_that_comes_before_the_agent_is_audible_takes_the_decision_back() -> None:
    (outcome,) = play([NUMBER], silence(0.7), audible_s=0.95)
    assert not outcome.cut_off
    assert outcome.dead_air_s == pytest.approx(1.0)


def test_a_voice_that_the_detector_hears_behind_the_end_is_no_turn_of_the_caller() -> None:
    """Noise after the turn: the floor is taken before it, or after it, and nobody was cut off."""
    noisy = watched_turn(said(2.05, 2.6), said(2.9, None), end_s=2.0, spans=1)
    (early,), (late,) = play([noisy], silence(0.3)), play([noisy], silence(1.0))
    assert (early.cut_off, late.cut_off) == (False, False)
    assert early.dead_air_s == pytest.approx(0.35)
    assert late.dead_air_s == pytest.approx(1.9)


def test_evidence_counts_from_when_it_is_there() -> None:
    steps = [Step(0.0, 2.0), Step(0.5, 0.3)]
    assert committed_s(steps) == 0.5
    assert committed_s([Step(0.0, 0.4), Step(0.5, 3.0)]) == 0.4
    assert committed_s([Step(0.0, 0.8), Step(0.5, 0.9)]) == 0.9


def test_smart_turn_waits_out_what_it_calls_unfinished() -> None:
    (outcome,) = play([NUMBER], smart_turn(0.5, 3.0))
    assert outcome.cut_off, "it took `My number is` for an end"
    (strict,) = play([NUMBER], smart_turn(0.95, 3.0))
    assert (strict.cut_off, round(strict.dead_air_s, 2)) == (False, 3.05)
    (asked,) = play([QUESTION], smart_turn(0.5, 3.0))
    assert asked.dead_air_s == pytest.approx(0.2 + 0.12 + 0.05)


def test_ours_waits_for_the_number_and_answers_the_question() -> None:
    number, question = play([NUMBER, QUESTION], ours(1.2, DELAYS))
    assert not number.cut_off
    assert number.dead_air_s < 0.9
    assert question.dead_air_s == pytest.approx(0.55, abs=0.05), "as soon as the model has been heard"
    assert committed_s(ours(1.2, DELAYS)(NUMBER.pauses[0], ())) > 2.0


def test_a_caller_is_one_voice_and_only_pauses_inside_are_learnt() -> None:
    seen: list[tuple[float, ...]] = []

    def spy(pause: Pause, earlier: Sequence[float]) -> Sequence[Step]:
        seen.append(tuple(round(pause_s, 2) for pause_s in earlier))
        return (Step(0.0, 3.0),)

    other = watched_turn(said(2.05, None), end_s=2.0, voice="martin")
    play([NUMBER, QUESTION, other], spy)
    assert seen == [(), (0.9,), (0.9,), ()]
    open_end = said(2.0, None, "I am here.", 0.02)
    slow, fast = (committed_s(learning(1.0, DELAYS)(open_end, [pause_s] * 9)) for pause_s in (0.7, 0.4))
    assert slow > fast


def test_scores_count_cut_offs_only_where_there_are_pauses() -> None:
    interrupted = watched_turn(said(0.5, 1.5), said(2.0, None), end_s=2.0, spans=1)
    scored = score(play([NUMBER, QUESTION, interrupted], silence(0.8)))
    assert (scored.cut_offs, scored.n) == (1, 1)
    assert scored.mean_s == pytest.approx((0.85 + 0.85 + 0.8) / 3)


def test_the_curve_asks_for_the_least_dead_air_that_cuts_off_few() -> None:
    curve = Curve(
        "x",
        np.array([[True] * 20, [True] + [False] * 19, [False] * 20]),
        np.array([[0.1] * 20, [0.5] * 20, [0.9] * 20]),
    )
    everybody, pauses = np.arange(20), np.ones(20, bool)
    assert curve.at_tolerated(everybody, pauses) == pytest.approx(0.5), "one of twenty is five per cent"
    assert curve.at_tolerated(np.arange(10), pauses) == pytest.approx(0.9)
    assert np.isnan(Curve("y", np.ones((1, 20), bool), np.ones((1, 20))).at_tolerated(everybody, pauses))


def test_the_frontier_joins_the_best_points_only() -> None:
    points = [Point(0.5, 0.2), Point(0.1, 1.0), Point(0.3, 1.2), Point(0.1, 1.5), Point(0.6, 0.2)]
    assert frontier(points) == [Point(0.1, 1.0), Point(0.5, 0.2)]


def test_the_report_says_what_is_agreed_and_draws(tmp_path: Path) -> None:
    turns = [
        watched_turn(
            said(1.0, 1.0 + 0.3 + 0.1 * (i % 12), "My number is", 0.0001, 0.9),
            said(3.05, None, "My number is 321, 102, 6991.", 0.9),
            end_s=3.0,
            id_=f"n{i}",
        )
        for i in range(24)
    ] + [QUESTION] * 24
    picture = tmp_path / "curve.png"
    made = report(turns, part="held_out", profile="embedded", picture=picture)
    figures = json.loads(made.to_json())["figures"]
    assert figures["turns_n"] == 48
    assert figures["cutoff_rate_n"] == 24
    assert figures["cutoff_rate"] == 0.0
    assert figures["pipecat_cutoff_rate"] > 0.9
    low, high = figures["dead_air_ratio_interval"]
    assert low <= figures["dead_air_ratio"] <= high
    at_5 = made.details["dead_air_s_at_5_percent"]
    assert isinstance(at_5, dict)
    assert figures["dead_air_ratio"] == pytest.approx(at_5[OURS] / at_5[SMART_TURN], abs=0.01)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 100_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Cue.NO_WORDS),
        ("...", Cue.NO_WORDS),
        ("My number is", Cue.HANGING),
        ("My number is...", Cue.HANGING),
        ("Could you tell me where you are and,", Cue.HANGING),
        ("I am calling about, um,", Cue.HANGING),
        ("Well.", Cue.HANGING),
        ("I", Cue.HANGING),
        ("What time do you open on Saturday?", Cue.QUESTION),
        ("Which one?", Cue.QUESTION),
        ("My number is 321.", Cue.DIGITS),
        ("My number is 321-102", Cue.DIGITS),
        ("It's seven five, oh two", Cue.DIGITS),
        ("Member number 856, 604, and then 09.", Cue.DIGITS),
        ("321, 102, 6991", Cue.NUMBER),
        ("You can reach me at 744-2660.", Cue.NUMBER),
        ("That's 1 555 321 1026", Cue.NUMBER),
        ("January 3, 1994", Cue.NUMBER),
        ("October the 21st, 1962.", Cue.NUMBER),
        ("Sure, that's M-A-R-T", Cue.SPELLING),
        ("Thompson, T, H,", Cue.SPELLING),
        ("Sure, that's O.K.A.F.", Cue.SPELLING),
        ("If it costs more than fifty dollars,", Cue.OPEN),
        ("I was\u2026", Cue.HANGING),
        ("I live at Oak Street -", Cue.OPEN),
        ("Yes.", Cue.WORD),
        ("Saturday", Cue.WORD),
        ("I need to cancel my appointment.", Cue.SENTENCE),
        ("Thank you!", Cue.SENTENCE),
        ("I live at Oak Street", Cue.UNMARKED),
        ("Don\u2019t", Cue.WORD),
        ("No, I can't.", Cue.SENTENCE),
    ],
)
def test_the_last_words_show_whether_more_is_to_come(text: str, expected: Cue) -> None:
    assert cue(text) is expected
    assert cue(f"  {text} ") is expected
    assert PULL.keys() == PULL_BESIDE_MODEL.keys() == set(Cue)


class Sound:
    """Takes the place of smart-turn, and keeps how much it was shown."""

    def __init__(self) -> None:
        self.shown_s: list[float] = []

    def complete(self, audio: Samples) -> float:
        self.shown_s.append(len(audio) / 16_000)
        return 0.75


def spoken_turn(*pauses_s: float) -> Turn:
    """Half a second of tone before, between and after the pauses."""
    times = np.arange(RATE_HZ // 2) / RATE_HZ
    tone = np.rint(4000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
    parts, spans, at = [tone], [(0, len(tone))], len(tone)
    for pause_s in pauses_s:
        parts += [np.zeros(round(pause_s * RATE_HZ), np.int16), tone]
        at += len(parts[-2])
        spans.append((at, at + len(tone)))
        at += len(tone)
    quiet = Condition(None, -60.0, 0.0, None, 0.0, 0.0, 0.0, 1)
    texts = tuple(f"part {n}" for n in range(len(spans)))
    pcm = np.concatenate(parts)
    return Turn("t", "tuning", "number", "ruth", " ".join(texts), "And?", pcm, tuple(spans), texts, quiet)


async def test_a_turn_is_watched_pause_by_pause() -> None:
    turn, sound = spoken_turn(0.15, 0.9), Sound()
    transcriber = ScriptedTranscriber(["one two", "one two three"])
    chat = ScriptedChat(turn_end=lambda messages: 0.9 if messages[-1].content.endswith("three") else 0.1)
    session = await chat.open([])
    result = await watched(turn, EnergyVoiceActivity(), transcriber, session, sound)
    assert [pause.text for pause in result.pauses] == [None, "one two", "one two three"], (
        "0.15 s is too short"
    )
    assert [pause.ends for pause in result.pauses] == [None, 0.1, 0.9]
    assert [pause.smart_turn for pause in result.pauses] == [None, 0.75, 0.75]
    assert [message.content for message in chat.requests[0]] == ["And?", "one two"]
    first, second, last = result.pauses
    assert first.begins_s == pytest.approx(0.5, abs=0.05)
    assert second.begins_s == pytest.approx(1.15, abs=0.05)
    assert second.over_s == pytest.approx(2.05 + 0.064, abs=0.05), "when the detector is sure"
    assert last.over_s is None
    assert last.begins_s == pytest.approx(result.end_s, abs=0.05)
    assert result.end_s == pytest.approx(2.55)
    assert transcriber.durations_s[0] == pytest.approx(0.3 + 1.15 + 0.128, abs=0.05)
    assert sound.shown_s[0] == pytest.approx(0.7 + 1.15 + 0.2, abs=0.05)


def test_evidence_survives_the_cache_and_other_formats_do_not(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    endpoints_evidence._write(path, {"a": NUMBER, "b": QUESTION})
    assert endpoints_evidence._read(path) == {"a": NUMBER, "b": QUESTION}
    path.write_text(path.read_text().replace('"format": ', '"format": 9'))
    assert endpoints_evidence._read(path) == {}
    path.write_text("{")
    assert endpoints_evidence._read(path) == {}
    assert endpoints_evidence._read(tmp_path / "absent") == {}


def test_smart_turn_is_shown_the_last_eight_seconds_at_any_level() -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    log_mel = FeatureExtractor()
    speech = np.random.default_rng(3).standard_normal(10 * 16_000).astype(np.float32)
    shown = endpoints_smart_turn.features(log_mel, speech)
    assert (shown.shape, shown.dtype) == ((80, 800), np.float32)
    np.testing.assert_allclose(endpoints_smart_turn.features(log_mel, speech[-8 * 16_000 :]), shown)
    quiet = endpoints_smart_turn.features(log_mel, 0.05 * speech + 0.01)
    np.testing.assert_allclose(quiet, shown, atol=1e-3)
    short = endpoints_smart_turn.features(log_mel, speech[:16_000])
    assert short[:, 750].mean() > short[:, 100].mean() + 0.5, "silence before it, not after"


def test_a_smart_turn_that_is_there_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    path = tmp_path / Path(endpoints_smart_turn.MEMBER).name
    path.write_bytes(b"model")
    monkeypatch.setattr(endpoints_smart_turn, "SHA256", hashlib.sha256(b"model").hexdigest())
    monkeypatch.setattr(endpoints_smart_turn.subprocess, "run", None)
    assert endpoints_smart_turn.fetch(tmp_path) == path
