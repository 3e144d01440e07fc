"""How much of what the caller's line brings is our own voice coming back. No clock, no I/O.

A speaker-phone returns the agent's sound 20-900 ms late, 20-45 dB down and with a room's reverberation. The
room is why no single delay explains an echo, and why segments of a few hundred milliseconds are compared
by coherence: in windows longer than the reverberation, each frequency of the echo follows the same frequency
of what was played (Carter, Knapp and Nuttall 1973, IEEE Trans. Audio 21:337). Two voices are not coherent, so
somebody who speaks over the echo gives a share as low as the echo's part of the energy.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.line import LINE_RATE_HZ, Pcm

SHORTEST_DELAY_SAMPLES = LINE_RATE_HZ * 20 // 1000
LONGEST_DELAY_SAMPLES = LINE_RATE_HZ * 900 // 1000
MEMORY_SAMPLES = LINE_RATE_HZ * 2
SHORTEST_SAMPLES = LINE_RATE_HZ * 100 // 1000
LONGEST_SAMPLES = LINE_RATE_HZ * 400 // 1000

LOCK_SHARE = 0.5
"""What a delay must explain to be believed, and to be kept."""
SAME_DELAY_SAMPLES = LINE_RATE_HZ * 5 // 1000
SEARCH_EVERY_SAMPLES = LINE_RATE_HZ * 250 // 1000
"""While the delay in hand explains nothing: somebody speaks, or the echo has moved."""
_WINDOW = 512
_HOP = 128
_SPREAD = LINE_RATE_HZ * 5 // 1000
"""Over which an echo's correlation is summed to find its delay: early reflections come with it."""
_EARLIER = LINE_RATE_HZ * 4 // 1000
"""The reference begins so much before the delay that was found, which is the strongest path's, not the
first one's."""
_CANDIDATES = 3
_MOST_PIECES = 100
_SILENCE = (32_768 * 10 ** (-75 / 20)) ** 2
"""Power; mu-law's smallest step lies above it."""
_LOWEST_BIN, _HIGHEST_BIN = 250 * _WINDOW // LINE_RATE_HZ, 3500 * _WINDOW // LINE_RATE_HZ

Wave = NDArray[np.float64]
Spectra = NDArray[np.complex128]


class EchoMeter:
    """One call's. `played` everything that leaves for the caller, then ask for the `share` of a segment.

    Positions are samples of the caller's audio at 8 kHz; what was played is placed where it left at the same
    moment. A delay found once is kept for as long as it explains what comes.
    """

    def __init__(self) -> None:
        self._memory = np.zeros(MEMORY_SAMPLES)
        self._start = 0
        self._pieces: list[tuple[int, Pcm]] = []
        """Played, and not laid into the memory yet: most are never asked about."""
        self._found: list[tuple[int, int]] = []
        """Where segments were explained that no confirmed delay explained, and their delay."""
        self._searched_at = -MEMORY_SAMPLES
        self.delay_samples: int | None = None
        """Of the echo that was confirmed last."""

    def played(self, pcm: Pcm, start_sample: int) -> None:
        """(n,) int16 at 8 kHz left for the caller at `start_sample`, in order; gaps are silence, and
        what is played again at a place (after a `clear`) replaces what stood there."""
        self._pieces.append((start_sample, pcm))
        if len(self._pieces) >= _MOST_PIECES:
            self._lay_down()

    def _lay_down(self) -> None:
        if not self._pieces:
            return
        last, pcm = self._pieces[-1]
        start = last + len(pcm) - MEMORY_SAMPLES
        memory = self._between(start, start + MEMORY_SAMPLES)
        end = MEMORY_SAMPLES
        for at, piece in self._pieces:
            place = max(0, at - start)
            # Behind what is played nothing is to be played; behind `end` nothing is.
            memory[place:end] = 0
            piece = piece[max(0, start - at) :]
            end = min(MEMORY_SAMPLES, place + len(piece))
            memory[place:end] = piece[: end - place]
        self._memory, self._start = memory, start
        self._pieces.clear()

    def share(self, pcm: Pcm, start_sample: int) -> float:
        """Which part, 0 to 1, of the energy of (n,) int16 from `start_sample` on our own sound explains;
        100-400 ms, of longer ones the last 400. 0 where nothing was played, where nothing is heard, and of
        less than 100 ms; and 0 until two segments that do not overlap had the same delay. 1.5 ms of CPU, 0.3
        once the delay is known."""
        if len(pcm) > LONGEST_SAMPLES:
            start_sample += len(pcm) - LONGEST_SAMPLES
            pcm = pcm[-LONGEST_SAMPLES:]
        if self.delay_samples is None and self._wary(start_sample):
            return 0.0
        self._lay_down()
        heard = pcm.astype(np.float64)
        if len(heard) < SHORTEST_SAMPLES or np.mean(heard**2) < _SILENCE:
            return 0.0
        reference = self._between(start_sample - LONGEST_DELAY_SAMPLES - _EARLIER, start_sample + len(heard))
        if not reference.any():
            return 0.0
        theirs = _spectra(heard)
        if self.delay_samples is not None:
            known = self._explained(theirs, len(heard), reference, self.delay_samples)
            if known >= LOCK_SHARE or self._wary(start_sample):
                return known
        self._searched_at = start_sample
        delays = self._delays(heard, reference)
        best, delay = max((self._explained(theirs, len(heard), reference, each), each) for each in delays)
        if best < LOCK_SHARE:
            return 0.0
        return best if self._confirmed(delay, start_sample, len(heard)) else 0.0

    def _wary(self, start_sample: int) -> bool:
        """A search lately found nothing better."""
        return 0 <= start_sample - self._searched_at < SEARCH_EVERY_SAMPLES

    def _confirmed(self, delay: int, start_sample: int, samples: int) -> bool:
        """Whether earlier segments, of other sound, had the same delay. Any two voices resemble each other
        at some delay for a moment; at the same one a second time they do not."""
        self._found = [each for each in self._found if start_sample - each[0] < MEMORY_SAMPLES]
        before = [at for at, found in self._found if abs(found - delay) <= SAME_DELAY_SAMPLES]
        self._found.append((start_sample, delay))
        if any(abs(start_sample - at) >= samples for at in before):
            self.delay_samples = delay
            return True
        return False

    def _between(self, start: int, end: int) -> Wave:
        """What was played from `start` to `end`, silence where nothing was."""
        found = np.zeros(end - start)
        first, last = max(start, self._start), min(end, self._start + len(self._memory))
        if first < last:
            found[first - start : last - start] = self._memory[first - self._start : last - self._start]
        return found

    @staticmethod
    def _delays(heard: Wave, reference: Wave) -> list[int]:
        """The likeliest delays: where the whitened cross-correlation gathers most energy."""
        size = 1 << (len(reference) + len(heard) - 1).bit_length()
        cross = np.fft.rfft(reference, size) * np.conj(np.fft.rfft(heard, size))
        # Half whitened: speech's own pitch would else give a comb of delays, and noise would rule if whole.
        cross /= np.sqrt(np.abs(cross)) + 1e-9
        earliest = LONGEST_DELAY_SAMPLES + _EARLIER
        by_place = np.fft.irfft(cross, size)[: earliest - SHORTEST_DELAY_SAMPLES + 1]
        energy = np.convolve(by_place**2, np.ones(_SPREAD), "same")
        delays = []
        for _ in range(_CANDIDATES):
            place = int(energy.argmax())
            delays.append(earliest - place)
            energy[max(0, place - _SPREAD) : place + _SPREAD] = 0
        return delays

    @staticmethod
    def _explained(theirs: Spectra, samples: int, reference: Wave, delay: int) -> float:
        """Share of the energy of what was heard that is coherent with what was played `delay` before."""
        first = LONGEST_DELAY_SAMPLES - delay
        played = reference[first : first + samples]
        ours = _spectra(played)
        cross = np.abs((theirs * np.conj(ours)).sum(axis=0)) ** 2
        power = (np.abs(ours) ** 2).sum(axis=0)
        total = (np.abs(theirs) ** 2).sum(axis=0)
        own = np.minimum(cross / np.maximum(power, 1e-9), total)
        coherent = float(own.sum() / max(total.sum(), 1e-9))
        # What any two sounds have in common over so few windows; Hann windows overlap by three quarters.
        chance = min(0.9, 1.0 / max(1.0, len(ours) / 2))
        return float(np.clip((coherent - chance) / (1 - chance), 0.0, 1.0))


def _spectra(samples: Wave) -> Spectra:
    """(windows, bins) of the telephone band."""
    padded = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    return np.fft.rfft(windows * np.hanning(_WINDOW))[:, _LOWEST_BIN:_HIGHEST_BIN]
