import numpy as np

from models.csm.encoding import EncodeJob
from models.csm.rates import to_codec_rate
from models.csm.stepping import Codes, Samples
from tests.models.csm.null_stepper import NullStepper


def encoded(n_samples: int, chunk: int) -> tuple[np.ndarray, int]:
    job = EncodeJob(1, 0, np.full(n_samples, 0.5, np.float32), 24_000, lambda codes: None, chunk)
    steps = 0
    while not job.complete:
        job.step(NullStepper().open_encoder)
        steps += 1
    return job.codes(), steps


def test_audio_is_cut_into_pieces_and_filled_up():
    codes, steps = encoded(1920 * 4 + 1, 2)
    assert codes.shape == (5, 32) and codes.dtype == np.int32 and steps == 3
    assert (codes == 500).all()


def test_no_audio_has_no_codes():
    codes, steps = encoded(0, 2)
    assert codes.shape == (0, 32) and steps == 0


def test_a_telephones_rate_is_raised_piece_by_piece():
    class Listens:
        def __init__(self) -> None:
            self.heard: list[np.ndarray] = []

        def push(self, audio: Samples) -> Codes:
            self.heard.append(audio)
            return np.zeros((len(audio) // 1920, 32), np.int32)

    audio = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    encoder = Listens()
    job = EncodeJob(1, 0, audio, 8_000, lambda codes: None, 2)
    while not job.complete:
        job.step(lambda: encoder)
    assert [len(piece) for piece in encoder.heard] == [3840] * 6 + [1920]
    whole = np.pad(to_codec_rate(audio, 8_000), (0, 960))
    np.testing.assert_allclose(np.concatenate(encoder.heard), whole, atol=1e-6)
    assert job.codes().shape == (13, 32)
