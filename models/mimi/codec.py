"""What the voice asks of a codec: Mimi, 24 kHz, 12.5 CodecFrames a second, 32 codebooks of 2048."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class StreamingDecoder(Protocol):
    """Codes to samples for several slots, 80 ms at a time; each slot's state is its own."""

    slots: int

    def step(self, codes: "Tensor", slots: "Tensor") -> "Tensor":
        """Advance some slots by one CodecFrame; the others pause. `codes` (b, 32) int64 in [0, 2048), `slots`
        (b,) int64 without repeats, both on the codec's device. Returns (b, 1920) float32 at 24 kHz. No
        look-ahead: these samples are final. Never synchronises with the device, so it may be captured."""
        ...

    def reset(self, slot: int) -> None:
        """Forget one slot's past."""
        ...


class StreamingEncoder(Protocol):
    """Samples to codes for several slots."""

    slots: int

    def step(self, audio: "Tensor", slots: "Tensor") -> "Tensor":
        """`audio` (b, k * 1920) float32 at 24 kHz, k >= 1; returns (b, k, 32) int64."""
        ...

    def reset(self, slot: int) -> None: ...


class Codec(Protocol):
    """Weights on one device."""

    def decoder(self, slots: int) -> StreamingDecoder: ...

    def encoder(self, slots: int) -> StreamingEncoder: ...

    def decode(self, codes: "Tensor") -> "Tensor":
        """Whole: (b, n, 32) int64 -> (b, n * 1920) float32."""
        ...

    def encode(self, audio: "Tensor") -> "Tensor":
        """Whole: (b, n_samples) float32, padded with zeros to full CodecFrames -> (b, n, 32) int64."""
        ...
