"""What the caller hears as the call goes on: enough to know when the agent speaks, and when it has
finished."""

import numpy as np

from pipeline.audible import VOICED_AMPLITUDE, VOICED_WINDOWS, WINDOW_SAMPLES
from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm
from telephony import g711
from telephony.simulator.measure import UTTERANCE_PAUSE_S
from telephony.simulator.network import DownwardLeg, NetworkModel
from telephony.simulator.twilio_side import Playback

_SQUARES = g711.decode(bytes(range(256))).astype(np.float64) ** 2
_THRESHOLD = VOICED_AMPLITUDE**2 * WINDOW_SAMPLES
_SILENT_FRAME = bytes((g711.SILENCE,)) * AUDIO_FRAME_SAMPLES
_WINDOW_S = WINDOW_SAMPLES / LINE_RATE_HZ


class Ear:
    """The agent at the caller's ear, one AudioFrame at a time, by the measure of `simulator.measure`."""

    def __init__(self, playback: Playback, network: NetworkModel) -> None:
        self._playback = playback
        self._leg = DownwardLeg(network)
        self._delay_samples = round(network.ear_delay_s * LINE_RATE_HZ)
        self._frames = 0
        self._loud_windows = 0
        self._last_loud_s = -1.0
        self._stale = False
        self.audible_since_s: float | None = None
        """When the agent first became audible after `forget`."""
        self.last_audible_s: float | None = None
        """When it was last heard since then."""

    def forget(self, now_s: float) -> None:
        """The caller has just spoken: only an utterance that the agent begins after `now_s` counts. One
        that is still sounding is what the agent had to say before."""
        self._stale = now_s - self._last_loud_s < UTTERANCE_PAUSE_S
        self.audible_since_s = None
        self.last_audible_s = None

    def listen(self, now_s: float) -> None:
        """Hear everything up to `now_s`, in whole AudioFrames."""
        while (self._frames + 1) * AUDIO_FRAME_SAMPLES <= round(now_s * LINE_RATE_HZ):
            self._hear(self._audio_frame(self._frames), self._frames * AUDIO_FRAME_SAMPLES / LINE_RATE_HZ)
            self._frames += 1

    def recording(self, samples: int) -> Pcm:
        """The first `samples` samples that reached the ear, (samples,) int16."""
        return g711.decode(self.heard(0, samples))

    def heard(self, start: int, stop: int) -> bytes:
        """Samples [start, stop) of the ear's time axis as mu-law bytes; silence before the call."""
        first, last = start // AUDIO_FRAME_SAMPLES, -(-stop // AUDIO_FRAME_SAMPLES)
        mulaw = b"".join(self._audio_frame(n) if n >= 0 else _SILENT_FRAME for n in range(first, last))
        offset = start - first * AUDIO_FRAME_SAMPLES
        return mulaw[offset : offset + stop - start]

    def _audio_frame(self, number: int) -> bytes:
        if self._leg.lost(number):
            return _SILENT_FRAME
        start = number * AUDIO_FRAME_SAMPLES - self._delay_samples
        return self._playback.window(start, start + AUDIO_FRAME_SAMPLES)

    def _hear(self, mulaw: bytes, start_s: float) -> None:
        if mulaw == _SILENT_FRAME:
            self._loud_windows = 0
            return
        energy = _SQUARES[np.frombuffer(mulaw, np.uint8)].reshape(-1, WINDOW_SAMPLES).sum(axis=1)
        for number, loud in enumerate((energy > _THRESHOLD).tolist(), 1):
            self._loud_windows = self._loud_windows + 1 if loud else 0
            end_s = start_s + number * _WINDOW_S
            if self._loud_windows < VOICED_WINDOWS:
                continue
            began_s = end_s - VOICED_WINDOWS * _WINDOW_S
            if began_s - self._last_loud_s >= UTTERANCE_PAUSE_S:
                self._stale = False
            self._last_loud_s = end_s
            if not self._stale:
                self.last_audible_s = end_s
                if self.audible_since_s is None:
                    self.audible_since_s = began_s
