import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from infra.saying import Said, clauses_of, say, say_with, write_wav
from infra.settings import load_settings
from models.base import AgentSpeech
from models.scripted import ScriptedSynthesizer
from telephony.simulator.virtual_loop import run_virtual

TEXT = "We open at 8. You may come in at any time before noon."


def test_a_text_is_spoken_clause_by_clause_in_its_own_context() -> None:
    synthesizer = ScriptedSynthesizer(latency_s=0.2, realtime_factor=0.5, takes_context="text")
    said = run_virtual(say(synthesizer, TEXT))
    first, second = synthesizer.spoken
    assert said.clauses == (first.text, second.text) == clauses_of(TEXT)
    assert first.text == "We open at eight."
    assert second.context == (AgentSpeech(first.utterance, first.text),)
    assert said.audio_s == pytest.approx(0.06 * (len(first.text) + len(second.text)))
    assert said.first_audio_s == pytest.approx(0.2)
    assert said.rtf is not None
    assert 0.5 < said.rtf < 0.7, "half of real time, and two waits of 0.2 s"


@pytest.mark.parametrize("nothing", ["", "   ", "** **", "\n"])
def test_a_text_without_words_is_silence(nothing: str) -> None:
    said = run_virtual(say(ScriptedSynthesizer(), nothing))
    assert (said.clauses, said.audio.size, said.first_audio_s, said.rtf) == ((), 0, None, None)


def test_a_long_text_is_said_whole() -> None:
    text = "This is one sentence of a long letter. " * 130
    said = run_virtual(say(ScriptedSynthesizer(), text))
    assert len(text) > 5000
    assert " ".join(said.clauses) == text.strip()


def test_the_file_holds_what_was_said(tmp_path: Path) -> None:
    said = run_virtual(say(ScriptedSynthesizer(), TEXT))
    write_wav(tmp_path / "x.wav", said.audio, said.sample_rate_hz)
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_allclose(pcm / 32768, said.audio, atol=1 / 32768)


def test_a_voice_of_csm_is_loaded_alone_and_spoken_with(tmp_path: Path) -> None:
    """Random weights: noise comes out, as much as the rules for utterances without an end allow."""
    from models.csm.random_weights import save_random
    from models.csm.shapes import CSM_TINY
    from models.csm.text import save_byte_tokenizer

    save_random(tmp_path, CSM_TINY, seed=3)
    save_byte_tokenizer(tmp_path / "tokenizer.json")
    settings = load_settings({}, options={"tts": str(tmp_path), "devices": "tts=cpu", "threads": 1})
    said, load_s = asyncio.run(say_with(settings, "Hi."))
    assert said.clauses == ("Hi.",)
    assert said.sample_rate_hz == 24_000
    assert said.audio.size % 1920 == 0
    assert 0 < said.audio_s < 3
    assert said.first_audio_s is not None
    assert 0 < said.first_audio_s <= said.took_s
    assert load_s > 0


def test_the_figures_are_those_of_the_work() -> None:
    said = Said(("Hello.",), np.zeros(48_000, np.float32), 24_000, 0.25, 0.5)
    assert said.figures() == {
        "clauses": 1,
        "audio_s": 2.0,
        "first_audio_ms": 250.0,
        "took_s": 0.5,
        "rtf": 0.25,
        "sample_rate_hz": 24_000,
    }
