from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from models.base import ModelError, ModelMissing
from models.csm.prompt import VoicePrompt, load_prompt, make_prompt, read_speech, save_prompt
from tests.models.csm.tiny_stepper import tiny_codec

CODES = np.random.default_rng(1).integers(0, 2048, (20, 32), dtype=np.int32)


def tone(seconds: float, rate_hz: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 200 * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def test_a_prompt_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_prompt(VoicePrompt("I am “the” voice.", CODES, 3, "ab" * 32), path)
    prompt = load_prompt(path, mimi_sha256="ab" * 32)
    assert (prompt.text, prompt.speaker, prompt.mimi_sha256) == ("I am “the” voice.", 3, "ab" * 32)
    assert np.array_equal(prompt.codes, CODES) and prompt.codes.dtype == np.int32
    assert prompt.duration_s == pytest.approx(1.6)
    assert path.stat().st_size < 2_000


def test_a_prompt_of_another_codec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_prompt(VoicePrompt("Hi.", CODES, 0, "ab" * 32), path)
    with pytest.raises(ModelError, match=r"another Mimi \(SHA-256 abab.*this one is cdcd"):
        load_prompt(path, mimi_sha256="cd" * 32)
    save_prompt(VoicePrompt("Hi.", CODES), path)
    assert load_prompt(path, mimi_sha256="cd" * 32).mimi_sha256 == ""


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    with pytest.raises(ModelMissing, match=r"is missing; make it with: maya voice prompt"):
        load_prompt(path)
    path.write_bytes(b"RIFF....WAVE")
    with pytest.raises(ModelError, match="is damaged"):
        load_prompt(path)
    save_prompt(VoicePrompt("Hi.", CODES), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelError, match="is damaged"):
        load_prompt(path)
    save_file({"weight": CODES}, str(path))
    with pytest.raises(ModelError, match="is no voice prompt"):
        load_prompt(path)


@pytest.mark.parametrize(
    ("codes", "text", "speaker", "problem"),
    [
        (CODES[:, :8], "Hi.", "0", "no codes of Mimi"),
        (CODES[:0], "Hi.", "0", "no codes of Mimi"),
        (CODES + 2048, "Hi.", "0", "no codes of Mimi"),
        (CODES.astype(np.float32), "Hi.", "0", "no codes of Mimi"),
        (CODES, "", "0", "its words"),
        (CODES, "Hi.", "ex04", "its speaker"),
    ],
)
def test_wrong_contents_are_refused(
    tmp_path: Path, codes: np.ndarray, text: str, speaker: str, problem: str
) -> None:
    path = tmp_path / "prompt.safetensors"
    metadata = {"format": "maya-voice-prompt-1", "text": text, "speaker": speaker}
    save_file({"codes": np.ascontiguousarray(codes)}, str(path), metadata=metadata)
    with pytest.raises(ModelError, match=problem):
        load_prompt(path)


@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 2), (8_000, 1), (24_000, 1)])
def test_any_rate_and_any_channels_become_24_khz(tmp_path: Path, rate_hz: int, channels: int) -> None:
    path = tmp_path / "voice.wav"
    soundfile.write(path, np.stack([tone(2.0, rate_hz)] * channels, axis=1), rate_hz)
    speech = read_speech(path)
    assert speech.shape == (48_000,) and speech.dtype == np.float32
    assert np.sqrt(np.mean(speech**2)) == pytest.approx(0.3 / 2**0.5, rel=0.01)


def test_what_is_no_speech_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    with pytest.raises(ModelError, match="does not exist"):
        read_speech(path)
    path.write_text("not a sound")
    with pytest.raises(ModelError, match="cannot be read as sound"):
        read_speech(path)
    soundfile.write(path, tone(0.4, 24_000), 24_000)
    with pytest.raises(ModelError, match=r"lasts 0\.4 s: a voice prompt has 1 to 40 s"):
        read_speech(path)
    soundfile.write(path, tone(41.0, 8_000), 8_000)
    with pytest.raises(ModelError, match=r"lasts 41\.0 s"):
        read_speech(path)
    soundfile.write(path, np.zeros(48_000), 24_000)
    with pytest.raises(ModelError, match="holds no speech"):
        read_speech(path)


def test_speech_is_encoded_by_the_codec() -> None:
    prompt = make_prompt(tone(1.0, 24_000), "  Hello \n there. ", tiny_codec(), speaker=2, mimi_sha256="ff")
    assert prompt.codes.shape == (13, 32) and prompt.codes.dtype == np.int32
    assert prompt.codes.min() >= 0 and prompt.codes.max() < 2048
    assert (prompt.text, prompt.speaker, prompt.mimi_sha256) == ("Hello there.", 2, "ff")
    with pytest.raises(ModelError, match="text is empty"):
        make_prompt(tone(1.0, 24_000), " ... ", tiny_codec())


def test_another_file_is_told_from_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "reading.wav").write_bytes(b"RIFF and so on, much longer than a header of safetensors")
    with pytest.raises(ModelError, match=r"is no voice prompt.*maya voice prompt RECORDING"):
        load_prompt(tmp_path / "reading.wav")
