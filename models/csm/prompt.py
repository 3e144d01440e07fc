"""The voice prompt: a few seconds of the voice that every call begins with, encoded once."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.base import ModelError, ModelMissing
from models.csm.files import MIMI
from models.csm.rates import to_codec_rate
from models.csm.shapes import CODEBOOKS, CODEC_FRAME_S, MIMI_BINS, RATE_HZ
from models.csm.stepping import Codes, Samples

if TYPE_CHECKING:
    from models.mimi.codec import Codec

SHORTEST_S, LONGEST_S = 1.0, 40.0
"""40 s are 500 rows, a quarter of what the model remembers."""
_FORMAT = "maya-voice-prompt-1"
_QUIETEST = 10 ** (-50 / 20)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class VoicePrompt:
    """What was said, and its sound as codes."""

    text: str
    codes: Codes
    """(n_codec_frames, 32) int32."""
    speaker: int = 0
    mimi_sha256: str = ""
    """Of the codec's weights: other weights read these codes as noise. "" where it is not known."""

    @property
    def duration_s(self) -> float:
        return len(self.codes) * CODEC_FRAME_S


def read_speech(path: Path) -> Samples:
    """A sound file as (n,) float32 at 24 kHz, its channels averaged. Raises `ModelError`."""
    import soundfile

    if not path.is_file():
        raise ModelMissing(f"{path} does not exist, or is no file: name a recording (wav, flac, ogg, mp3).")
    try:
        audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        speech = to_codec_rate(audio.mean(axis=1), rate_hz)
    except (OSError, ValueError, soundfile.SoundFileError) as error:
        raise ModelError(f"{path} cannot be read as sound: {error}") from error
    seconds = len(speech) / RATE_HZ
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ModelError(
            f"{path} lasts {seconds:.1f} s: a voice prompt has {SHORTEST_S:.0f} to {LONGEST_S:.0f} s;"
            " 10 to 20 s of calm speech without noise serve best."
        )
    if not np.isfinite(speech).all() or np.sqrt(np.mean(np.square(speech, dtype=np.float64))) < _QUIETEST:
        raise ModelError(f"{path} holds no speech: it is silent or damaged.")
    return speech


def make_prompt(
    speech: Samples, text: str, codec: "Codec", *, speaker: int = 0, mimi_sha256: str = ""
) -> VoicePrompt:
    """Encode (n,) float32 at 24 kHz with the codec. `text` is exactly what is said in it. Blocks for about as
    long as the speech lasts on one CPU core. Raises `ModelError` for a text without words."""
    import torch

    text = checked_words(text)
    with torch.inference_mode():
        codes = codec.encode(torch.from_numpy(np.ascontiguousarray(speech))[None])[0]
    return VoicePrompt(text, codes.cpu().numpy().astype(np.int32), speaker, mimi_sha256)


def checked_words(text: str) -> str:
    """The text on one line. Raises `ModelError` when it holds no words."""
    text = " ".join(text.split())
    if not any(character.isalnum() for character in text):
        raise ModelError("The voice prompt's text is empty: give the words that the recording says.")
    return text


def save_prompt(prompt: VoicePrompt, path: Path) -> None:
    """Write a safetensors file: codes (n, 32) int16, and the rest as metadata. Raises `OSError`."""
    from safetensors.numpy import save

    metadata = {
        "format": _FORMAT,
        "text": prompt.text,
        "speaker": str(prompt.speaker),
        "mimi_sha256": prompt.mimi_sha256,
    }
    path.write_bytes(save({"codes": np.ascontiguousarray(prompt.codes, np.int16)}, metadata=metadata))


def load_prompt(path: Path, *, mimi_sha256: str = "") -> VoicePrompt:
    """Read what `save_prompt` wrote. `mimi_sha256` is that of the codec in use, "" to take any. Raises
    `ModelMissing` when there is no such file, `ModelError` for anything else than a prompt of this codec."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ModelMissing("The package safetensors is missing: pip install 'maya-voice[csm]'.") from error
    if not path.is_file():
        raise ModelMissing(
            f"{path} is missing; make it with: maya voice prompt FILE --text '...' --out {path}"
        )
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT or "codes" not in file.keys():  # noqa: SIM118
                raise ModelError(f"{path} is no voice prompt; make one with: maya voice prompt")
            codes = file.get_tensor("codes")
    except SafetensorError as error:
        raise ModelError(
            f"{path} is no voice prompt, or it is damaged ({error}); of a recording, one is made with:"
            " maya voice prompt RECORDING --text '...'"
        ) from error
    return _checked(codes, metadata, path, mimi_sha256)


def _checked(codes: Codes, metadata: dict[str, str], path: Path, mimi_sha256: str) -> VoicePrompt:
    if (
        codes.ndim != 2
        or codes.shape[1] != CODEBOOKS
        or not len(codes)
        or codes.dtype.kind != "i"
        or codes.min() < 0
        or codes.max() >= MIMI_BINS
    ):
        raise ModelError(f"{path} holds no codes of Mimi; make it again: maya voice prompt")
    made_with = metadata.get("mimi_sha256", "")
    if mimi_sha256 and made_with and made_with != mimi_sha256:
        raise ModelError(
            f"{path} was made with another Mimi (SHA-256 {made_with[:12]}..., this one is"
            f" {mimi_sha256[:12]}...): make it again with: maya voice prompt"
        )
    text, speaker = metadata.get("text", ""), metadata.get("speaker", "0")
    if not text or not speaker.isdecimal():
        raise ModelError(f"{path} does not say its words or its speaker; make it again: maya voice prompt")
    return VoicePrompt(text, codes.astype(np.int32), int(speaker), made_with)


def sha256_of(path: Path) -> str:
    """Of Mimi's file, or of the one that a folder holds; blocks for about a second. Raises `ModelMissing`."""
    if path.is_dir():
        path = next((path / name for name in MIMI if (path / name).is_file()), path / MIMI[0])
    if not path.is_file():
        raise ModelMissing(f"{path} is missing: name Mimi's file with --mimi, or: maya models pull mimi")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
