import numpy as np

from models.csm.encoding import EncodeJob
from tests.models.csm.null_stepper import NullStepper


def encoded(n_samples: int, chunk: int) -> tuple[np.ndarray, int]:
    job = EncodeJob(1, 0, np.full(n_samples, 0.5, np.float32), lambda codes: None, chunk)
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
