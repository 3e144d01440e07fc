"""Messages between a front-end and a replica: a JSON header and raw samples, with their lengths before them.

No pickle: whoever reaches the port can at worst send bad JSON. Pure: bytes in, messages out.
"""

import hashlib
import hmac
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from models.base import (
    GREEDY,
    AgentSpeech,
    CallerSpeech,
    Glimpse,
    Message,
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelLate,
    ModelMissing,
    Samples,
    Sampling,
    Speech,
    Transcript,
    Usage,
)

LARGEST_HEADER = 2**20
LARGEST_BODY = 2**25
"""Twice half an hour of a caller's speech at 8 kHz would not fit; a conversation's context does."""
NONCE_BYTES = 16
_LENGTHS = struct.Struct(">II")
_NO_AUDIO, _KNOWN_AUDIO = -1, -2
_ERRORS: tuple[tuple[str, type[ModelError]], ...] = (
    ("busy", ModelBusy),
    ("missing", ModelMissing),
    ("late", ModelLate),
    ("failed", ModelFailed),
    ("model", ModelError),
)


class WireError(Exception):
    """The other side does not speak our language: close the connection."""


@dataclass(frozen=True, slots=True)
class Packet:
    """`header` is JSON's; `body` samples as float32, little-endian, or nothing."""

    header: dict[str, Any]
    body: bytes = b""

    @property
    def samples(self) -> Samples:
        """Raises `WireError`."""
        if len(self.body) % 4:
            raise WireError(f"{len(self.body)} bytes are no float32 samples")
        return np.frombuffer(self.body, np.dtype("<f4")).astype(np.float32, copy=False)

    def encode(self) -> bytes:
        header = json.dumps(self.header, separators=(",", ":")).encode()
        return _LENGTHS.pack(len(header), len(self.body)) + header + self.body


@dataclass(slots=True)
class Unpacker:
    """Bytes as they arrive -> packets."""

    _pending: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Packet]:
        """Raises `WireError` for what is too long or no JSON object."""
        self._pending += data
        packets: list[Packet] = []
        while len(self._pending) >= _LENGTHS.size:
            header_length, body_length = _LENGTHS.unpack_from(self._pending)
            if header_length > LARGEST_HEADER or body_length > LARGEST_BODY:
                raise WireError(f"a packet of {header_length} + {body_length} bytes")
            end = _LENGTHS.size + header_length + body_length
            if len(self._pending) < end:
                break
            body_at = _LENGTHS.size + header_length
            packets.append(
                Packet(_header(self._pending[_LENGTHS.size : body_at]), bytes(self._pending[body_at:end]))
            )
            del self._pending[:end]
        return packets


def _header(text: bytearray) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise WireError("a header that is no JSON") from error
    if not isinstance(header, dict):
        raise WireError("a header that is no object")
    return header


def body_of(samples: Samples) -> bytes:
    return np.ascontiguousarray(samples, np.dtype("<f4")).tobytes()


# Who may talk: both sides prove that they know the replica's secret, which Ray told them.


def proof(secret: bytes, side: str, own_nonce: bytes, other_nonce: bytes) -> str:
    """HMAC-SHA256 over both nonces; `side` keeps one side's proof from serving as the other's."""
    return hmac.new(secret, side.encode() + own_nonce + other_nonce, hashlib.sha256).hexdigest()


def is_proof(claimed: object, secret: bytes, side: str, own_nonce: bytes, other_nonce: bytes) -> bool:
    return isinstance(claimed, str) and hmac.compare_digest(
        claimed.encode(), proof(secret, side, own_nonce, other_nonce).encode()
    )


# What is said


def messages_out(messages: Sequence[Message]) -> list[list[str]]:
    return [[message.role, message.content] for message in messages]


def messages_in(told: Any) -> list[Message]:
    """Raises `WireError`."""
    try:
        messages = [Message(role, content) for role, content in told]
    except (TypeError, ValueError) as error:
        raise WireError("messages that are none") from error
    for message in messages:
        if message.role not in ("system", "user", "assistant", "tool") or not isinstance(
            message.content, str
        ):
            raise WireError(f"a message of {message.role!r}")
    return messages


def sampling_out(sampling: Sampling) -> dict[str, Any]:
    return asdict(sampling)


def sampling_in(told: Any) -> Sampling:
    """Greedy where nothing is told. Raises `WireError`."""
    if told is None:
        return GREEDY
    try:
        sampling = Sampling(**told)
    except (TypeError, ValueError) as error:
        raise WireError(f"a sampling that is none: {error}") from error
    if not isinstance(sampling.seed, int):
        raise WireError(f"a seed of {sampling.seed!r}")
    return sampling


def transcript_out(transcript: Transcript) -> dict[str, Any]:
    return asdict(transcript)


def transcript_in(told: Mapping[str, Any]) -> Transcript:
    return Transcript(**told)


def glimpse_out(glimpse: Glimpse) -> dict[str, Any]:
    return asdict(glimpse)


def glimpse_in(told: Mapping[str, Any]) -> Glimpse:
    return Glimpse(**told)


def usage_out(usage: Usage) -> list[int]:
    return [usage.evaluated, usage.kept]


def usage_in(told: Sequence[int]) -> Usage:
    return Usage(*told)


def error_out(error: Exception) -> dict[str, str]:
    """Whatever else a model raises is its failure."""
    kind = next((kind for kind, class_ in _ERRORS if isinstance(error, class_)), "failed")
    return {"error": kind, "message": str(error) or type(error).__name__}


def error_in(header: Mapping[str, Any]) -> ModelError:
    return dict(_ERRORS).get(str(header.get("error")), ModelFailed)(str(header.get("message", "")))


def speech_out(context: Sequence[Speech], known: set[str]) -> tuple[list[dict[str, Any]], bytes]:
    """The context as JSON, and the audio that the other side has not been sent yet. `known` are the keys
    whose audio it has; it is brought up to date, so that both sides forget alike."""
    told: list[dict[str, Any]] = []
    audio: list[bytes] = []
    keys: set[str] = set()
    for speech in context:
        if isinstance(speech, AgentSpeech):
            told.append({"said": speech.utterance, "text": speech.text, "heard_s": speech.heard_s})
            continue
        samples = _NO_AUDIO
        if speech.audio is not None:
            keys.add(speech.key)
            samples = _KNOWN_AUDIO
            if speech.key not in known:
                samples = len(speech.audio)
                audio.append(body_of(speech.audio))
        told.append(
            {"heard": speech.key, "text": speech.text, "rate_hz": speech.sample_rate_hz, "samples": samples}
        )
    known.clear()
    known |= keys
    return told, b"".join(audio)


def speech_in(told: Any, samples: Samples, known: dict[str, Samples]) -> tuple[Speech, ...]:
    """The context again; `known` keeps the callers' audio from one request to the next. Raises
    `WireError`."""
    context: list[Speech] = []
    keys: set[str] = set()
    at = 0
    try:
        for one in told:
            if "said" in one:
                context.append(AgentSpeech(one["said"], one["text"], one["heard_s"]))
                continue
            key, length = str(one["heard"]), int(one["samples"])
            audio: Samples | None = None
            if length == _KNOWN_AUDIO:
                audio = known[key]
            elif length >= 0:
                if at + length > len(samples):
                    raise WireError("a context whose audio is missing")
                audio = known[key] = samples[at : at + length]
                at += length
            if audio is not None:
                keys.add(key)
            context.append(CallerSpeech(key, str(one["text"]), audio, int(one["rate_hz"])))
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"a context that is none: {error!r}") from error
    for key in known.keys() - keys:
        del known[key]
    return tuple(context)
