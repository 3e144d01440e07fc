"""Callers' voices, on a stand-in for the bundled voice: its package is not there for every interpreter."""

import stat

import numpy as np
import pytest
import soundfile

from pipeline.audible import voiced_runs
from telephony.simulator import voices
from telephony.simulator.errors import VoiceUnavailable
from telephony.simulator.scenario import Scenario
from telephony.simulator.voices import PEOPLE, read_audio, render, speak


def sine(hertz: float, seconds: float, rate_hz: int, level: float = 0.3):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(
        np.float32
    )


def pitch_hz(pcm) -> float:
    spectrum = np.abs(np.fft.rfft(pcm.astype(float) * np.hanning(len(pcm))))
    return float(np.argmax(spectrum)) * 8000 / len(pcm)


class Singer:
    """As `hibari.Hibari`: 24 kHz, 300 Hz, 2 s at speed 1."""

    calls = 0

    def __call__(self, text: str, speed: float = 1.0, seed: int | None = None):
        Singer.calls += 1
        assert seed is not None
        return sine(300, 2.0 / speed, 24_000, level=0.05)


@pytest.fixture
def singer(monkeypatch):
    voices._spoken.cache_clear()
    monkeypatch.setattr(voices, "_hibari", Singer)
    yield
    voices._spoken.cache_clear()


@pytest.mark.parametrize("name", PEOPLE)
def test_people_differ_from_the_agent_in_pitch_and_keep_their_pace(singer, name):
    person, line = PEOPLE[name], speak("hello", name)
    assert person.pitch != 1
    assert pitch_hz(line) == pytest.approx(300 * person.pitch, abs=3)
    assert len(line) / 8000 == pytest.approx(2.0 / person.pace, abs=0.01)


def test_there_are_at_least_three_people_and_no_two_sound_alike():
    assert len(PEOPLE) >= 3
    assert len({(person.pitch, person.pace) for person in PEOPLE.values()}) == len(PEOPLE)


def test_lines_come_out_at_minus_20_dbfs(singer):
    line = speak("hello", "ruth").astype(float)
    assert 20 * np.log10(np.sqrt(np.mean(line**2)) / 32768) == pytest.approx(-20, abs=0.2)


def test_a_line_begins_and_ends_with_its_voice(monkeypatch):
    """Synthesisers pad; a caller who is told to speak now should."""
    padded = np.concatenate((np.zeros(9600), sine(300, 1.0, 24_000), np.zeros(4800))).astype(np.float32)
    monkeypatch.setattr(voices, "_hibari", lambda: lambda text, speed, seed: padded)
    line = speak("hello", "ruth")
    (said,) = voiced_runs(line)
    assert said.start <= 400
    assert len(line) - said.stop <= 480


def test_a_line_is_synthesised_once_per_process(singer):
    Singer.calls = 0
    scenario = Scenario.model_validate(
        {"steps": [{"say": "a"}, {"say": "a"}, {"interrupt": {"after_s": 1, "say": "a"}}, {"say": "b"}]}
    )
    lines = render(scenario)
    render(scenario)
    assert Singer.calls == 2
    assert list(lines) == [0, 1, 2, 3]
    assert {len(audio_frame) for line in lines.values() for audio_frame in line.audio_frames} == {160}


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_audio_files_are_played_at_the_level_they_have(tmp_path, rate_hz, suffix):
    path = tmp_path / f"line.{suffix}"
    stereo = np.stack((sine(440, 1.0, rate_hz), sine(440, 1.0, rate_hz)), axis=1)
    soundfile.write(path, stereo, rate_hz)
    pcm = read_audio(path)
    assert len(pcm) == 8000
    assert pitch_hz(pcm) == pytest.approx(440, abs=2)
    assert np.abs(pcm).max() / 32768 == pytest.approx(0.3, abs=0.02)


def test_files_lie_beside_the_scenario(tmp_path):
    soundfile.write(tmp_path / "line.wav", sine(440, 0.5, 8000), 8000)
    (tmp_path / "call.yaml").write_text("steps:\n  - play: {file: line.wav, text: hello}\n")
    (line,) = render(Scenario.load(tmp_path / "call.yaml")).values()
    assert line.text == "hello"
    assert len(line.audio_frames) == 25


def test_what_cannot_be_played_is_named(tmp_path):
    with pytest.raises(VoiceUnavailable, match=r"gone\.wav"):
        read_audio(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(VoiceUnavailable, match=r"text\.wav"):
        read_audio(tmp_path / "text.wav")


def test_an_unknown_voice_names_the_known_ones():
    with pytest.raises(VoiceUnavailable, match=r'"heart".*ruth.*flite:slt'):
        speak("hello", "heart")


def test_a_missing_voice_package_says_what_to_install(monkeypatch):
    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(voices.importlib, "import_module", missing)
    voices._hibari.cache_clear()
    with pytest.raises(VoiceUnavailable, match="pip install"):
        voices._hibari()


def test_flite_when_it_is_installed(tmp_path, monkeypatch):
    """A stand-in for the command: it writes the file that it is asked for."""
    soundfile.write(tmp_path / "said.wav", sine(250, 1.0, 16_000), 16_000)
    command = tmp_path / "flite"
    command.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3 $4" = "-voice slt -t hello" ] && cp {tmp_path}/said.wav "$6"\n'
    )
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert pitch_hz(speak("hello", "flite:slt")) == pytest.approx(250, abs=2)
    command.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(VoiceUnavailable, match="flite failed"):
        speak("hello", "flite:slt")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(VoiceUnavailable, match="apt install flite"):
        speak("hello", "flite:slt")
