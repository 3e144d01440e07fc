"""Two real front-ends and one call: the one that holds it is killed in mid-reply."""

from pathlib import Path

import numpy as np
import pytest

from bench.faults import _clauses, front_end_killed, gap_ms, sound_of, turns_lost
from bench.faults_server import BOOK, FORGOT, REMEMBERS, REPLY
from bench.word_tones import WordTones
from infra.store.rows import TurnRow
from models.scripted import VOICE_RATE_HZ
from pipeline.line import LINE_RATE_HZ
from pipeline.resample import resample, to_pcm
from telephony import g711
from telephony.simulator.caller import Hearing, StreamDrop
from telephony.simulator.report import Report


@pytest.mark.realtime
def test_a_killed_front_end_costs_the_caller_seconds_and_no_word(tmp_path: Path) -> None:
    figures = front_end_killed("scripted", tmp_path, lambda line: None)
    gap = figures["frontend_kill_gap_ms"]
    assert isinstance(gap, float)
    assert gap <= 5_000
    assert figures["streams"] == 2
    assert figures["recordings"] == 2, "the first part is kept, and another written"
    assert (figures["turns_lost"], figures["clauses_lost"], figures["clauses_repeated"]) == (0, 0, 0)
    assert figures["conversation_intact"]


def report(*voiced_s: tuple[float, float], drops: tuple[StreamDrop, ...]) -> Report:
    agent = np.zeros(8000 * 10, np.int16)
    for start, stop in voiced_s:
        agent[round(8000 * start) : round(8000 * stop)] = 8000 * np.sign(
            np.sin(np.arange(round(8000 * stop) - round(8000 * start)) / 5)
        )
    hearing = Hearing(agent, agent, (), (), ())
    return Report((), (), None, "agent hung up", 10.0, "CA1", hearing=hearing, drops=drops)


def test_the_gap_is_from_the_lost_stream_to_the_next_sound() -> None:
    heard = report((1.0, 3.0), (5.5, 6.0), drops=(StreamDrop(3.0, 4.0),))
    assert gap_ms(heard) == pytest.approx(2500, abs=15)
    on_its_way = report((1.0, 3.0), (3.02, 3.06), (5.5, 6.0), drops=(StreamDrop(3.0, 4.0),))
    assert gap_ms(on_its_way) == pytest.approx(2500, abs=15)
    assert gap_ms(report((1.0, 3.0), drops=(StreamDrop(3.0),))) is None
    assert gap_ms(report((1.0, 3.0), drops=())) is None


def spoken(*texts: str) -> np.ndarray:
    """Through resampler and codec, one text after the other; "a|b" is cut where the bar is."""
    voice, pieces = WordTones(BOOK), []
    for text in texts:
        whole, cut = text.replace("|", ""), text.partition("|")[0]
        audio, spans = voice.speech(whole)
        if "|" in text:
            audio = audio[: round(spans[len(cut.split()) - 1][1] * VOICE_RATE_HZ)]
        pieces.append(audio)
    pcm = to_pcm(resample(np.concatenate(pieces), VOICE_RATE_HZ, LINE_RATE_HZ))
    return g711.decode(g711.encode(pcm))


def cut(clause: str) -> str:
    words = clause.split()
    return " ".join(words[:3]) + " | " + " ".join(words[3:])


def test_the_sound_of_a_call_that_lost_nothing() -> None:
    first, second, third, *rest = _clauses()
    sound = sound_of(spoken(first, second, cut(third), "Sorry, the line dropped.", third, *rest, REMEMBERS))
    assert (sound.lost, sound.repeated, sound.words_again) == (frozenset(), frozenset(), 3)
    assert sound.remembers


def test_a_clause_that_is_lost_or_comes_twice_shows_in_the_sound_alone() -> None:
    first, second, third, *rest = _clauses()
    assert sound_of(spoken(first, second, cut(third), *rest)).lost == {third}
    assert sound_of(spoken(first, *rest)).lost == {second, third}
    assert sound_of(spoken(first, second, cut(third), second, third, *rest)).repeated == {second}
    again = sound_of(spoken(first, second, third, first, second, third, *rest))
    assert again.repeated == {first, second, third}
    assert not sound_of(spoken(first, second)).remembers
    assert not sound_of(spoken(REPLY, FORGOT)).remembers
    assert not sound_of(spoken(REPLY, cut(REMEMBERS))).remembers
    assert sound_of(np.zeros(0, np.int16)).lost == set(_clauses())


def test_a_turn_that_is_not_whole_is_lost() -> None:
    turns = (
        TurnRow(0, 0, "done", "", "Hello.", "Hello.", False),
        TurnRow(0, 1, "replying", "when", "At nine", "", False),
        TurnRow(1, 1, "done", "when", "At nine.", "At nine.", False),
        TurnRow(1, 2, "asked", "and", "", "", False),
    )
    assert turns_lost(turns, 2) == 1
    assert turns_lost((), 2) == 3
