from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models.base import ModelMissing
from models.scripted import EnergyVoiceActivity, voiced_signal
from models.silero import SileroVoiceActivity
from models.store import Store


@pytest.fixture(scope="module")
def onnx_path() -> Path:
    path = Store().path("silero-vad")
    return path if path.is_file() else next(path.glob("*.onnx"))


@pytest.fixture(scope="module")
def detector(onnx_path: Path) -> SileroVoiceActivity:
    return SileroVoiceActivity(onnx_path)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """A hibari sentence at 8 kHz between silences, (n, 256)."""
    from hibari import Hibari

    spoken = Hibari()("Could I book an appointment for Tuesday morning please?", seed=0)
    spectrum = np.fft.rfft(spoken)
    length = len(spoken) // 3
    at_8_khz = np.fft.irfft(spectrum[: length // 2 + 1], length) / 3
    return at_8_khz[: length // 256 * 256].astype(np.float32).reshape(-1, 256)


def run(detector: SileroVoiceActivity, windows: np.ndarray) -> np.ndarray:
    stream = detector.open()
    return np.array([detector.probabilities([stream], window[None])[0] for window in windows])


@pytest.mark.models
def test_one_stream_follows_the_upstream_wrapper(
    detector: SileroVoiceActivity, onnx_path: Path, speech: np.ndarray
) -> None:
    """The formula of silero-vad's own `OnnxWrapper`: context of 32, state handed on."""
    session = onnxruntime.InferenceSession(str(onnx_path), providers=["CPUExecutionProvider"])
    state, context, expected = np.zeros((2, 1, 128), np.float32), np.zeros((1, 32), np.float32), []
    for window in speech:
        given = np.concatenate([context, window[None]], axis=1)
        output, state = session.run(None, {"input": given, "state": state, "sr": np.array(8000, np.int64)})
        context = given[:, -32:]
        expected.append(output[0, 0])
    np.testing.assert_allclose(run(detector, speech), expected, atol=1e-6)
    assert max(expected) > 0.95 and expected[0] < 0.1 and expected[-1] < 0.1


@pytest.mark.models
def test_a_batch_of_streams_equals_each_stream_alone(
    detector: SileroVoiceActivity, speech: np.ndarray
) -> None:
    rolled = np.stack([np.roll(speech.ravel(), 777 * n).reshape(speech.shape) for n in range(20)])
    streams = [detector.open() for _ in rolled]
    batched = np.zeros(rolled.shape[:2])
    for window in range(rolled.shape[1]):
        # The order and the company change from batch to batch; a third of the streams sit one out.
        order = np.random.default_rng(window).permutation(20)
        for half in (order[:7], order[7:]):
            batched[half, window] = detector.probabilities([streams[n] for n in half], rolled[half, window])
    for n in (0, 7, 19):
        np.testing.assert_allclose(batched[n], run(detector, rolled[n]), atol=1e-6)


@pytest.mark.models
def test_noise_silence_and_hum_are_not_speech(detector: SileroVoiceActivity) -> None:
    noise = np.random.default_rng(0).standard_normal((60, 256)).astype(np.float32)
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(60 * 256) / 8_000).reshape(60, 256)
    assert run(detector, np.zeros((60, 256), np.float32)).max() < 0.1
    assert run(detector, 0.01 * noise).max() < 0.3
    assert run(detector, hum.astype(np.float32))[5:].max() < 0.3


@pytest.mark.models
def test_broken_samples_do_not_poison_the_stream(detector: SileroVoiceActivity, speech: np.ndarray) -> None:
    stream = detector.open()
    for broken in (np.nan, np.inf, -np.inf, 1e30):
        window = np.full((1, 256), broken, np.float32)
        assert np.isfinite(detector.probabilities([stream], window)).all()
    after = [detector.probabilities([stream], window[None])[0] for window in speech]
    assert max(after) > 0.95 and after[-1] < 0.1


@pytest.mark.models
def test_wrong_batches_are_refused(detector: SileroVoiceActivity) -> None:
    stream = detector.open()
    assert detector.probabilities([], np.zeros((0, 256), np.float32)).shape == (0,)
    with pytest.raises(ValueError, match="shape"):
        detector.probabilities([stream], np.zeros((1, 160), np.float32))
    with pytest.raises(ValueError, match="twice"):
        detector.probabilities([stream, stream], np.zeros((2, 256), np.float32))
    with pytest.raises(ValueError, match="another"):
        detector.probabilities([EnergyVoiceActivity().open()], voiced_signal("x", 0.032, 8_000)[None])


def test_a_missing_or_damaged_file_names_the_mending_command(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="models pull silero-vad"):
        SileroVoiceActivity(tmp_path / "silero_vad.onnx")
    damaged = tmp_path / "silero_vad.onnx"
    damaged.write_bytes(b"not onnx")
    with pytest.raises(ModelMissing, match="models pull silero-vad"):
        SileroVoiceActivity(damaged)
