"""The corpus as a whole, made by the real voice, against what its users rely on."""

import numpy as np
import pytest

from bench.corpus import LEAD_SAMPLES, TAIL_SAMPLES, Corpus, Turn, corpus, heard, heard_over
from bench.corpus.building import OVERLAPS, SHORTEST_PAUSE_S, build
from bench.corpus.speech import LEVEL_DBFS, LONGEST_SILENCE_S
from pipeline.audible import voiced_runs

pytestmark = [pytest.mark.models, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def whole() -> Corpus:
    return corpus()


@pytest.mark.parametrize("part", ["tuning", "held_out"])
def test_a_part_has_enough_turns_and_pauses_as_people_make_them(whole: Corpus, part: str) -> None:
    turns = whole.of(part).turns  # type: ignore[arg-type]
    pauses = [pause for turn in turns for pause in turn.pauses_s]
    assert len(whole.turns) >= 300 and len(turns) >= 150
    assert sum(bool(turn.pauses_s) for turn in turns) / len(turns) >= 0.4
    assert np.median(pauses) == pytest.approx(0.5, abs=0.02)
    assert np.mean(np.asarray(pauses) > 1.2) == pytest.approx(0.1, abs=0.015)
    # A log-normal: the logarithm of the quartiles lies symmetrically about that of the median.
    low, middle, high = np.log(np.percentile(pauses, (25, 50, 75)))
    assert high - middle == pytest.approx(middle - low, abs=0.05)
    assert min(pauses) >= SHORTEST_PAUSE_S - 1e-3


def test_the_parts_share_no_caller_no_words_and_no_noise(whole: Corpus) -> None:
    tuning, held_out = whole.of("tuning"), whole.of("held_out")
    noises = [{turn.condition.noise for turn in part.turns} - {None} for part in (tuning, held_out)]
    assert noises[0].isdisjoint(noises[1]) and min(map(len, noises)) == 3
    voices = [{item.voice for item in (*part.turns, *part.overlaps)} for part in (tuning, held_out)]
    assert voices[0].isdisjoint(voices[1])
    assert {turn.text for turn in tuning.turns}.isdisjoint(turn.text for turn in held_out.turns)
    taken = [
        {each.text for each in part.overlaps if each.kind == "interruption"} for part in (tuning, held_out)
    ]
    assert taken[0].isdisjoint(taken[1])


def test_every_part_has_what_callers_do_while_an_agent_speaks(whole: Corpus) -> None:
    for part in (whole.of("tuning"), whole.of("held_out")):
        assert len(part.overlaps) >= 100
        assert {kind: sum(o.kind == kind for o in part.overlaps) for kind in OVERLAPS} == OVERLAPS
        side_talk = [overlap.level_db for overlap in part.overlaps if overlap.kind == "side_talk"]
        assert min(side_talk) >= -16 and max(side_talk) <= -10


def test_a_pause_is_digital_silence_and_a_span_has_none_that_long(whole: Corpus) -> None:
    longest = round((LONGEST_SILENCE_S + 0.005) * 8000)
    for turn in whole.turns:
        assert turn.spans[0][0] == 0 and turn.spans[-1][1] == len(turn.pcm)
        for (_, stop), (start, _) in zip(turn.spans, turn.spans[1:], strict=False):
            assert not turn.pcm[stop:start].any()
        for start, stop in turn.spans:
            sounding = np.flatnonzero(np.abs(turn.pcm[start:stop]) > 100)
            assert np.diff(sounding).max() <= longest, turn.id
            assert sounding[0] < 80 and stop - start - sounding[-1] < 80, turn.id


def test_spans_are_where_the_simulators_own_measure_hears_speech(whole: Corpus) -> None:
    """That measure begins at -40 dBFS, the corpus at -46: soft consonants lie between."""
    late, early = [], []
    for turn in whole.turns:
        for start, stop in turn.spans:
            runs = voiced_runs(turn.pcm[start:stop])
            assert runs, turn.id
            late.append(runs[0].start / 8000)
            early.append((stop - start - runs[-1].stop) / 8000)
    assert np.median(late) < 0.01 and np.median(early) < 0.05
    assert np.percentile(late, 95) < 0.1 and np.percentile(early, 95) < 0.2


def test_callers_speak_at_the_usual_level(whole: Corpus) -> None:
    for turn in whole.turns:
        windows = turn.pcm[: len(turn.pcm) // 40 * 40].reshape(-1, 40).astype(np.float64)
        power = (windows**2).mean(axis=1)
        level = 10 * np.log10(power[power > power.max() * 1e-3].mean() / 32_768**2)
        assert level == pytest.approx(LEVEL_DBFS, abs=0.3), turn.id


def test_words_of_the_spans_are_the_words_of_the_turn(whole: Corpus) -> None:
    for turn in whole.turns:
        assert " ".join(turn.texts) == turn.text and len(turn.texts) == len(turn.spans)
        assert "{" not in turn.text and "|" not in turn.text


def test_what_the_edge_hears_holds_the_turn_and_noise_about_it(whole: Corpus) -> None:
    def level(pcm: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(10 * np.log10((pcm.astype(np.float64) ** 2).mean() / 32_768**2 + 1e-12))

    noisy = next(t for t in whole.turns if t.condition.noise == "hiss" and t.condition.loss == 0)
    arrived = heard(noisy)
    assert len(arrived) == LEAD_SAMPLES + len(noisy.pcm) + TAIL_SAMPLES
    assert TAIL_SAMPLES >= 3 * 8000
    for silence in (arrived[:LEAD_SAMPLES], arrived[-TAIL_SAMPLES:]):
        assert level(silence) == pytest.approx(noisy.condition.level_dbfs, abs=1.5)
    speech = arrived[LEAD_SAMPLES : LEAD_SAMPLES + len(noisy.pcm)].astype(np.float64)
    assert np.corrcoef(speech, noisy.pcm)[0, 1] > 0.98
    assert np.array_equal(arrived, heard(noisy))


def test_lost_audio_frames_are_silence(whole: Corpus) -> None:
    lossy = next(t for t in whole.turns if t.condition.noise == "cafe" and t.condition.loss == 0.03)
    arrived = heard(lossy)
    whole_frames = arrived[: len(arrived) // 160 * 160].reshape(-1, 160)
    lost = np.mean(~whole_frames.any(axis=1))
    assert 0.005 < lost < 0.08


def test_the_agents_echo_comes_late_and_quiet(whole: Corpus) -> None:
    sounds = [o for o in whole.overlaps if o.condition.echo_db is not None and o.condition.loss == 0]
    overlap = next(o for o in sounds if o.condition.noise is None)
    agent = np.zeros(32_000, np.int16)
    agent[:4000] = np.random.default_rng(0).normal(0, 3000, 4000)
    echoed = heard_over(overlap, agent, at=len(agent))
    late = round(overlap.condition.echo_delay_ms * 8)
    assert not echoed[: late - 1].any()
    back = 10 * np.log10((echoed[late : late + 4000].astype(np.float64) ** 2).mean() / 3000.0**2)
    # White noise loses what the telephone band cuts.
    assert overlap.condition.echo_db is not None
    assert back == pytest.approx(overlap.condition.echo_db - 1, abs=2.5)
    spoken = heard_over(overlap, np.zeros(32_000, np.int16), at=8000)
    assert not spoken[:7999].any() and spoken[8000 : 8000 + len(overlap.pcm)].any()


def test_it_is_the_same_corpus_every_time(whole: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.corpus.building.PAUSED_TURNS", 8)
    monkeypatch.setattr("bench.corpus.building.PLAIN_TURNS", 6)
    monkeypatch.setattr("bench.corpus.building.OVERLAPS", {"backchannel": 3, "cough": 2, "side_talk": 2})
    first, second = build(), build()
    assert first == second
    for one, other in zip((*first.turns, *first.overlaps), (*second.turns, *second.overlaps), strict=True):
        assert np.array_equal(one.pcm, other.pcm)


def test_without_flite_the_other_callers_say_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.corpus.building.has_flite", lambda: False)
    monkeypatch.setattr("bench.corpus.speech._flite", None)
    monkeypatch.setattr("bench.corpus.building.PAUSED_TURNS", 8)
    monkeypatch.setattr("bench.corpus.building.PLAIN_TURNS", 6)
    monkeypatch.setattr("bench.corpus.building.OVERLAPS", {"stop_word": 6})
    made = build()
    assert len(made.turns) == 28 and len(made.overlaps) == 12


def test_turns_can_be_told_apart_without_their_sound(whole: Corpus) -> None:
    ids = [item.id for item in (*whole.turns, *whole.overlaps)]
    assert len(set(ids)) == len(ids)
    assert isinstance(whole.turns[0], Turn) and not whole.turns[0].pcm.flags.writeable
