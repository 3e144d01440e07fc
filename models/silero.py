"""Silero VAD 6 on onnxruntime: the windows of every call in one batch.

At 8 kHz the network takes 256 new samples (32 ms) after the 32 samples before them, and carries a state of
(2, 128) per stream from window to window (silero-vad 6.2.3, `OnnxWrapper`). Inputs: `input`
(n, 288) float32, `state` (2, n, 128) float32, `sr` () int64; outputs: probability (n, 1), next state.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from models.base import (
    VAD_RATE_HZ,
    VAD_WINDOW_SAMPLES,
    ModelFailed,
    ModelMissing,
    Samples,
    VoiceActivityStream,
)

CONTEXT_SAMPLES = 32
STATE_SIZE = 128


class SileroStream:
    """What the network remembers of one stream."""

    __slots__ = ("context", "state")

    def __init__(self) -> None:
        self.context: Samples = np.zeros(CONTEXT_SAMPLES, np.float32)
        self.state: Samples = np.zeros((2, STATE_SIZE), np.float32)


class SileroVoiceActivity:
    """`probabilities` runs on the calling thread, one core, about 0.1 ms for one stream; ONNX sessions may
    be used from several threads, one stream from one thread at a time. Samples that are not finite count
    as silence, so one broken chunk cannot poison a stream's state."""

    def __init__(self, onnx_path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # A spinning worker would steal the core from the language model between ticks.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if not onnx_path.is_file():
            raise ModelMissing(f"{onnx_path} is missing: run `maya models pull silero-vad`.")
        try:
            self._session = onnxruntime.InferenceSession(
                str(onnx_path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelMissing(
                f"{onnx_path} cannot be loaded as silero_vad.onnx: run `maya models pull silero-vad`."
            ) from error
        self._rate = np.array(VAD_RATE_HZ, np.int64)

    def open(self) -> VoiceActivityStream:
        return SileroStream()

    def probabilities(self, streams: Sequence[VoiceActivityStream], windows: Samples) -> Samples:
        count = len(streams)
        if windows.shape != (count, VAD_WINDOW_SAMPLES):
            raise ValueError(f"windows has shape {windows.shape}, expected ({count}, {VAD_WINDOW_SAMPLES})")
        if count == 0:
            return np.zeros(0, np.float32)
        if len({id(stream) for stream in streams}) != count:
            raise ValueError("a stream occurs twice in one batch")
        own = [stream for stream in streams if isinstance(stream, SileroStream)]
        if len(own) != count:
            raise ValueError("a stream was opened by another voice activity model")
        batch = np.empty((count, CONTEXT_SAMPLES + VAD_WINDOW_SAMPLES), np.float32)
        state = np.empty((2, count, STATE_SIZE), np.float32)
        for row, stream in enumerate(own):
            batch[row, :CONTEXT_SAMPLES] = stream.context
            state[:, row] = stream.state
        batch[:, CONTEXT_SAMPLES:] = windows
        if not np.isfinite(np.add.reduce(batch, axis=None)):
            np.nan_to_num(batch, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        np.maximum(batch, np.float32(-1.0), out=batch)
        np.minimum(batch, np.float32(1.0), out=batch)
        try:
            output, next_state = self._session.run(None, {"input": batch, "state": state, "sr": self._rate})
        except Exception as error:
            raise ModelFailed(f"silero-vad failed on a batch of {count} streams: {error}") from error
        for row, stream in enumerate(own):
            stream.context = batch[row, -CONTEXT_SAMPLES:].copy()
            stream.state = next_state[:, row].copy()
        probabilities: Samples = output[:, 0]
        return probabilities
