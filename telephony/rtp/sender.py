"""What the caller hears: samples, marks and keys queued, one packet each 20 ms. No clock of its own, no I/O.

Silence is sent too, packet by packet, where nothing is queued. G.711 has no way to say that silence is left
out (RFC 3551 section 4.5.14 calls it the application's affair), and what stops sending is taken for dead: NAT
bindings close, trunks and PBXs hang up after their RTP time-out, jitter buffers adapt anew at every word. As
the stream never stops, no packet begins a talkspurt (RFC 3551 section 4.1) but the first one, and those after
a hold or a key.

Sequence numbers and timestamps go on through all of it: what is not sent during a hold, or while the process
stood still, is a jump of the timestamp.
"""

import struct
from collections import deque
from typing import Final

import numpy as np

from pipeline.key_tones import key_tones
from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, MarkReached, Pcm
from telephony import g711
from telephony.rtp.dtmf import DIGITS, EventPacket, KeySender

_HEADER: Final = struct.Struct("!BBHII")
_VERSION: Final = 2 << 6
_MARKER: Final = 0x80
_PCM_BYTES: Final = 2 * AUDIO_FRAME_SAMPLES
_CONTINUATION_S: Final = 0.02
"""What is queued so soon after a `clear` goes on where it cut; anything later is something new."""


class Sender:
    """Queue with `send_audio`, `send_mark`, `press`; `next_datagram(now)` at every tick of the clock.

    `clear` cuts where a buffer would stand that began to play when it was first filled and has played in real
    time since, which is what `pipeline.playout` reckons with: what should have been played by now still goes,
    and what went a few milliseconds early is left out of what follows at once. So a voice that is turned down
    in the middle of a word neither loses nor repeats a sample, though packets leave only every 20 ms.
    """

    def __init__(self, ssrc: int, sequence: int, timestamp: int) -> None:
        self.ssrc = ssrc
        self.packets = 0
        self.octets = 0
        """Sent so far, for sender reports."""
        self._sequence = sequence
        self._timestamp = timestamp
        self._sending = False
        self._marker = True
        self._pcm = bytearray()
        self._sent = 0
        """Samples taken from the queue so far; the queue's end is at `_queued`."""
        self._queued = 0
        self._marks: deque[tuple[int, str]] = deque()
        self._keys: deque[tuple[int, str]] = deque()
        self._key_sender = KeySender()
        self._edge_s = 0.0
        self._skip = 0
        self._skip_until_s = 0.0
        self.configure(g711.PCMU, g711.PCMU.payload_type, None, sending=False)

    def configure(
        self, codec: g711.Codec, payload_type: int, key_payload_type: int | None, *, sending: bool
    ) -> None:
        """What the offer and its answer agreed on; may change at any time. While not `sending` the queue runs
        on unheard."""
        self._codec = codec
        self._payload_type = payload_type
        self._key_payload_type = key_payload_type
        self._silence = bytes((codec.silence,)) * AUDIO_FRAME_SAMPLES
        if sending and not self._sending:
            self._marker = True
        self._sending = sending

    @property
    def timestamp(self) -> int:
        """Of the next packet."""
        return self._timestamp

    @property
    def keys_pending(self) -> bool:
        """A key that was pressed is not wholly on its way."""
        return bool(self._keys) or self._key_sender.pressing

    # The queue

    def send_audio(self, pcm: Pcm, now: float) -> None:
        """(n,) int16 at 8 kHz, behind what is queued."""
        self._edge_s = max(self._edge_s, now) + pcm.size / LINE_RATE_HZ
        if self._skip:
            skip = min(self._skip, pcm.size) if now < self._skip_until_s else 0
            self._skip = self._skip - skip if skip else 0
            pcm = pcm[skip:]
        self._pcm += pcm.astype(np.int16, copy=False).tobytes()
        self._queued += pcm.size

    def send_mark(self, name: str) -> None:
        self._marks.append((self._queued, name))

    def press(self, digits: str, now: float) -> None:
        """Press keys behind the audio that is queued: as events where the peer takes them, else as tones.
        Raises `ValueError` for what is no key, and then presses none."""
        digits = digits.upper()
        if self._key_payload_type is None:
            self.send_audio(key_tones(digits), now)
            return
        if strange := set(digits) - set(DIGITS):
            raise ValueError(f"{min(strange)!r} is no key: {DIGITS}")
        self._keys.extend((self._queued, digit) for digit in digits)

    def clear(self, now: float) -> list[MarkReached]:
        """Discard what is not due yet; marks that stood in it come back unheard. Keys stay."""
        ahead = max(0, round((self._edge_s - now) * LINE_RATE_HZ))
        held = len(self._pcm) // 2
        kept = max(0, held - ahead)
        self._skip = min(AUDIO_FRAME_SAMPLES, max(0, ahead - held))
        self._skip_until_s = now + _CONTINUATION_S
        # Not `now`: the end of what is due stays on the grid of samples, as the playout's own does.
        self._edge_s -= ahead / LINE_RATE_HZ
        del self._pcm[2 * kept :]
        self._queued = self._sent + kept
        self._keys = deque((min(at, self._queued), digit) for at, digit in self._keys)
        cleared = [MarkReached(name, heard=False) for at, name in self._marks if at > self._queued]
        self._marks = deque(mark for mark in self._marks if mark[0] <= self._queued)
        return cleared

    # The clock

    def marks_reached(self) -> list[MarkReached]:
        """Marks whose samples have all sounded: those that stood in packets of earlier ticks. Ask before
        `next_datagram`."""
        reached: list[MarkReached] = []
        while self._marks and self._marks[0][0] <= self._sent:
            reached.append(MarkReached(self._marks.popleft()[1], heard=self._sending))
        return reached

    def next_datagram(self) -> bytes | None:
        """20 ms of the call; None while not sending."""
        event = self._next_event()
        payload = None if event is not None else self._next_payload()
        timestamp = self._timestamp
        self._timestamp = (timestamp + AUDIO_FRAME_SAMPLES) & 0xFFFFFFFF
        if not self._sending:
            return None
        if payload is not None:
            second = self._payload_type
        else:
            assert event is not None and self._key_payload_type is not None  # noqa: S101
            payload, second = event.payload, self._key_payload_type
            timestamp = (timestamp - event.back_samples) & 0xFFFFFFFF
            self._marker = event.first
        if self._marker:
            second |= _MARKER
        # Audio behind an event begins anew.
        self._marker = event is not None
        sequence = self._sequence
        self._sequence = (sequence + 1) & 0xFFFF
        self.packets += 1
        self.octets += len(payload)
        return _HEADER.pack(_VERSION, second, sequence, timestamp, self.ssrc) + payload

    def skip(self, ticks: int) -> None:
        """So many ticks passed without a packet."""
        self._timestamp = (self._timestamp + ticks * AUDIO_FRAME_SAMPLES) & 0xFFFFFFFF
        self._marker = True

    def _next_event(self) -> EventPacket | None:
        if self._keys and self._keys[0][0] <= self._sent and not self._key_sender.busy:
            self._key_sender.press(self._keys.popleft()[1])
        if not self._key_sender.busy:
            return None
        if self._key_payload_type is None:
            # A re-offer took the events away in the middle of one.
            self._key_sender = KeySender()
            return None
        return self._key_sender.next_packet()

    def _next_payload(self) -> bytes:
        if not self._pcm or self._key_sender.busy:
            return self._silence
        take = min(AUDIO_FRAME_SAMPLES, len(self._pcm) // 2)
        if self._keys:
            take = min(take, self._keys[0][0] - self._sent)
        pcm = self._pcm[: 2 * take]
        del self._pcm[: 2 * take]
        self._sent += take
        if take < AUDIO_FRAME_SAMPLES:
            pcm += bytes(_PCM_BYTES - len(pcm))
        return self._codec.encode(np.frombuffer(pcm, np.int16))
